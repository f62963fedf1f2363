"""Scores over time on clips whose scores are known beforehand."""

import pytest
import torch

from foresight.data.camera import CameraSpec, camera_flow, film, sample_camera
from foresight.data.motion import MotionSpec, motion_flow, render_motion, sample_motion
from foresight.data.scenes import COLORS, SceneSpec
from foresight.errors import InputError
from foresight.metrics.perceptual import lpips_model
from foresight.metrics.scores import compare
from foresight.metrics.tracks import centroids, find_objects, shifts
from foresight.metrics.video import TRUST, ClipScorer, Truth, control_orders, warp

SIDE, STEP, FRAMES = 112, 3, 6


def square_at(left, top, size=30, value=0.1):
    image, mask = torch.ones(3, SIDE, SIDE), torch.zeros(SIDE, SIDE, dtype=torch.bool)
    image[:, top : top + size, left : left + size] = value
    mask[top : top + size, left : left + size] = True
    return image, mask


def moving_square(places):
    images, masks = zip(*(square_at(*place) for place in places), strict=True)
    return torch.stack(images), torch.stack(masks)[:, None]


RIGHTWARDS = [(20 + STEP * k, 40) for k in range(FRAMES)]


@pytest.fixture(scope="module")
def clip():
    images, masks = moving_square(RIGHTWARDS)
    flow = torch.zeros(FRAMES - 1, 2, SIDE, SIDE)
    occluded = torch.zeros(FRAMES - 1, SIDE, SIDE, dtype=torch.bool)
    for t in range(FRAMES - 1):
        flow[t, 0][masks[t, 0]] = STEP
        occluded[t] = masks[t + 1, 0] & ~masks[t, 0]
    return images, Truth(masks, torch.full((1, 3), 0.1), flow, occluded)


@pytest.fixture(scope="module")
def scorer(clip):
    return ClipScorer(*clip)


def test_a_clip_against_itself(scorer, clip):
    scores = scorer.score(clip[0])
    means = scores.means()
    assert list(means) == list(TRUST)
    assert means["lpips"] == means["tlpips"] == means["difference_error"] == means["warp_error"] == 0
    assert means["psnr"] == 100 and means["ssim"] == pytest.approx(1) and means["mask_iou"] == 1
    assert means["centroid_error"] < 1e-4 and means["velocity_error"] < 1e-4
    assert means["direction_right"] == 1 and scores.missed == 0
    assert means["change_within"] == means["change_between"] == 1


def test_a_still_copy_has_the_true_speed_as_its_error(scorer):
    still = scorer.controls()["still"]
    assert still.centroid_error[:, 0].tolist() == pytest.approx([STEP * k for k in range(FRAMES)], abs=0.01)
    assert still.pairs["velocity_error"].tolist() == pytest.approx([STEP] * (FRAMES - 1), abs=0.01)
    assert still.means()["direction_right"] == still.means()["change_within"] == still.means()["change_between"] == 0
    changed = 2 * STEP * 30 * 0.9 / SIDE**2  # two strips, of the square's side and contrast
    assert still.pairs["difference_error"].tolist() == pytest.approx([changed] * (FRAMES - 1))
    lost = STEP * 30 * 0.9 / (SIDE**2 - STEP * 30)  # along the true flow the square's last strip is white
    assert still.pairs["warp_error"][0] == pytest.approx(lost, rel=0.02)
    assert still.frames["psnr"][0] == 100 and still.worst["lpips"] > 0
    model = lpips_model()
    steps = model(scorer.original[:-1], scorer.original[1:])
    torch.testing.assert_close(still.pairs["tlpips"], steps.abs())


def test_who_holds_a_steps_first_frame_is_off_by_the_true_speed_in_every_pair_of_frames(scorer):
    held = scorer.controls()["held"]
    assert held.centroid_error[:, 0].tolist() == pytest.approx([0, STEP] * (FRAMES // 2), abs=0.01)
    assert held.pairs["velocity_error"].tolist() == pytest.approx([STEP] * (FRAMES - 1), abs=0.01)
    assert held.means()["change_within"] == 0 and held.means()["direction_right"] == 1


def test_one_frame_late_is_one_step_off_and_the_right_way(scorer):
    lag = scorer.controls()["lag"]
    assert lag.centroid_error[:, 0].tolist() == pytest.approx([0] + [STEP] * (FRAMES - 1), abs=0.01)
    assert lag.pairs["velocity_error"].tolist() == pytest.approx([STEP] + [0] * (FRAMES - 2), abs=0.01)
    assert lag.means()["direction_right"] == 1


def test_controls_are_scored_like_the_clips_they_are(scorer, clip):
    for name, order in control_orders(FRAMES).items():
        scores, known = scorer.score(clip[0][order]), scorer.controls()[name]
        for series in ("frames", "pairs"):
            for score, values in getattr(scores, series).items():
                torch.testing.assert_close(values, getattr(known, series)[score], equal_nan=True, atol=1e-5, rtol=1e-4)
    assert sorted(control_orders(5)["shuffled"]) == list(range(5)) != control_orders(5)["shuffled"]
    assert control_orders(2)["shuffled"] == [1, 0]


def test_backwards_is_the_wrong_way_and_sideways_too(scorer, clip):
    assert not scorer.score(clip[0].flip(0)).direction_right.any()
    sideways, _ = moving_square([(20, 40 + STEP * k) for k in range(FRAMES)])
    assert not scorer.score(sideways).direction_right.any()
    slanted, _ = moving_square([(20 + STEP * k, 40 + 2 * k) for k in range(FRAMES)])  # by 34°
    assert scorer.score(slanted).direction_right.all()


def test_flicker_is_seen_by_the_scores_of_time():
    """A still grey, every other frame 0.1 lighter: each change is 0.1, along any flow."""
    grey = torch.full((4, 3, 64, 64), 0.5)
    flow = torch.zeros(3, 2, 64, 64)
    flickering = grey.clone()
    flickering[1::2] += 0.1
    scores = ClipScorer(grey, Truth(flow=flow, occluded=flow[:, 0] > 1)).score(flickering)
    assert scores.pairs["warp_error"].tolist() == pytest.approx([0.1] * 3)
    assert scores.pairs["difference_error"].tolist() == pytest.approx([0.1] * 3)
    assert scores.means()["mask_iou"] is None and scores.means()["direction_right"] is None


def test_scores_of_frames_are_those_of_images_and_the_worst_is_named(scorer, clip):
    bad = clip[0].clone()
    bad[4] = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    scores = scorer.score(bad)
    assert scores.worst["lpips"] == scores.worst["ssim"] == scores.worst["psnr"] == 4
    images = compare(clip[0], bad, clip[1].masks[:, 0]).scores
    for name, values in scores.frames.items():
        torch.testing.assert_close(values, images[name], equal_nan=True)
    record = scores.as_json()
    assert record["worst_frame"]["lpips"] == 4 and len(record["by_frame"]["ssim"]) == FRAMES
    assert len(record["by_pair"]["tlpips"]) == FRAMES - 1


def test_what_is_not_found_is_missed_and_went_nowhere(scorer, clip):
    gone = clip[0].clone()
    gone[3:] = 1.0
    scores = scorer.score(gone)
    assert scores.missed == 0.5 and not scores.direction_right.any()
    assert scores.centroid_error[3:].isnan().all() and scores.frames["mask_iou"][3:].max() == 0


def test_objects_are_told_apart_by_colour():
    """True tracks of three objects that pass over each other, read off the pixels alone."""
    spec = MotionSpec(scene=SceneSpec(objects=(3, 3), radius=(16, 36)), motions=("translation", "occlusion"), frames=5)
    clips = sample_motion(range(8), 2, spec)
    drawn = render_motion(clips)
    palette, errors = torch.tensor(list(COLORS.values())) / 255, []
    for i in range(8):
        frames = drawn.images[i].float() / 255
        tracks = centroids(find_objects(frames, palette[clips.first.color[i]]))
        truth = centroids(drawn.visible[i])
        large = drawn.visible[i].sum((-2, -1)) > drawn.full[i].sum((-2, -1)) / 2  # others need not be found
        assert not tracks[large].isnan().any()
        errors.append((tracks - truth).norm(dim=-1)[large])
    errors = torch.cat(errors)
    assert len(errors) > 80 and errors.median() < 0.1 and errors.max() < 1.5


def test_a_rendered_clip_under_its_own_truth():
    spec = MotionSpec(scene=SceneSpec(objects=(2, 2), radius=(16, 36)), motions=("translation",), frames=4)
    clips = sample_motion(range(3), 0, spec)
    drawn, flow = render_motion(clips), motion_flow(clips)
    palette = torch.tensor(list(COLORS.values())) / 255
    for i in range(3):
        frames = drawn.images[i].float() / 255
        truth = Truth(drawn.visible[i], palette[clips.first.color[i]], flow.forward[i], flow.occluded[i])
        scorer = ClipScorer(frames, truth)
        own, still = scorer.score(frames).means(), scorer.controls()["still"].means()
        assert own["velocity_error"] < 0.2 < still["velocity_error"]
        assert own["direction_right"] == 1 and still["direction_right"] == 0
        assert own["warp_error"] == 0 < still["warp_error"]


def photo():
    draw = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(draw, (400, 600), mode="bicubic").clamp(0, 1)


def test_a_pan_is_the_motion_of_the_whole_frame():
    paths = sample_camera(range(4), 0, CameraSpec(frames=5, moves=("pan",), size=(112, 112), speed=(4, 6)), (400, 600))
    clips, flow = film(photo().expand(4, -1, -1, -1), paths), camera_flow(paths, (400, 600))
    for i in range(4):
        true = flow.forward[i, :, :, 56, 56]
        assert (shifts(clips[i]) - true).abs().max() < 0.3
        scorer = ClipScorer(clips[i], Truth(flow=flow.forward[i], occluded=flow.occluded[i]))
        own, still = scorer.score(clips[i]), scorer.controls()["still"].means()
        assert own.means()["velocity_error"] < 0.3 and own.direction_right.all()
        assert still["velocity_error"] == pytest.approx(float(true.norm(dim=-1).mean()), rel=0.02)
        assert still["direction_right"] == 0
        blind = ClipScorer(clips[i]).score(clips[i].flip(0))  # an upload: no flow is known
        assert not blind.direction_right.any() and blind.means()["warp_error"] is None


def test_one_frame_has_no_time():
    scores = ClipScorer(torch.rand(1, 3, 32, 32)).score(torch.rand(1, 3, 32, 32))
    assert scores.means()["tlpips"] is None and scores.means()["lpips"] > 0 and scores.direction_right.numel() == 0


def test_warp_takes_frames_back():
    x = torch.rand(1, 3, 20, 30)
    flow = torch.zeros(1, 2, 20, 30)
    flow[:, 0], flow[:, 1] = 2, -1
    torch.testing.assert_close(warp(x, flow)[..., 1:, :-2], x[..., :-1, 2:])


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (lambda c: c[:-1], "differ in size"),
        (lambda c: c + 1, "within 0 to 1"),
        (lambda c: c * torch.nan, "within 0 to 1"),
    ],
)
def test_other_clips_are_refused(scorer, clip, other, sentence):
    with pytest.raises(InputError, match=sentence):
        scorer.score(other(clip[0]))


def test_other_originals_and_truths_are_refused(clip):
    with pytest.raises(InputError, match="at least 11"):
        ClipScorer(torch.zeros(2, 3, 10, 40))
    with pytest.raises(InputError, match="masks of this clip"):
        ClipScorer(clip[0], Truth(masks=clip[1].masks[:-1], colors=clip[1].colors))
    for half in (Truth(flow=clip[1].flow), Truth(masks=clip[1].masks)):
        with pytest.raises(InputError, match="together|masks of this clip"):
            ClipScorer(clip[0], half)
