"""Where results go is told to be of no use before the work, not after."""

import subprocess
import sys

import pytest

from foresight.errors import InputError
from foresight.paths import check_output, replacing


def test_a_folder_that_is_there_or_can_be_made_serves(tmp_path):
    check_output(tmp_path)
    check_output(tmp_path / "a/b/c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fault"), [("file", "is a file"), ("file/below", "is a file"), ("x" * 300, "file name too long")]
)
def test_any_other_is_one_sentence(tmp_path, name, fault):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"nothing can be put into .*{fault}"):
        check_output(tmp_path / name)


@pytest.mark.parametrize("command", ["training fit --points post-merge/6", "foresight evaluate --scenes 2"])
def test_every_command_says_so_at_once(tmp_path, command):
    (tmp_path / "file").touch()
    words = [sys.executable, "-m", *command.split(), "--out", tmp_path / "file"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: nothing can be put into")
    assert done.stderr.count("\n") == 1


def test_what_a_killed_process_left_is_written_over(tmp_path):
    dies = "import os; from foresight.paths import replacing\nwith replacing(p) as q: q.write_text('half'); os._exit(9)"
    code = f"from pathlib import Path; p = Path({str(tmp_path / 'state')!r}); {dies}"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len([*tmp_path.iterdir()]) == 1
    with replacing(tmp_path / "state") as partial:
        partial.write_text("whole", encoding="utf-8")
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["whole"]
