import pytest
import torch
import torch.nn.functional as F

from foresight.data.images import resize
from foresight.data.render import render
from foresight.data.scenes import BACKGROUNDS, SceneSpec, sample
from foresight.metrics.masks import (
    EMPTY_MASK,
    NO_OBJECT,
    NOT_MEASURABLE,
    UNEVEN_BACKGROUND,
    foreground,
    mask_iou,
    why_no_iou,
)


def page(tone=1.0):
    return torch.full((1, 3, 64, 64), tone)


def pictures(scenes):
    drawn = render(scenes)
    return drawn.images.float() / 255, drawn.mask


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("objects", [(1, 1), (2, 5)])
def test_finds_what_the_renderer_drew(background, objects):
    x, truth = pictures(sample(range(48), 7, SceneSpec(objects=objects, backgrounds=(background,))))
    masks, reasons = foreground(x)
    iou = mask_iou(masks, truth)
    assert reasons == [None] * 48
    assert iou.mean() >= 0.997 and iou.min() >= 0.97


def test_small_objects_are_no_specks():
    x, truth = pictures(sample(range(48), 7, SceneSpec(objects=(1, 1), radius=(12, 13))))
    assert mask_iou(foreground(x)[0], truth).min() >= 0.96


def test_softened_edges_are_still_cut_at_half():
    x, truth = pictures(sample(range(48), 7, SceneSpec(backgrounds=("white", "gradient"))))
    there_and_back = resize(resize(x, (256, 256)), (224, 224))
    assert mask_iou(foreground(there_and_back)[0], truth).mean() >= 0.995
    halved = resize(resize(x, (112, 112)), (224, 224))
    assert mask_iou(foreground(halved)[0], truth).mean() >= 0.97


def test_a_half_covered_pixel_is_the_boundary():
    for coverage, inside in ((0.4, False), (0.6, True)):
        x = page()
        x[..., 20:40, 20:40] = 0.2
        x[..., 20:40, 40] = 1 - 0.8 * coverage
        masks, _ = foreground(x)
        expected = torch.zeros(64, 64, dtype=torch.bool)
        expected[20:40, 20 : 40 + inside] = True
        assert torch.equal(masks[0], expected)


def test_a_picture_does_not_depend_on_its_batch():
    x, _ = pictures(sample(range(8), 3, SceneSpec()))
    together = foreground(x)[0]
    alone = torch.cat([foreground(p[None])[0] for p in x])
    assert torch.equal(together, alone)


def test_an_object_at_the_border_does_not_bend_the_background():
    x = page()
    x[..., 0:30, 10:40] = 0.0
    masks, reasons = foreground(x)
    assert reasons == [None] and masks.sum() == 30 * 30 and masks[0, 0:30, 10:40].all()


def test_specks_are_no_objects():
    x = page()
    x[..., 20:24, 20:24] = 0.0
    assert foreground(x)[1] == [NO_OBJECT]
    x[..., 20:25, 20:25] = 0.0
    assert foreground(x)[0].sum() == 25


def test_empty_masks_have_a_reason():
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    blotches = F.interpolate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), (64, 64))
    masks, reasons = foreground(torch.cat([page(), page(0.0), ramp, ramp.mT, (ramp + ramp.mT) / 2, blotches]))
    assert reasons == [NO_OBJECT] * 5 + [UNEVEN_BACKGROUND]
    assert not masks.any()
    assert len({NO_OBJECT, UNEVEN_BACKGROUND, EMPTY_MASK}) == 3


@pytest.mark.parametrize(
    ("original", "reconstruction", "reason"),
    [
        (None, None, None),
        (None, NO_OBJECT, None),  # measured: 0, for nothing was found on an even background
        (None, UNEVEN_BACKGROUND, NOT_MEASURABLE),
        (NO_OBJECT, None, NO_OBJECT),
        (EMPTY_MASK, UNEVEN_BACKGROUND, EMPTY_MASK),
        (UNEVEN_BACKGROUND, UNEVEN_BACKGROUND, UNEVEN_BACKGROUND),
    ],
)
def test_only_a_missing_background_makes_an_iou_not_measurable(original, reconstruction, reason):
    assert why_no_iou(original, reconstruction) == reason


@pytest.mark.parametrize("size", [(11, 11), (28, 1792), (196, 252)])
def test_any_size(size):
    assert foreground(torch.ones(2, 3, *size))[0].shape == (2, *size)


def test_iou_by_hand():
    a, b = torch.zeros(4, 4, 4, dtype=torch.bool), torch.zeros(4, 4, 4, dtype=torch.bool)
    a[0, :2], b[0, 1:3] = True, True  # 8 and 8 pixels, 4 in common, 12 in all
    a[1, 0], b[1, 3] = True, True  # apart
    a[2, 1], b[2, 1] = True, True  # the same
    iou = mask_iou(a, b)  # and the fourth pair is empty
    assert torch.allclose(iou[:3], torch.tensor([4 / 12, 0, 1])) and iou[3].isnan()
