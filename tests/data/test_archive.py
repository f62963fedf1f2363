"""Archives that mean harm, and archives that are merely untidy."""

import io
import random
import stat
import struct
import zipfile

import pytest
from PIL import Image

from foresight.data import archive
from foresight.data.archive import Broken, File, unpack
from foresight.errors import InputError


def picture(size=(56, 56), kind="PNG"):
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(file, kind)
    return file.getvalue()


def packed(path, entries, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def reasons(items):
    return {item.name: item.reason for item in items if isinstance(item, Broken)}


def test_pictures_come_out_under_our_names_and_the_rest_is_reported(tmp_path):
    good = picture()
    entries = [
        ("a.png", good),
        ("deep/er/b.PNG", good),
        ("deep/", b""),
        ("../../evil.png", good),
        ("/etc/evil.png", good),
        ("C:\\evil.png", good),
        ("notes.txt", b"no picture"),
        ("inner.zip", b"PK"),
        ("__MACOSX/._a.png", b"fork"),
        (".hidden.png", good),
    ]
    out = tmp_path / "out"
    out.mkdir()
    items = list(unpack(packed(tmp_path / "mixed.zip", entries), out))
    files = [item for item in items if isinstance(item, File)]
    assert [f.name for f in files] == ["a.png", "deep/er/b.PNG", "../../evil.png", "/etc/evil.png", "C:\\evil.png"]
    assert {f.path.parent for f in files} == {out} and len({f.path for f in files}) == 5
    assert all(f.path.read_bytes() == good and f.path.suffix == ".png" for f in files)
    assert (
        set(reasons(items)) == {"notes.txt", "inner.zip"} and "not named like a picture" in reasons(items)["notes.txt"]
    )
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["mixed.zip", "out", *(f.path.name for f in files)])


def test_an_entry_without_a_name_is_left_out(tmp_path):
    path = packed(tmp_path / "nameless.zip", [("b.png", picture()), ("a.png", picture())])
    path.write_bytes(path.read_bytes().replace(b"b.png", b"\0.png"))  # a name ends at its first 0
    items = list(unpack(path, tmp_path))
    assert [type(item) for item in items] == [Broken, File] and "not named like a picture" in reasons(items)[""]


def test_links_encrypted_and_oddly_packed_files_are_left_out(tmp_path):
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret.png", picture())
        archive.writestr("lzma.png", picture(), zipfile.ZIP_LZMA)
        archive.writestr("good.png", picture())
    data = bytearray(path.read_bytes())
    place = data.index(b"secret.png", data.index(b"PK\x01\x02")) - 46  # its entry in the directory
    data[place + 8] |= 1
    path.write_bytes(data)
    items = list(unpack(path, tmp_path))
    assert reasons(items) == {
        "link.png": "it is a link.",
        "secret.png": "it is encrypted.",
        "lzma.png": "it is packed in a way other than deflate.",
    }
    assert [item.name for item in items if isinstance(item, File)] == ["good.png"]


def test_a_damaged_file_inside_costs_only_itself(tmp_path):
    path = packed(tmp_path / "a.zip", [("bad.png", picture()), ("good.png", picture())], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[200] ^= 255  # within the first picture: its checksum no longer holds
    path.write_bytes(data)
    items = list(unpack(path, tmp_path))
    assert reasons(items) == {"bad.png": "it is damaged inside the archive."}
    assert [item.name for item in items if isinstance(item, File)] == ["good.png"]


def test_a_bomb_is_not_unpacked(tmp_path):
    path = packed(tmp_path / "bomb.zip", [("bomb.bmp", bytes(50 * 2**20)), ("good.png", picture())])
    assert path.stat().st_size < 2**20
    items = list(unpack(path, tmp_path))
    assert reasons(items) == {"bomb.bmp": "it would unpack to more than 200 times its size."}


def test_a_bomb_that_lies_about_its_size_inflates_no_further_than_it_says(tmp_path, monkeypatch):
    path = packed(tmp_path / "liar.zip", [("liar.bmp", bytes(300 * 2**20))])
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 1000)  # its size, unpacked
    path.write_bytes(data)
    import tracemalloc

    tracemalloc.start()
    items = list(unpack(path, tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reasons(items) == {"liar.bmp": "it is damaged inside the archive."}
    assert peak < 20 * 2**20


def test_limits_of_one_file_of_all_and_of_their_number(tmp_path, monkeypatch):
    one = picture()
    path = packed(tmp_path / "three.zip", [(f"{i}.png", one) for i in range(3)])
    monkeypatch.setattr(archive, "MAX_BYTES", len(one) * 2 + 1)
    items = list(unpack(path, tmp_path))
    assert [type(item) for item in items] == [File, File, Broken] and "together" in items[2].reason
    monkeypatch.setattr(archive, "MAX_FILE", len(one) - 1)
    assert all(isinstance(item, Broken) for item in unpack(path, tmp_path))
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(InputError, match="“three.zip” holds 3 files: at most 2 are allowed"):
        list(unpack(path, tmp_path))


def test_a_small_archive_fills_no_disk(tmp_path):
    """As each file may unpack to 200 times its size, 3 MB could be 500."""
    hollow = random.Random(0).randbytes(60_000) + bytes(10 * 2**20 - 60_000)
    path = packed(tmp_path / "hollow.zip", [(f"{i}.bmp", hollow) for i in range(8)])
    items = list(unpack(path, tmp_path))
    assert path.stat().st_size < 2**20
    assert [type(item) for item in items] == [File] * 6 + [Broken] * 2
    assert items[-1] == Broken("7.bmp", "the pictures together are over 64 MB.")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(100), b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_one_sentence(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="“a.zip” is no zip archive, or is broken"):
        list(unpack(tmp_path / "a.zip", tmp_path))
