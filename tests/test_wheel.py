"""`pip install .`: the wheel holds all that runs, and works from a folder that is none of this project's."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USE = """
import foresight, foresight_app, training
from PIL import Image

inspector = foresight.Inspector(foresight.load_vlm(device="cpu"), foresight.load_vae(device="cpu"))
report = inspector.inspect(Image.new("RGB", (56, 56), "red"), others=())
print(foresight.__file__, report.reconstructions[0].scores["lpips"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the wheel was unpacked into, as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_works_from_any_folder(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(installed)) and list(tmp_path.iterdir()) == []


def test_the_wheel_names_its_commands_and_requirements(installed):
    (folder,) = installed.glob("*.dist-info")
    commands = (folder / "entry_points.txt").read_text()
    assert "foresight = foresight.cli.main:main" in commands and "foresight-app = foresight_app:main" in commands
    required = (folder / "METADATA").read_text()
    for line in (ROOT / "requirements.txt").read_text().replace("_", "-").splitlines():
        assert f"Requires-Dist: {line.split('>')[0].split('=')[0]}" in required
