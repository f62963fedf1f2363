"""The rules of the house: pyproject's import contracts are kept, and each of them can break."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_every_import_keeps_the_contracts():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


BREACHES = (
    ("foresight/models/points.py", "import foresight.inspection.inspector"),
    ("foresight/data/scenes.py", "def f():\n    from foresight.models.vlm import VLM"),
    ("foresight/ui/inspect/tab.py", "import foresight.ui.train.form"),
    ("foresight/inspection/inspector.py", "import training.loop"),
    ("foresight/maps/fit.py", "from gradio import Blocks"),
    ("training/loop.py", "import gradio\nimport training.fit"),
    ("training/fit.py", "import foresight.ui.shell"),
)


def test_contracts_break(tmp_path):
    """In a copy of the sources with one line too many in each of several files."""
    for package in ("foresight", "training"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, lines in BREACHES:
        with (tmp_path / file).open("a") as source:
            source.write(f"\n\n{lines}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    for file, lines in BREACHES:
        importer = file.removesuffix(".py").replace("/", ".")
        for line in lines.splitlines():
            if imported := re.match(r" *(?:import|from) ([\w.]+)", line):
                assert f"{importer} -> {imported[1]} (" in result.stdout, result.stdout


def test_the_app_starts_in_a_page_of_code():
    assert len((ROOT / "app.py").read_text().splitlines()) <= 80
