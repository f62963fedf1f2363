"""Pictures against geometry: areas by formula, edges, boxes, what hides what."""

import math

import numpy as np
import pytest
import torch

from foresight.data.render import mask_boxes, render
from foresight.data.scenes import BACKGROUNDS, COLORS, Scenes, SceneSpec, sample

WHITE = {"kind": "white", "tones": [[1.0] * 3] * 2, "pattern": [0.0, 3.0, 3.0, 0.0, 0.0, 1.0]}


def thing(shape, x=0.5, y=0.5, radius=60 / 224, color="black", rotation=0.0):
    return {"shape": shape, "color": color, "x": x, "y": y, "radius": radius, "rotation": rotation}


def draw(*objects, size=(224, 224), background=WHITE):
    return render(Scenes.from_description({"size": list(size), "background": background, "objects": list(objects)}))


def arm(half):  # length from the centre of an arm whose corners lie at radius 1
    return math.sqrt(1 - half**2)


AREAS = {  # at circumradius 1
    "circle": math.pi,
    "square": 2,
    "triangle": 3 * math.sqrt(3) / 4,
    "star": 5 * 0.5 * math.sin(math.pi / 5),
    "diamond": 2 * 0.65,
    "cross": 2 * (4 * 0.36 * arm(0.36)) - 4 * 0.36**2,
    "bar": 4 * 0.45 * arm(0.45),
    "ring": math.pi * (1 - 0.45**2),
}


@pytest.mark.parametrize("shape", AREAS)
@pytest.mark.parametrize("rotation", [0.15, 0.4])
def test_areas(shape, rotation):
    drawn = draw(thing(shape, x=0.49, y=0.52, rotation=rotation))
    want = AREAS[shape] * 60**2
    ink = (255 - drawn.images.float()).sum() / 3 / (255 - 20)
    assert ink.item() == pytest.approx(want, rel=0.01)
    assert drawn.mask.sum().item() == pytest.approx(want, rel=0.015)


def test_a_circle_is_pure_but_for_a_pixel_at_its_edge():
    drawn = draw(thing("circle", x=0.45, y=0.55))
    y, x = np.mgrid[:224, :224] + 0.5
    depth = np.hypot(x - 0.45 * 224, y - 0.55 * 224) - 60
    grey = drawn.images[0, 0].numpy()
    assert (grey[depth < -0.6] == 20).all() and (grey[depth > 0.6] == 255).all()
    edge = np.abs(depth) < 0.45
    np.testing.assert_allclose(grey[edge], 255 - (0.5 - depth[edge]) * 235, atol=8)
    assert len(np.unique(grey[edge])) > 40
    assert (drawn.full[0, 0].numpy() == (depth <= 0))[np.abs(depth) > 0.05].all()


def test_a_turned_triangle_stands_on_its_side():
    """Angles run from the right, clockwise as seen: at -90° a tip points up."""
    mask = draw(thing("triangle", rotation=-math.pi / 2)).mask[0]
    left, top, right, bottom = mask_boxes(mask).tolist()
    assert (top, bottom) == (pytest.approx(112 - 60, abs=1.5), pytest.approx(112 + 30, abs=1))
    assert (left, right) == (pytest.approx(112 - 52, abs=1), pytest.approx(112 + 52, abs=1))
    assert mask[top].sum() <= 3 and mask[bottom - 1].sum() > 98


def test_the_front_hides_the_back():
    back, front = thing("circle", 0.4, color="red"), thing("square", 0.7, color="blue", rotation=math.pi / 4)
    drawn = draw(back, front)
    full, visible = drawn.full[0], drawn.visible[0]
    assert torch.equal(visible[1], full[1]) and torch.equal(visible[0], full[0] & ~full[1])
    assert 0 < (full[0] & full[1]).sum() < full[0].sum()
    assert drawn.images[0, :, 112, 120].tolist() == list(COLORS["blue"])
    assert drawn.images[0, :, 112, 80].tolist() == list(COLORS["red"])
    assert torch.equal(drawn.mask[0], full.any(0))
    assert torch.equal(draw(front, back).visible[0, 1], full[0])


def test_boxes_are_numpys():
    batch = sample(range(12), 4, SceneSpec(objects=(1, 5), size=(168, 280)))
    drawn = render(batch)
    for i in range(12):
        for j in range(5):
            rows, columns = np.nonzero(drawn.visible[i, j].numpy())
            want = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
            assert drawn.boxes[i, j].tolist() == want
            assert (len(rows) > 0) == (j < batch.count[i])
    assert torch.equal(drawn.images, render(batch, chunk=5).images)


def test_a_hidden_object_has_no_box():
    drawn = draw(thing("square", radius=20 / 224), thing("circle"))
    assert drawn.boxes[0, 0].tolist() == [0, 0, 0, 0] and not drawn.visible[0, 0].any() and drawn.full[0, 0].any()


@pytest.mark.parametrize("size", [(448, 448), (224, 448), (448, 224)])
def test_a_scene_scales_with_the_shorter_side(size):
    drawn = draw(thing("ring"), size=size)
    assert drawn.mask.sum().item() == pytest.approx(AREAS["ring"] * (60 / 224 * min(size)) ** 2, rel=0.015)
    left, top, right, bottom = drawn.boxes[0, 0].tolist()
    assert ((left + right) / 2, (top + bottom) / 2) == (size[1] / 2, size[0] / 2)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_backgrounds(kind):
    batch = sample(range(20), 6, SceneSpec(objects=(1, 1), radius=(12, 12), backgrounds=(kind,)))
    drawn = render(batch)
    for i in range(20):
        rim = torch.nn.functional.max_pool2d(drawn.full[i].float(), 5, 1, 2)[0] > 0
        ground = drawn.images[i][:, ~rim].float()  # (3, pixels)
        low, high = (batch.tones[i].amin(0) * 255)[:, None], (batch.tones[i].amax(0) * 255)[:, None]
        assert (ground >= low - 1).all() and (ground <= high + 1).all()
        spread = (ground.quantile(0.99, 1) - ground.quantile(0.01, 1)).max()
        if kind == "white":
            assert (ground == 255).all()
        elif kind == "plain":
            assert spread == 0
        else:
            assert spread > 0.8 * (high - low).max()
        assert ground.min() > 140  # always light


def test_a_gradient_runs_along_its_angle():
    background = {"kind": "gradient", "tones": [[1.0] * 3, [0.8] * 3], "pattern": [0.0, 3.0, 3.0, 0.0, 0.0, 1.0]}
    picture = draw(thing("circle", y=0.7, radius=12 / 224), background=background).images[0, 0, :100].int()
    assert (picture == picture[0]).all()  # the same in every row
    assert picture[0, 0] == 255 and picture[0, -1] == 204 and (picture[0].diff() <= 0).all()
