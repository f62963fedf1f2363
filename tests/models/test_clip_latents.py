"""Latents of clips against transformers' own video path, on frames of 12 × 20 patches: six windows, four cut off."""

import numpy as np
import pytest
import torch
from test_vlm import H, W, close, to_raster

from benchmarks.extraction import clip_inputs
from foresight.errors import InputError
from foresight.models import qwen2_5_vl as qwen
from foresight.models.vlm import load_vlm

RATES = (1.0, 2.0, 8.0, 29.97)


def noise_clip(frames, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, H * 14, W * 14, 3), dtype=np.uint8)


def pixels(clip):
    return torch.from_numpy(clip).permute(0, 3, 1, 2)[None].float() / 255


@torch.no_grad()
def reference(tiny, clip, fps):
    """transformers' states at every point, {point: (T, H, W, D)}, and its positions of the video's tokens."""
    inputs, raw = clip_inputs(tiny.processor, torch.from_numpy(clip).permute(0, 3, 1, 2), fps), []
    steps = -(-len(clip) // 2)
    assert inputs["video_grid_thw"].tolist() == [[steps, H, W]]
    hook = tiny.model.model.language_model.layers[-1].register_forward_hook(lambda *a: raw.append(a[2]))
    language = list(tiny.model(**inputs, output_hidden_states=True).hidden_states)
    hook.remove()
    language[-1] = raw[0][0] if isinstance(raw[0], tuple) else raw[0]  # raw, not behind the final norm
    vision = tiny.model.model.visual(
        inputs["pixel_values_videos"], grid_thw=inputs["video_grid_thw"], output_hidden_states=True
    ).hidden_states
    here = inputs["input_ids"][0] == tiny.model.config.video_token_id
    states = {
        f"pre-merge/{k}": torch.stack([to_raster(step, H, W) for step in state.chunk(steps)])
        for k, state in enumerate(vision)
    }
    states |= {f"post-merge/{k}": v[0][here].view(steps, H // 2, W // 2, -1) for k, v in enumerate(language)}
    positions, _ = tiny.model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        video_grid_thw=inputs["video_grid_thw"],
        second_per_grid_ts=inputs["second_per_grid_ts"],
    )
    return states, positions[:, 0, : int(here.nonzero().max()) + 1]


@pytest.fixture(scope="module")
def vlm(tiny):
    return load_vlm(tiny.folder, "cpu")


@pytest.mark.parametrize(("frames", "fps"), [(6, 2.0), (7, 8.0), (1, 2.0), (4, 1.0)])
def test_every_point_is_transformers_own(tiny, vlm, frames, fps):
    clip = noise_clip(frames)
    states, _ = reference(tiny, clip, fps)
    latents = vlm.latents(pixels(clip), vlm.points, fps=fps)
    assert list(latents) == list(states)
    for point, state in states.items():
        close(latents[point][0], state)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("frames", [8, 31])
def test_positions(tiny, vlm, fps, frames):
    _, theirs = reference(tiny, noise_clip(frames), fps)
    steps, before = -(-frames // 2), len(vlm.opening_ids)
    interval = qwen.time_interval(fps, tiny.model.config.vision_config)
    ours = qwen.image_positions(before, H // 2, W // 2, torch.device("cpu"), steps, interval)
    assert torch.equal(ours, theirs)
    times = (ours[0, before :: H * W // 4] - before).tolist()[:4]
    assert times == {1.0: [0, 4, 8, 12], 2.0: [0, 2, 4, 6], 8.0: [0, 0, 1, 1], 29.97: [0, 0, 0, 0]}[fps]


def test_the_frame_rate_changes_what_follows_the_first_step_and_only_after_the_merger(vlm):
    x = pixels(noise_clip(6))
    slow, fast = (vlm.latents(x, ["pre-merge/3", "post-merge/0", "post-merge/3"], fps=fps) for fps in (1.0, 8.0))
    for point in ("pre-merge/3", "post-merge/0"):
        assert torch.equal(slow[point], fast[point])
    close(slow["post-merge/3"][:, 0], fast["post-merge/3"][:, 0])
    assert (slow["post-merge/3"][:, 1:] - fast["post-merge/3"][:, 1:]).abs().max() > 0.01


def test_a_step_is_two_frames_and_an_odd_last_one_counts_twice(vlm):
    clip = noise_clip(5)
    latents = vlm.latents(pixels(clip), vlm.points)
    doubled = vlm.latents(pixels(np.concatenate([clip, clip[-1:]])), vlm.points)
    for point, state in latents.items():
        assert state.shape[1] == 3 and torch.equal(state, doubled[point])
    rows = qwen.patchify(qwen.frame_pairs(pixels(clip))[0], 14)  # (T, H, W, columns)
    both = rows.view(3, H, W, 3, 2, 14, 14)
    grid = pixels(clip)[0].view(5, 3, H, 14, W, 14).permute(0, 2, 4, 1, 3, 5)  # (F, H, W, channel, row, column)
    for step, (first, second) in enumerate([(0, 1), (2, 3), (4, 4)]):
        assert torch.equal(both[step, :, :, :, 0], grid[first]) and torch.equal(both[step, :, :, :, 1], grid[second])


def test_each_frame_of_a_step_is_felt_in_its_step_and_later_ones(vlm):
    clip, points = noise_clip(6), ["pre-merge/3", "post-merge/0", "post-merge/3"]
    before = vlm.latents(pixels(clip), points)
    for frame in (2, 3):
        other = clip.copy()
        other[frame] = 255 - other[frame]
        after = vlm.latents(pixels(other), points)
        changed = {p: [(before[p][0, t] != after[p][0, t]).any().item() for t in range(3)] for p in points}
        assert changed["pre-merge/3"] == changed["post-merge/0"] == [False, True, False]
        assert changed["post-merge/3"] == [False, True, True]
    swapped = clip[[0, 1, 3, 2, 4, 5]]
    assert (before["pre-merge/3"] - vlm.latents(pixels(swapped), points)["pre-merge/3"])[0, 1].abs().max() > 0.01


def test_a_clip_of_two_equal_frames_is_its_image_and_a_batch_its_single_clips(vlm):
    clip = noise_clip(4)
    still = vlm.latents(pixels(clip[[0, 0]]), vlm.points)
    image = vlm.latents(pixels(clip)[:, 0], vlm.points)
    both = vlm.latents(torch.cat([pixels(clip), pixels(clip[::-1].copy())]), vlm.points)
    alone = vlm.latents(pixels(clip[::-1].copy()), vlm.points)
    for point in still:
        close(still[point], image[point])
        close(both[point][1:], alone[point])


def test_clips_of_other_forms_are_refused(vlm):
    for shape in ((1, 0, 3, 168, 280), (1, 4, 1, 168, 280), (1, 4, 3, 168, 281), (1, 1, 4, 3, 168, 280)):
        with pytest.raises(InputError, match="clips"):
            vlm.latents(torch.zeros(shape), ["pre-merge/0"])
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="frame rate"):
            vlm.latents(pixels(noise_clip(2)), ["pre-merge/0"], fps=fps)
