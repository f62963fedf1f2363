"""A little of `benchmarks.fuzz`: no door is opened by a spoilt file, and what it looks for it finds."""

import pytest

from benchmarks import fuzz


@pytest.mark.parametrize("door", fuzz.DOORS)
@pytest.mark.filterwarnings("ignore")
def test_each_spoilt_file_is_read_or_refused_in_one_sentence(door, tmp_path):
    assert fuzz.fuzz(door, 0, tmp_path, most=30) == (30, 0)


def test_anything_else_is_a_finding(tmp_path, monkeypatch, capsys):
    def door(path):
        if path.read_bytes() != b"good":
            raise KeyError("oops")

    monkeypatch.setitem(fuzz.DOORS, "other", (door, lambda: [b"good"], ".bin"))
    assert fuzz.fuzz("other", 0, tmp_path, most=5) == (5, 5)
    assert "KeyError: 'oops'" in capsys.readouterr().err and len([*tmp_path.glob("other-0-*.bin")]) == 5
