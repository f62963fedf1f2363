"""SECURITY.md is true: the tests that it names are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_each_attempt_names_the_tests_that_show_what_stops_it():
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    _, *tables = (ROOT / "SECURITY.md").read_text().split("| attempt | what stops it | test |\n|---|---|---|\n")
    rows = [line for table in tables for line in table.split("\n\n")[0].splitlines()]
    assert len(rows) > 15
    for row in rows:
        shown = row.removesuffix(" |").split(" | ")[-1]
        names = [re.sub(r"\[.*", "", name) for name in re.findall(r"`([^`]+)`", shown)]
        assert names or shown == "the same", row
        for name in names:
            assert (ROOT / name).is_file() if "/" in name else f"def {name}(" in tests, name
