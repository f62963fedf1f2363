"""What adapters learn from beside scenes: video files."""

import pytest
import torch

from foresight.data.clips import write_clip
from foresight.data.sources import VIEWS, parse_data
from training.data import FRAMES, HELD_OUT_CLIPS, RATES, SIDE, STEPS, open_data


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Twelve clips of 12 frames at 8 a second, clip k of grey levels from 15 k on, one more each frame; and a text."""
    place = tmp_path_factory.mktemp("videos")
    for k in range(12):
        levels = (15 * k + torch.arange(12)) / 255
        write_clip(place / f"{k:02}.mp4", levels[:, None, None, None].expand(-1, 3, 64, 96), 8.0)
    (place / "none.mp4").write_text("no video")
    return place


def test_steps_of_videos_are_learned_from_and_held_out(videos):
    data = open_data(parse_data(f"clips:{videos}"), held_out=2)
    assert [file.name for file in data.broken] == ["none.mp4"] and str(data) == f"clips:{videos.name}"
    split = {name: {file.name for file in files} for name, files in data.splits[0].items()}
    assert [len(split[name]) for name in ("train", "val", "test")] == [9, 1, 2] and len(
        set.union(*split.values())
    ) == 12
    source = data.source("train", 8, torch.device("cpu"))
    batches = [part() for part in source.parts]
    assert source.count == 9 * VIEWS == sum(len(batch.pictures) for batch in batches) * STEPS
    assert {batch.fps for batch in batches} == {*RATES}
    for pictures, masks, fps in batches:
        assert pictures.shape[1:] == (FRAMES, 3, SIDE, SIDE) and masks.shape == (*pictures.shape[:2], SIDE, SIDE)
        rise = (pictures[:, 1:].float() - pictures[:, :-1].float()).mean((2, 3, 4))  # levels from frame to frame
        # At 8 a second every frame of a file; at 4 and 2 its last one, of 1.375 s, comes before the clip's end.
        assert (rise.sum(1) - {8.0: 7, 4.0: 10, 2.0: 8}[fps]).abs().max() <= 2
    [held] = data.held_out(8, torch.device("cpu")).items()
    assert held[0] == HELD_OUT_CLIPS and held[1].count == 2 * STEPS
