"""The rules of the house: pyproject's import contracts are kept, and each of them can break."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def copied_tree(tmp_path_factory):
    """The sources in a folder of their own, where a test may break them."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("foresight", "training"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_every_import_keeps_the_contracts():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("foresight/models/points.py", "import foresight.inspection.inspector"),
        ("foresight/data/scenes.py", "def f():\n    from foresight.models.vlm import VLM"),
        ("foresight/ui/inspect/tab.py", "import foresight.ui.train.form"),
        ("foresight/inspection/inspector.py", "import training.loop"),
        ("foresight/maps/fit.py", "from gradio import Blocks"),
        ("training/loop.py", "import gradio"),
        ("training/loop.py", "import training.fit"),
        ("training/fit.py", "import foresight.ui.shell"),
    ],
)
def test_a_contract_breaks(copied_tree, file, line):
    path = copied_tree / file
    source = path.read_text()
    path.write_text(f"{source}\n\n{line}\n")
    try:
        result = lint_imports(copied_tree)
    finally:
        path.write_text(source)
    assert result.returncode == 1 and "BROKEN" in result.stdout, result.stdout


def test_the_app_starts_in_a_page_of_code():
    assert len((ROOT / "app.py").read_text().splitlines()) <= 80
