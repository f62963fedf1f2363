"""Objects scored one by one, against counts done by hand."""

import pytest
import torch
from scipy.ndimage import distance_transform_edt

from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.metrics.masks import mask_iou
from foresight.metrics.matching import CELLS, plane, position_name, score_objects, size_name, territories


def box(left, top, right, bottom):
    mask = torch.zeros(56, 56, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def scene(count):
    return {"objects": [{"shape": "square", "color": "red", "radius": 0.1, "x": 0.1, "y": 0.9}] * count}


def test_each_object_has_the_pixels_nearest_to_it():
    visible = torch.stack([box(4, 4, 14, 14), box(40, 4, 50, 14)])  # 100 pixels each
    mask = box(4, 4, 9, 14) | box(40, 4, 50, 18)  # half of the first; the second and 40 pixels below it
    lpips = torch.zeros(56, 56)
    lpips[:, 28:] = 0.5
    first, second = score_objects(scene(2), territories(visible), mask, lpips)
    assert first.iou == pytest.approx(50 / 100) and second.iou == pytest.approx(100 / 140)
    assert (first.lpips, second.lpips) == (0.0, 0.5)
    assert (first.shape, first.color, first.size, first.position) == ("square", "red", "small", "bottom left")


def test_what_is_found_between_two_counts_once():
    visible = torch.stack([box(0, 0, 10, 10), box(20, 0, 30, 10)])
    mask = box(0, 0, 30, 10)  # both, and the 100 pixels between them: half to each
    ious = [o.iou for o in score_objects(scene(2), territories(visible), mask, torch.zeros(56, 56))]
    assert ious == pytest.approx([100 / 150, 100 / 150], abs=0.04)  # one column is as near to both


def test_an_object_that_is_hidden_or_cannot_be_told_has_no_score():
    visible = torch.stack([box(0, 0, 10, 10), box(0, 0, 0, 0)])
    visible_object, hidden = score_objects(scene(2), territories(visible), box(0, 0, 10, 10), torch.ones(56, 56))
    assert visible_object.iou == 1 and hidden.iou is None and hidden.lpips is None and visible_object.lpips == 1
    assert [o.iou for o in score_objects(scene(2), territories(visible), None, torch.ones(56, 56))] == [None, None]


def test_a_perfect_picture_of_a_real_scene_has_ious_of_one():
    scenes = sample(range(3), 1, SceneSpec(objects=(4, 5)))
    drawn = render(scenes)
    for i in range(3):
        visible = drawn.visible[i, : int(scenes.count[i])]
        scores = score_objects(scenes.describe(i), territories(visible), drawn.mask[i], torch.zeros(224, 224))
        assert [o.iou for o in scores] == [1.0] * len(visible)


def test_objects_have_the_pixels_that_measuring_to_each_gives_them():
    scenes = sample(range(8), 2, SceneSpec(objects=(4, 4), size=(112, 112)))
    drawn = render(scenes)
    for i, visible in enumerate(drawn.visible[:, :4]):
        visible[1] = False  # hidden
        distances = torch.stack([torch.from_numpy(distance_transform_edt(~pixels)) for pixels in visible[[0, 2, 3]]])
        near, next_near = distances.sort(0).values[:2]
        mask = drawn.mask[i].roll((9, 14), (0, 1)) & (near < next_near)  # what is as near to two may go to either
        parts = mask & (distances == near)
        lpips = torch.rand(112, 112, generator=torch.Generator().manual_seed(i))
        scores = first, hidden, *others = score_objects(scenes.describe(i), territories(visible), mask, lpips)
        assert hidden.iou is None and 0 < max(o.iou for o in others) < 1
        assert [o.iou for o in (first, *others)] == pytest.approx(mask_iou(visible[[0, 2, 3]], parts).tolist())
        means = [float(lpips[pixels].mean()) if pixels.any() else None for pixels in visible]
        assert [o.lpips for o in scores] == [None if mean is None else pytest.approx(mean) for mean in means]


def test_names_of_sizes_and_places():
    assert [size_name(r / 224) for r in (12, 23.9, 24, 40, 64)] == ["small", "small", "medium", "large", "large"]
    assert position_name(0.5, 0.5) == "middle centre" and position_name(1.0, 0.0) == "top right"


def test_the_plane_is_shares_of_cells():
    original, reconstruction = box(0, 0, 4, 2), box(2, 0, 6, 2)  # cells of 2 × 2 pixels
    planes = plane(original, reconstruction)
    assert planes.shape == (2, CELLS, CELLS)
    assert planes[0, 0, :4].tolist() == [0, 1, 0, 0] and planes[1, 0, :4].tolist() == [1, 1, 1, 0]
    assert planes[:, 1:].sum() == 0 and plane(original, reconstruction, scored=False).sum() == 0
    assert plane(box(0, 0, 1, 1), box(0, 0, 1, 1))[0, 0, 0] == 0.25
