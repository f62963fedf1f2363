"""What is said of images and clips that nobody labelled: colours by name, horizons, and what moves where."""

import random

import pytest
import torch
from matplotlib.colors import CSS4_COLORS, to_rgb

from foresight.data.motion import MOTIONS
from training.bundle import clip_lessons, natural_images, observations


@pytest.mark.parametrize(
    ("css", "name"),
    [
        ("black", "black"), ("white", "white"), ("gray", "gray"), ("red", "red"), ("darkorange", "orange"),
        ("saddlebrown", "brown"), ("yellow", "yellow"), ("forestgreen", "green"), ("cyan", "cyan"), ("blue", "blue"),
        ("indigo", "purple"), ("hotpink", "pink"), ("pink", "pink"), ("dimgray", "dark gray"),
    ],
)  # fmt: skip
def test_colours_go_by_their_css_names(css, name):
    assert css in CSS4_COLORS
    assert observations.COLORS[observations.color_names(torch.tensor(to_rgb(css)))] == name


def test_an_observation_of_a_known_image():
    image = torch.zeros(1, 3, 90, 90, dtype=torch.uint8)
    image[:, :, :30] = torch.tensor([30, 60, 220], dtype=torch.uint8)[:, None, None]  # a blue third above black
    observed = observations.observe(image)[0]
    assert (
        observed.regions == ["blue"] * 3 + ["black"] * 6 and observed.horizon == 1
    )  # the edge is the middle third's top
    assert (observed.brightness, observed.texture, observations.EDGES[observed.edges]) == ("dark", "plain", "across")
    assert observations.describe(observed).startswith("The image is dark and plain, mostly black, with blue.")
    assert observations.observe(image.transpose(2, 3))[0].horizon is None
    named = observations.read_region_colors(observations.region_colors(observed))
    assert list(named) == list(observations.REGIONS) and list(named.values()) == observed.regions


def test_answers_about_regions_are_those_of_the_observation():
    images = natural_images.procedural(6, 64, torch.Generator().manual_seed(0))
    draw = random.Random(0)
    for observed in observations.observe(images):
        for question, answer in (observations.short_question(observed, draw) for _ in range(30)):
            if question.startswith("What color is the "):
                region = question.removeprefix("What color is the ").rstrip("?")
                assert answer == f"The {region} is mostly {observed.regions[observations.REGIONS.index(region)]}."


def test_noise_falls_off_as_natural_images_do():
    noise = natural_images.spectral_noise(16, 64, torch.Generator().manual_seed(0)).float().mean(1)
    spectrum = torch.fft.rfft2(noise - noise.mean((1, 2), True)).abs().mean(0)[0, 2:24].log()
    frequency = torch.arange(2, 24).float().log()
    slope = torch.cov(torch.stack([frequency, spectrum]))[0, 1] / frequency.var()
    assert -2.1 < slope < -0.7  # 1/f^a, a from 0.8 to 2


def test_crops_of_photos_are_drawn_by_their_seed_and_change_colours():
    photo = torch.zeros(3, 80, 60, dtype=torch.uint8)
    photo[0] = 200
    crops = [natural_images.photo_crops([photo], 8, 32, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])
    assert crops[0].shape == (8, 3, 32, 32) and len({tuple(c[:, 16, 16].tolist()) for c in crops[0]}) > 4


def test_what_is_said_of_a_moving_object_is_where_it_goes():
    images, sentences = clip_lessons.moving_scenes(40, 3, torch.device("cpu"))
    assert images.shape == (40, clip_lessons.FRAMES, 3, clip_lessons.SIDE, clip_lessons.SIDE)
    clips = clip_lessons.take_motion(40, 3, clip_lessons.MOVING, "train")
    moved = 0
    for i, turns in enumerate(sentences):
        for j in range(int(clips.first.count[i])):
            name, motion = clips.first.label(i, j), MOTIONS[int(clips.motion[i, j])]
            if motion in ("translation", "occlusion") and (heading := clips.heading(i, j)):
                centres = clips.centres()[i, :, j]
                assert ("right" in heading) <= bool(centres[-1, 0] > centres[0, 0])
                assert ("up" in heading) <= bool(centres[-1, 1] < centres[0, 1])  # y is downwards
                assert f"the {name} moves {heading}" in turns[1].answer
                moved += 1
    assert moved > 10


def test_a_camera_is_said_to_go_where_its_windows_go():
    photo = natural_images.procedural(1, 256, torch.Generator().manual_seed(0))[0]
    clips, sentences = clip_lessons.camera_moves([photo], 12, 0)
    assert clips.shape == (12, clip_lessons.FRAMES, 3, clip_lessons.SIDE, clip_lessons.SIDE)
    assert len({turns[1].answer for turns in sentences}) > 3
