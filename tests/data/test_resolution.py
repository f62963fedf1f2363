"""Sizes at which the VLM sees pictures, against transformers' own rule."""

import numpy as np
import pytest
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from foresight.data.resolution import DEFAULT, Resolution
from foresight.errors import InputError

SIDES = [8, 40, 113, 224, 238, 700, 1281, 4000]


def test_one_area_keeps_shape():
    assert DEFAULT.size(224, 224) == DEFAULT.size(1000, 1000) == DEFAULT.size(8, 8) == (224, 224)
    assert DEFAULT.size(300, 400) == (196, 252) and DEFAULT.size(400, 300) == (252, 196)
    assert Resolution.area(238**2).size(238, 238) == (224, 224)  # 8.5 tokens round to 8,
    assert Resolution.area(266**2).size(266, 266) == (280, 280)  # 9.5 to 10
    assert DEFAULT.size(8, 1600) == (28, 3164)


@pytest.mark.parametrize("pixels", [56 * 56, 224 * 224, 448 * 448, 1280 * 28**2])
def test_one_area_is_kept_and_smart_resize_leaves_it(pixels):
    for height in range(40, 2000, 173):
        for width in range(40, 2000, 171):
            size = Resolution.area(pixels).size(height, width)
            assert smart_resize(*size, min_pixels=28 * 28, max_pixels=10**7) == size
            exact = np.sqrt(pixels / (height * width)) * np.array([height, width])
            assert (abs(np.array(size) - exact) <= np.where(exact < 28, 28, 14) + 1e-9).all()


@pytest.mark.parametrize("limits", [(56**2, 448**2), (56**2, 1280 * 28**2), (56**2, 12_845_056), (400**2, 500**2)])
def test_between_two_areas_it_is_smart_resize(limits):
    for height in SIDES:
        for width in [side for side in SIDES if max(side, height) <= 200 * min(side, height)]:
            known = smart_resize(height, width, min_pixels=limits[0], max_pixels=limits[1])
            assert Resolution(*limits).size(height, width) == known


def test_what_people_write():
    native = Resolution(3136, 10**6)
    for text, least, most in [
        ("448²", 448**2, 448**2),
        (" 448^2 ", 448**2, 448**2),
        ("640 x 480", 640 * 480, 640 * 480),
        ("100000", 10**5, 10**5),
        (50176, 224**2, 224**2),
        ("3136-1003520", 3136, 1003520),
        ("Native", 3136, 10**6),
    ]:
        resolution = Resolution.parse(text, native)
        assert (resolution.least, resolution.most) == (least, most)
        assert Resolution.parse(str(resolution)) == resolution
    assert str(Resolution.area(448**2)) == "448²"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("448", "448 pixels are too few: at least 56² = 3,136 are needed; a side of 448 is written 448²."),
        ("55²", "too few"),
        (0, "too few"),
        ("-5", "no number of pixels"),
        ("", "no number of pixels"),
        ("large", "'large' is no number of pixels: write it such as 448², 100000, 3136-1003520 or native."),
        ("1e5", "no number of pixels"),
        ("999999999", "too many: no picture has more than 24 million"),
        ("5000²", "too many"),
        ("90000-80000", "the least pixels, 90,000, are more than the most, 80,000."),
    ],
)
def test_what_cannot_be_meant_is_refused(text, sentence):
    with pytest.raises(InputError) as error:
        Resolution.parse(text)
    assert sentence in str(error.value)


@pytest.mark.parametrize("resolution", [DEFAULT, Resolution(3136, 10**6)])
def test_what_qwen_refuses_is_refused(resolution):
    assert resolution.size(10, 2000)
    for height, width in ((10, 2010), (2010, 10)):
        with pytest.raises(InputError, match="1:200"):
            resolution.size(height, width)
    with pytest.raises(InputError, match="784"):
        Resolution.area(700)
