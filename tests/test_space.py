"""The folder that is pushed to a Space: what the hub would refuse of it is found here."""

import pytest

import space
from foresight.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("space") / "built"
    files = space.build(out)
    assert out / "app.py" in files and not (out / "tests").exists()
    return out


def test_the_folder_is_right(folder):
    assert space.check(folder) == []
    with pytest.raises(InputError, match="is not empty"):
        space.build(folder)


FAULTS = {
    "a large file": (lambda f: (f / "assets/large.bin").write_bytes(bytes(space.LARGEST + 1)), "10.0 MB: at most 10"),
    "no app": (lambda f: (f / "app.py").unlink(), "app.py is missing"),
    "no front matter": (lambda f: (f / "README.md").write_text("# Foresight\n"), "front matter has no title"),
    "another SDK": (
        lambda f: replaced(f, "sdk_version: 6.", "sdk_version: 5."),
        "refuses sdk_version",
    ),
    "another Python": (lambda f: replaced(f, '"3.12"', '"3.14"'), "python_version is none of"),
    "a long description": (lambda f: replaced(f, "at each depth", "at each and every depth"), "over 60 long"),
    "a colour": (lambda f: replaced(f, "colorTo: gray", "colorTo: teal"), "a colour is none of the hub's"),
    "an address": (
        lambda f: (f / "requirements.txt").write_text("torch @ https://example.org/torch.whl\n"),
        "takes torch from an address",
    ),
}


def replaced(folder, old, new):
    readme = (folder / "README.md").read_text()
    assert old in readme
    (folder / "README.md").write_text(readme.replace(old, new, 1))


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_found(folder, tmp_path, case):
    spoil, sentence = FAULTS[case]
    for name in (*space.CONTENT, "assets"):
        (tmp_path / name).mkdir() if name == "assets" else (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert space.check(tmp_path) == []
    spoil(tmp_path)
    assert any(sentence in fault for fault in space.check(tmp_path)), space.check(tmp_path)


def test_the_image_has_what_the_app_needs_and_runs_as_a_space_s_user():
    lines = (space.ROOT / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    admitted = [line[1:] for line in (space.ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {*copied} == {*admitted} >= {"app.py", "requirements.txt", *space.FOLDERS} - {"docs"}
    assert all((space.ROOT / name).exists() for name in copied)
    assert any("--uid 1000" in line for line in lines) and "EXPOSE 7860" in lines
