import pytest

from foresight.inspection.familiarity import READ_WRONG, Separation, separation, unfamiliar


def test_a_warning_is_for_what_is_far_and_read_wrong():
    assert unfamiliar(1.3, 1.2, READ_WRONG + 0.1)
    assert not unfamiliar(1.3, 1.2, READ_WRONG) and not unfamiliar(1.1, 1.2, 0.9) and not unfamiliar(1.3, 1.2, None)


def test_separation_of_right_and_wrong():
    rows = [(0.8, 1.2, 0.1), (1.0, 1.2, 0.2), (1.3, 1.2, 0.3), (1.1, 1.2, 0.5), (1.9, 1.2, 0.6)]
    # Of 3 × 2 pairs, only the third picture is farther than a wrong one.
    assert separation(rows) == Separation(pytest.approx(5 / 6), pictures=5, wrong=2, missed=1, alarms=1)
    assert separation(rows, bar=0.05).auc is None
    assert separation([]) == Separation(None, 0, 0, 0, 0)
