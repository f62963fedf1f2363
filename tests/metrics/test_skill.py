import numpy as np
import pytest

from foresight.metrics.baselines import meets_target, skill, skill_of_means


def test_skill_by_hand():
    assert skill("lpips", 0.1, blank=0.3, oracle=0.05) == pytest.approx(0.8)  # less is better
    assert skill("ssim", 0.85, blank=0.9, oracle=1.0) == pytest.approx(-0.5)  # worse than a blank page
    assert skill("lpips", 0.3, 0.3, 0.05) == 0 and skill("lpips", 0.05, 0.3, 0.05) == 1
    assert skill("ssim", 0.5, 0.9, 0.9) is None and skill("mask_iou", None, 0.0, 0.99) is None
    # An oracle that is worse than a blank page leaves nothing to gain: a fine strip of photo.
    assert skill("ssim", 0.293, 0.333, 0.287) is None and skill("lpips", 0.4, 0.3, 0.35) is None


def test_targets():
    assert meets_target("lpips", 0.34) and not meets_target("lpips", 0.35)
    assert meets_target("ssim", 0.76) and not meets_target("mask_iou", 0.60)


def test_the_skill_of_means_is_of_what_all_three_have():
    scores, nan = np.array([[0.1, 0.3, 0.5], [0.3, 0.1, 0.5]]), float("nan")
    assert skill_of_means("lpips", scores, [0.4, 0.4, nan], [0.0, 0.0, 0.0]) == pytest.approx(0.5)
    assert skill_of_means("ssim", [None, 0.5], [0.5, None], [1.0, 1.0]) is None
