import numpy as np
import pytest

from foresight.errors import InputError
from foresight.metrics.intervals import RESAMPLES, Interval, bootstrap, bootstraps


@pytest.mark.parametrize("count", [12, 50])
def test_bootstrap_by_hand(count):
    values = np.random.default_rng(1).gamma(2, 0.1, count)
    mean, low, high = bootstrap(values)
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    golden = np.quantile(values[draws].mean(1), [0.025, 0.975])
    assert mean == values.mean()
    assert (low, high) == pytest.approx(tuple(golden), rel=1e-9)
    assert bootstrap(values) == (mean, low, high) != bootstrap(values, seed=1)


def test_columns_have_the_intervals_that_each_has_alone():
    rng = np.random.default_rng(2)
    columns = [rng.normal(k, 1, count) for k, count in enumerate((40, 3, 40, 1, 30, 3))]
    for column, (mean, low, high) in zip(columns, bootstraps(columns), strict=True):
        assert mean == column.mean() and (low, high) == pytest.approx(bootstrap(column)[1:])


def test_many_values_are_resampled_in_parts():
    values = np.random.default_rng(1).gamma(2, 0.1, 1500)  # 2,666 resamples at a time, and then the rest
    draw = np.random.default_rng(0)
    golden = [values[draw.integers(1500, size=(1000, 1500))].mean(1) for _ in range(RESAMPLES // 1000)]
    assert bootstrap(values)[1:] == pytest.approx(tuple(np.quantile(golden, [0.025, 0.975])), rel=1e-9)


def test_one_value_makes_no_interval():
    assert bootstrap([0.25]) == (0.25, None, None)


def test_bootstrap_covers_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        _, low, high = bootstrap(rng.normal(0.5, 0.1, 40))
        covered += low <= 0.5 <= high
    assert 0.89 <= covered / 200 <= 0.985


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0]]])
def test_bootstrap_refuses_what_has_no_mean(values):
    with pytest.raises(InputError, match="finite value"):
        bootstrap(values)


def test_an_interval_in_words():
    assert str(Interval(0.2439, 0.2313, 0.2562)) == "0.244 [0.231, 0.256]"
    assert str(Interval(0.2439, None, None)) == "0.244 (n = 1)"
