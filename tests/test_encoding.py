"""Text is UTF-8, whatever the locale says."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "app.py", ROOT / "space.py"]
SOURCES += [path for name in ("foresight", "training", "benchmarks") for path in sorted((ROOT / name).rglob("*.py"))]
OTHERS = ("os", "av", "Image", "archive", "series", "opened")  # whose `open` is of something else


def by_locale(source: str) -> list[int]:
    """The lines on which text is read or written in the encoding of the locale."""
    lines = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name, place = (call.func.attr, 0) if isinstance(call.func, ast.Attribute) else (getattr(call.func, "id", ""), 1)
        owner = getattr(getattr(call.func, "value", None), "id", "")
        keywords = {keyword.arg for keyword in call.keywords}
        mode = "".join(str(getattr(one, "value", "")) for one in call.args[place : place + 1])
        text = (
            (name == "read_text" and not call.args)
            or (name == "write_text" and len(call.args) < 2)
            or (name in ("run", "Popen", "check_output") and "text" in keywords)
            or (name == "open" and owner not in OTHERS and "b" not in mode)
        )
        lines += [call.lineno] * (text and "encoding" not in keywords)
    return lines


def test_every_text_names_its_encoding():
    assert not {str(path): lines for path in SOURCES if (lines := by_locale(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize(
    "line", ["(a / b).read_text()", "p.write_text(t)", "open(p)", "p.open('a')", "subprocess.run(c, text=True)"]
)
def test_one_that_does_not_is_seen(line):
    assert by_locale(line) == [1]


@pytest.mark.parametrize("command", ["foresight reconstruct", "training fit"])
def test_help_is_printed_where_the_locale_has_ascii_alone(command):
    ascii_alone = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    ran = subprocess.run(
        [sys.executable, "-m", *command.split(), "--help"], cwd=ROOT, env=ascii_alone, capture_output=True
    )
    assert ran.returncode == 0 and rb"\xb2" in ran.stdout, ran.stderr
