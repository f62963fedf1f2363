"""Order, filters, factors, plane and files of a table whose every number is chosen."""

import csv
import io
import json
import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from foresight.data.archive import Broken
from foresight.errors import InputError
from foresight.inspection.evaluation import ImageScores
from foresight.inspection.tables import LEVELS, Filter, as_csv, as_json, by_factor, iou_plane, ordered, write_zip
from foresight.metrics.intervals import bootstrap
from foresight.metrics.matching import CELLS, ObjectScore
from foresight.metrics.patches import Patch, PhotoScores
from foresight.metrics.scores import SCORES


def thing(shape="star", color="red", size="small", position="top left", iou=0.5, lpips=0.1):
    return ObjectScore(shape, color, size, position, iou, lpips)


def line(image, lpips, iou=0.5, objects=(), background="white", plane=None, scene=True):
    scores = {"lpips": lpips, "haarpsi": 0.5, "ssim": 1 - lpips, "psnr": 20.0, "mask_iou": iou, "edge_f1": None}
    return ImageScores(
        name=image,
        scores={"adapter": scores, "oracle": dict(scores), "blank": dict(scores)},
        skill=dict.fromkeys(SCORES, None),
        mask_reason=None if iou is not None else "no object stands out",
        seconds=0.5,
        distance=1.0,
        far=2.0,
        source={"background": {"kind": background}} if scene else image,
        objects=tuple(objects),
        plane=torch.zeros(2, CELLS, CELLS) if plane is None else plane,
        size=(224, 224),
        notice=None,
    )


TABLE = [
    line("a", 0.1, 0.9, [thing("star", "red", "small", iou=0.2), thing("ring", "blue", "large", iou=0.8)]),
    line("b", 0.3, None, [thing("star", "blue", "large", iou=None)], "texture"),
    line("c", 0.2, 0.7, [thing("star", "red", "large", iou=0.6), thing("star", "pink", "small", iou=0.4)]),
    line("d.png", 0.4, 0.1, scene=False),
]


def names(lines):
    return [one.name for one in lines]


def test_the_worst_come_first_and_what_has_no_score_last():
    assert names(ordered(TABLE, "lpips")) == ["d.png", "b", "c", "a"]
    assert names(ordered(TABLE, "lpips", worst_first=False)) == ["a", "c", "b", "d.png"]
    assert names(ordered(TABLE, "mask_iou")) == ["d.png", "c", "a", "b"]
    assert names(ordered(TABLE, "mask_iou", worst_first=False)) == ["a", "c", "d.png", "b"]
    with pytest.raises(InputError, match="no score 'beauty'"):
        ordered(TABLE, "beauty")


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({}, ["a", "b", "c", "d.png"]),
        ({"shapes": ["ring"]}, ["a"]),
        ({"shapes": ["star"], "colors": ["blue"]}, ["b"]),  # in a, the star is red and the blue one a ring
        ({"shapes": ["star"], "sizes": ["small"], "colors": ["red", "pink"]}, ["a", "c"]),
        ({"objects": [2]}, ["a", "c"]),
        ({"backgrounds": ["texture"]}, ["b"]),
        ({"low": 0.2}, ["b", "c", "d.png"]),
        ({"high": 0.2}, ["a", "c"]),
        ({"score": "mask_iou", "low": 0.0}, ["a", "c", "d.png"]),
    ],
)
def test_filters(asked, kept):
    assert [one.name for one in TABLE if Filter(**asked).keeps(one)] == kept


def test_a_range_upside_down_is_one_sentence():
    with pytest.raises(InputError, match="not from 0.5 to 0.2"):
        Filter(low=0.5, high=0.2)


def test_scores_by_factor_are_means_over_pictures():
    [star, ring] = by_factor(TABLE, "shape", "object_iou")
    assert (star.name, star.pictures, ring.name, ring.pictures) == ("star", 2, "ring", 1)
    assert star.mean == pytest.approx((0.2 + (0.6 + 0.4) / 2) / 2)  # c's two stars are one picture
    assert (star.mean, star.low, star.high) == bootstrap([0.2, 0.5])
    assert (ring.mean, ring.low, ring.high) == (0.8, None, None)  # one picture makes no interval
    stars = by_factor(TABLE, "shape", "lpips")[0]
    assert stars.pictures == 3 and stars.mean == pytest.approx((0.1 + 0.3 + 0.2) / 3)  # each picture once
    assert [level.name for level in by_factor(TABLE, "color", "lpips")] == ["red", "blue", "pink"]
    assert [(level.name, level.pictures) for level in by_factor(TABLE, "objects", "lpips")] == [("1", 1), ("2", 2)]
    assert [level.name for level in by_factor(TABLE, "background", "ssim")] == ["white", "texture"]
    assert all(by_factor([TABLE[3]], factor, "lpips") == [] for factor in LEVELS)  # a photo has no factors


def test_photos_are_grouped_by_what_they_are_like():
    photo = PhotoScores({"detail": "busy", "brightness": "dark", "aspect": "wide"}, (Patch(0, 14, 14, 0.75),))
    lines = [replace(line("a.png", lpips, scene=False), photo=photo) for lpips in (0.1, 0.3)]
    [busy] = by_factor([*lines, *TABLE], "detail", "lpips")
    assert (busy.name, busy.pictures, busy.mean) == ("busy", 2, pytest.approx(0.2))
    assert by_factor(lines, "aspect", "object_iou") == [] == by_factor(lines, "shape", "lpips")
    row = next(csv.DictReader(io.StringIO(as_csv(lines))))
    assert row["brightness"] == "dark" and row["worst_patches"] == "0,14,14: 0.7500"
    with pytest.raises(InputError, match="no factor 'mood'"):
        by_factor(TABLE, "mood", "lpips")


def test_the_plane_sums_before_it_divides():
    draw = np.random.default_rng(0)
    either = draw.integers(0, 2, (5, CELLS, CELLS)).astype(float)
    both = either * draw.random((5, CELLS, CELLS))
    lines = [line("x", 0.1, plane=torch.tensor(np.stack(pair))) for pair in zip(both, either, strict=True)]
    plane, counts = (table.numpy() for table in iou_plane(lines))
    expected = np.where(either.sum(0) > 0, both.sum(0) / np.maximum(either.sum(0), 1), np.nan)
    np.testing.assert_allclose(plane, expected)
    assert np.isnan(plane).any() and not np.isnan(plane).all()
    np.testing.assert_array_equal(counts, either.sum(0))


def test_csv_and_json_hold_every_line_and_every_broken_file():
    broken = [Broken("=1+1.png", "it is no picture.")]
    rows = list(csv.DictReader(io.StringIO(as_csv(TABLE, broken))))
    assert [row["image"] for row in rows] == ["a", "b", "c", "d.png", "'=1+1.png"]  # no formula for a spreadsheet
    assert float(rows[0]["lpips"]) == 0.1 and rows[1]["mask_iou"] == "" and rows[4]["error"] == "it is no picture."
    assert rows[2]["object_shape"] == "star; star" and rows[2]["object_iou"] == "0.6000; 0.4000"
    data = json.loads(as_json({"point": "post-merge/6"}, TABLE, broken))
    assert data["point"] == "post-merge/6" and data["broken"] == [{"image": "=1+1.png", "reason": "it is no picture."}]
    assert data["pictures"][0]["scene"] == {"background": {"kind": "white"}} and data["pictures"][3]["scene"] is None
    assert "error" in as_csv([], broken).splitlines()[0]


def test_the_zip_holds_texts_and_pictures(tmp_path):
    write_zip(tmp_path / "a.zip", {"table.csv": "a,b\n"}, [("1.png", b"data")])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None and archive.namelist() == ["table.csv", "1.png"]
        assert archive.read("1.png") == b"data"


def test_an_empty_place_is_nan_not_zero():
    assert math.isnan(iou_plane([line("a", 0.1)])[0][0, 0])
