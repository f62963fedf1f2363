"""What `--data` means, which photos a folder or zip has, how they are split, and the views drawn of them."""

import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from foresight.data.folders import MOST
from foresight.data.images import load_image
from foresight.data.sources import (
    VIEWS,
    DataSpec,
    PhotoPart,
    ScenePart,
    center_view,
    folder_files,
    in_threads,
    near_identical,
    open_photos,
    parse_data,
    photo_views,
    random_view,
)
from foresight.errors import InputError


def photo(number, size=(300, 260)):
    """A blurred pattern that no other number has."""
    noise = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty different photos."""
    place = tmp_path_factory.mktemp("photos")
    for k in range(30):
        photo(k).save(place / f"{k:02}.jpg", quality=95)
    return place


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("scenes:2000", DataSpec(ScenePart(2000), ())),
        ("photos:A", DataSpec(None, (PhotoPart(("A",)),))),
        ("A,b.zip", DataSpec(None, (PhotoPart(("A", "b.zip")),))),
        ("scenes:20000+photos:A,B*0.5", DataSpec(ScenePart(20000), (PhotoPart(("A", "B"), 0.5),))),
        ("clips:A,B+pans:C", DataSpec(None, (PhotoPart(("A", "B"), 1.0, "clips"), PhotoPart(("C",), 1.0, "pans")))),
        ("A*3 + photos:B", DataSpec(None, (PhotoPart(("A",), 3.0), PhotoPart(("B",))))),
    ],
)
def test_what_data_means(text, spec):
    assert parse_data(text) == spec and parse_data(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no data somewhere"),
        ("scenes:10+", "names no data somewhere"),
        ("photos:", "names no data somewhere"),
        ("A,,B", "names no data somewhere"),
        ("scenes:none", "'scenes:none' is no number of scenes up to 10,000,000: write scenes:N"),
        ("scenes:0", "is no number of scenes"),
        ("scenes:-5", "is no number of scenes"),
        ("scenes:1+scenes:2", "names scenes more than once"),
        ("photos:A*x", "the weight 'x' in 'photos:A[*]x' must be a number above 0"),
        ("photos:A*0", "must be a number above 0"),
        ("photos:A*-1", "must be a number above 0"),
        ("photos:A*inf", "must be a number above 0"),
        ("photos:A*nan", "must be a number above 0"),
    ],
)
def test_what_means_nothing_is_one_sentence(text, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_data(text)


def test_a_path_is_taken_as_it_stands(tmp_path):
    odd = tmp_path / "a+b*c,d"
    odd.mkdir()
    assert parse_data(str(odd)) == DataSpec(None, (PhotoPart((str(odd),)),))


def test_rows_follow_weights():
    assert parse_data("scenes:2000+A*0.5+B").photo_rows([7, 9]) == [1000, 2000]
    assert parse_data("scenes:2000*4+A").photo_rows([7]) == [500]
    assert parse_data("A").photo_rows([10]) == [10 * VIEWS]
    assert parse_data("A*3+B").photo_rows([10, 30]) == [30 * VIEWS, 10 * VIEWS]
    assert parse_data("scenes:2000").photo_rows([]) == []


def test_a_card_tells_no_path_of_this_machine():
    assert str(parse_data("scenes:8+/home/me/photos,/tmp/b.zip*2").public()) == "scenes:8+photos:photos,b.zip*2"


def test_broken_files_are_named_and_the_rest_is_used(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (folder / "00.jpg").read_bytes()
    broken = {"a.jpg": b"", "b.png": b"no picture", "c.jpg": whole[: len(whole) // 2], "d.webp": whole[:20]}
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "e.png").mkdir()
    (tmp_path / "notes.txt").write_text("no picture's name")
    pool = open_photos([str(tmp_path)])
    assert len(pool.photos) == 30 and [file.name for file in pool.broken] == [*broken, "e.png"]
    assert all(file.reason.endswith(".") for file in pool.broken)
    assert pool.broken[2].reason == "“c.jpg” is broken or cut short, and cannot be decoded."


def test_folders_and_zips_make_one_pool(folder, tmp_path):
    archive = tmp_path / "more.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for k in range(30, 33):
            photo(k).save(tmp_path / "x.png")
            file.write(tmp_path / "x.png", f"inside/{k}.png")
        file.writestr("inside/bad.png", b"no picture")
    pool = open_photos([str(folder), str(archive)])
    assert [p.name for p in pool.photos[-3:]] == ["inside/30.png", "inside/31.png", "inside/32.png"]
    assert [(b.name, b.reason[:15]) for b in pool.broken] == [("inside/bad.png", "“inside/bad.png")]
    assert len(list(photo_views(pool.photos, range(30, 33), 32, 0))) == 3
    assert pool.digest != open_photos([str(folder)]).digest == open_photos([str(folder)]).digest


@pytest.mark.parametrize("path", ["nowhere", "empty", "none.zip", __file__])
def test_paths_without_photos(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    with pytest.raises(
        InputError, match="there is no folder or zip|has no pictures|holds no pictures|is no zip archive"
    ):
        open_photos([path])


def test_a_folder_of_a_million_names_is_refused_at_once(tmp_path, monkeypatch):
    entries = (SimpleNamespace(name=f"{k}.jpg") for k in range(10**9))
    monkeypatch.setattr("foresight.data.folders.os.scandir", lambda root: nullcontext(entries))
    with pytest.raises(InputError, match=f"over {MOST:,} pictures"):
        folder_files(tmp_path)


def test_splits_share_no_photo_and_near_identical_ones_stay_together(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for k in range(30):
        photo(k).resize((150, 130)).filter(ImageFilter.SHARPEN).save(tmp_path / f"{k:02}-again.jpg", quality=60)
    parts = open_photos([str(tmp_path)]).split(3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 48, "val": 6, "test": 3}  # one of each two
    numbers = {name: {photo.name[:2] for photo in part} for name, part in parts.items()}
    assert sum(map(len, numbers.values())) == len(set().union(*numbers.values())) == 30
    assert open_photos([str(tmp_path)]).split(3) == parts
    more = open_photos([str(tmp_path)]).split(100)
    assert len(more["test"]) == 7 and {p.name for p in parts["test"]} < {p.name for p in more["test"]}


def test_too_few_photos_to_hold_any_out(folder):
    pool = open_photos([str(folder)])
    few = type(pool)(pool.photos[:9], (), ())
    with pytest.raises(InputError, match="9 different pictures are too few to train on: at least 10"):
        few.split(3)


def test_thumbnails_chain_together():
    flat = [bytes([level] * 192) for level in (0, 5, 10, 100, 104)]
    labels = near_identical(flat)
    assert len({*labels[:3]}) == 1 and labels[3] == labels[4] != labels[0]
    assert near_identical([]) == []


def test_views_are_drawn_by_seed_epoch_and_row():
    image = photo(0)
    first = np.asarray(random_view(image, 224, 1, 2, 3))
    assert np.array_equal(first, np.asarray(random_view(image, 224, 1, 2, 3)))
    for other in ((9, 2, 3), (1, 9, 3), (1, 2, 9)):
        assert not np.array_equal(first, np.asarray(random_view(image, 224, *other)))
    flipped = [np.asarray(random_view(Image.linear_gradient("L").rotate(90), 64, 0, e, 0)) for e in range(40)]
    assert 5 < sum(int(view[0, 0]) > int(view[0, -1]) for view in flipped) < 35


def test_a_row_is_the_same_whatever_is_read_before_it(folder):
    photos = open_photos([str(folder)]).photos
    views = list(photo_views(photos, range(70), 32, 5))
    assert np.array_equal(next(photo_views(photos, [64], 32, 5)), views[64])
    assert np.array_equal(views[64], np.asarray(random_view(load_image(photos[4].path, 64), 32, 5, 2, 4)))
    assert not np.array_equal(views[4], views[64])


@pytest.mark.parametrize("size", [(20, 3000), (3000, 20), (8, 8), (224, 224), (640, 480), (447, 449)])
def test_views_of_any_shape_are_squares_within_the_image(size):
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    image = Image.fromarray(np.stack([across, down, 0 * across], -1).round().astype(np.uint8))
    for view in (center_view(image, 56), *(random_view(image, 56, 0, epoch, 0) for epoch in range(9))):
        assert view.size == (56, 56)
        spans = np.ptp(np.asarray(view)[28, :, 0].astype(int)), np.ptp(np.asarray(view)[:, 28, 1].astype(int))
        pixels = [span / 255 * length for span, length in zip(spans, size, strict=True)]
        assert all(0.4 * min(size) - 3 < p < 1.1 * min(size) + 3 for p in pixels), pixels


def test_threads_keep_the_order_and_hand_on_errors():
    assert list(in_threads(lambda k: k * k, range(50), threads=3)) == [k * k for k in range(50)]
    results = in_threads(lambda k: 1 // k, [1, 1, 0, 1], threads=2)
    assert next(results) == next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
