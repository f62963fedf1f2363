"""Clips: the same for ever, each motion what its name says, flow and occlusion exact, splits that share nothing."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from foresight.data.motion import (
    HEADINGS,
    MOTIONS,
    MotionSpec,
    MovingScenes,
    motion_flow,
    render_motion,
    sample_motion,
    take_motion,
)
from foresight.data.scenes import SPLITS, Scenes, SceneSpec
from foresight.errors import InputError

ONE = SceneSpec(objects=(1, 1), radius=(20, 40))
MANY = SceneSpec(objects=(3, 3), radius=(12, 40))
WHITE = {"kind": "white", "tones": [[1.0] * 3] * 2, "pattern": [0.0, 3.0, 3.0, 0.0, 0.0, 1.0]}


def clips(motion, count=24, scene=ONE, **rest):
    return sample_motion(range(count), 3, MotionSpec(scene=scene, motions=(motion,), **rest))


def pixel_tracks(batch):
    """Centres (B, F, N, 2) and radii (B, F, N) in pixels."""
    height, width = batch.size
    return batch.tracks[..., :2] * torch.tensor([width, height]), batch.tracks[..., 2] * min(height, width)


def warp(x, flow):
    """Frames (P, 3, H, W) at the places that flow (P, 2, H, W) leads to."""
    height, width = x.shape[-2:]
    y, across = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    at = torch.stack([(across + flow[:, 0]) / width, (y + flow[:, 1]) / height], -1) * 2 - 1
    return F.grid_sample(x, at, align_corners=False, padding_mode="border")


def test_a_clip_depends_on_its_number_alone():
    spec = MotionSpec(scene=MANY)
    many, few = sample_motion(range(30), 7, spec), sample_motion(torch.tensor([21, 5]), 7, spec)
    for name in ("motion", "tracks", "present"):
        assert torch.equal(getattr(few, name)[0], getattr(many, name)[21])
    assert few.digest(0) == many.digest(21) and few.digest(1) == many.digest(5)
    assert len(set(many.hashes().tolist() + sample_motion(range(30), 8, spec).hashes().tolist())) == 60
    assert many.resized((448, 448)).split() == many.split()
    assert {MOTIONS[k] for k in many.motion.flatten().tolist()} == set(MOTIONS)
    assert all(len(set(colors)) == 3 for colors in many.first.color.tolist())


def test_every_object_stays_inside_and_of_a_fair_size():
    for scene in (MANY, replace(MANY, size=(168, 280))):
        batch = sample_motion(range(200), 0, MotionSpec(scene=scene, frames=12, speed=(2, 40)))
        centres, radii = pixel_tracks(batch)
        bounds = torch.tensor([batch.size[1], batch.size[0]])
        room = torch.minimum(centres, bounds - centres).amin(-1) - radii
        short = min(batch.size) / 224
        assert room.min() > 2.9 * short
        assert radii.min() > 11.9 * short and radii.max() < 64.1 * short


def test_motions_are_what_they_are_called():
    moved = {m: clips(m) for m in MOTIONS if m != "occlusion"}
    steps = {m: pixel_tracks(b)[0][:, :, 0].diff(dim=1) for m, b in moved.items()}  # (B, F - 1, 2)
    for motion in ("still", "rotation", "growth", "appear", "vanish"):
        assert steps[motion].abs().max() < 1e-4
    assert (steps["translation"] - steps["translation"][:, :1]).abs().max() < 1e-3
    assert ((speed := steps["translation"].norm(dim=-1)) > 0).all() and speed.max() < 8.01
    bounces = (steps["bounce"][:, 1:] * steps["bounce"][:, :-1] < -1e-6).any(-1).any(-1)
    assert bounces.float().mean() > 0.9  # at the slowest a bounce can fall between frames
    ratio = moved["growth"].tracks[:, -1, 0, 2] / moved["growth"].tracks[:, 0, 0, 2]
    assert ((ratio > 1.14) | (ratio < 1 / 1.14)).all() and (ratio > 1).any() and (ratio < 1).any()
    turned = moved["rotation"].tracks[:, 1, 0, 3] - moved["rotation"].tracks[:, 0, 0, 3]
    turns = moved["rotation"].motion[:, 0] == MOTIONS.index("rotation")
    assert (turned[turns].abs() >= 0.05).all() and (turned[~turns] == 0).all() and 0.5 < turns.float().mean() < 1
    for motion, first in (("appear", False), ("vanish", True)):
        present = moved[motion].present[:, :, 0]
        assert (present[:, 0] == first).all() and (present[:, -1] != first).all()
        assert (present.diff(dim=1).sum(1) == 1).all()
        assert torch.equal(moved[motion].centres()[:, :, 0, 0].isnan(), ~present)


def test_something_is_hidden_by_something_in_occlusion():
    batch = sample_motion(
        range(40), 0, MotionSpec(scene=replace(MANY, objects=(2, 2)), motions=("occlusion",), frames=3)
    )
    drawn = render_motion(batch)
    lost = (drawn.full & ~drawn.visible).flatten(3).any(-1)  # (B, F, N)
    assert lost[:, 1].any(-1).float().mean() > 0.9  # half-way through; not in a ring


def test_a_drawn_centroid_is_the_track():
    batch = clips("translation", count=6)
    drawn = render_motion(batch)
    assert drawn.images.shape == (6, 16, 3, 224, 224) and drawn.mask.shape == (6, 16, 224, 224)
    mask = drawn.full[:, :, 0].float()
    at = torch.arange(224) + 0.5
    centroids = torch.stack([(mask.sum(2) * at).sum(-1), (mask.sum(3) * at).sum(-1)], -1) / mask.sum((2, 3))[..., None]
    assert (centroids - batch.centres()[:, :, 0]).abs().max() < 0.25


@pytest.mark.parametrize("motion", ["translation", "rotation", "growth", "bounce", "occlusion"])
def test_flow_leads_each_pixel_to_where_it_goes(motion):
    batch = clips(motion, count=4, scene=replace(MANY, radius=(25, 40)), frames=5)
    drawn, flow = render_motion(batch), motion_flow(batch)
    assert flow.forward.shape == (4, 4, 2, 224, 224) and flow.occluded.shape == (4, 4, 224, 224)
    visible = drawn.visible.flatten(0, 1).float()
    edge = (F.max_pool2d(visible, 5, 1, 2) != -F.max_pool2d(-visible, 5, 1, 2)).any(1).float()  # anti-aliased
    x = torch.cat([drawn.images.flatten(0, 1).float() / 255, edge[:, None]], 1).unflatten(0, (4, 5))
    now, then = x[:, :-1].flatten(0, 1), x[:, 1:].flatten(0, 1)
    came = warp(then, flow.forward.flatten(0, 1))
    sure = (now[:, 3] == 0) & (came[:, 3] == 0) & ~flow.occluded.flatten(0, 1)
    assert sure.float().mean() > 0.8
    assert ((came - now)[:, :3].abs().amax(1) * sure).max() < 0.01
    assert ((then - now)[:, :3].abs().amax(1) * sure).max() > 0.3  # what no motion at all would leave


def test_occluded_is_what_the_mover_newly_covers():
    square = {"shape": "square", "color": "red", "radius": 20 * 2**0.5 / 224, "rotation": torch.pi / 4}
    behind = {"shape": "circle", "color": "blue", "x": 0.5, "y": 0.5, "radius": 60 / 224, "rotation": 0.0}
    first = Scenes.from_description(
        {"size": [224, 224], "background": WHITE, "objects": [behind, square | {"x": 0.5, "y": 0.5}]}
    )
    tracks = first.place[:, None].repeat(1, 3, 1, 1)
    tracks[:, 1:, 1, 0] += 10 / 224
    present = torch.tensor([[[True, True], [True, True], [False, True]]])
    flow = motion_flow(MovingScenes(first, torch.zeros(1, 2).long(), tracks, present, 8.0))
    want = torch.zeros(224, 224, dtype=torch.bool)
    want[92:132, 132:142] = True  # 10 px to the right of a square that reaches from 92 to 132
    assert torch.equal(flow.occluded[0, 0], want)
    assert torch.equal(flow.forward[0, 0, 0, 92:132, 92:132].round(), torch.full((40, 40), 10.0))
    assert flow.forward[0, 0].abs().sum() == pytest.approx(40 * 40 * 10, rel=1e-3)
    drawn = render_motion(MovingScenes(first, torch.zeros(1, 2).long(), tracks, present, 8.0))
    assert torch.equal(flow.occluded[0, 1], drawn.visible[0, 1, 0])  # the circle is gone in the last frame


def test_splits_share_no_clip_and_a_reverse_stays_in_its_split():
    spec = MotionSpec(frames=4)
    names = sample_motion(range(2000), 0, spec).split()
    assert [names.count(s) / 2000 for s in SPLITS] == pytest.approx([0.4, 0.04, 0.06], abs=0.03)
    clips = {name: take_motion(30, seed, spec, name) for seed, name in enumerate(SPLITS)}
    for name, batch in clips.items():
        assert len(batch) == 30 and set(batch.split()) == set(batch.reversed().split()) == {name}
    assert len({h for batch in clips.values() for h in batch.hashes().tolist()}) == 90


def test_a_reverse_shows_the_same_frames_backwards():
    batch = sample_motion(range(6), 1, MotionSpec(frames=5))
    back = batch.reversed()
    assert torch.equal(render_motion(back).images, render_motion(batch).images.flip(1))
    for i in range(6):
        if heading := batch.heading(i, 0):
            assert HEADINGS.index(back.heading(i, 0)) == (HEADINGS.index(heading) + 4) % 8


def test_a_description_is_plain_json_with_every_track():
    batch = clips("vanish", count=1, frames=8)
    description = json.loads(json.dumps(batch.describe(0)))
    (thing,) = description["objects"]
    assert (
        description["frames"] == len(thing["track"]) == 8 and thing["motion"] == "vanish" and thing["track"][-1] is None
    )
    assert thing["track"][0]["x"] == pytest.approx(float(batch.tracks[0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"frames": 0}, "frames"),
        ({"frames": 65}, "frames"),
        ({"fps": 0.0}, "frame rate"),
        ({"motions": ("flight",)}, "motion"),
        ({"motions": ()}, "motion"),
        ({"growth": (0.5, 2.0)}, "growth"),
        ({"speed": (5.0, 2.0)}, "speed"),
        ({"scene": SceneSpec(objects=(3, 3), colors=("red", "blue"))}, "colours"),
    ],
)
def test_other_specs_are_refused(change, word):
    with pytest.raises(InputError, match=word):
        MotionSpec(**change)


def test_one_frame_has_no_flow():
    with pytest.raises(InputError, match="two frames"):
        motion_flow(sample_motion(range(1), 0, MotionSpec(frames=1)))
