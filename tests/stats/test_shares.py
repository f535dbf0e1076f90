"""A share's interval: Wilson's where cases are independent, wider where clusters agree, never outside 0 to 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from llmlab.base.errors import DataError
from llmlab.stats.bounded import share_estimate, share_p_above


def test_without_clusters_it_is_wilsons_interval():
    found = share_estimate([1] * 81 + [0] * 182)
    assert (found.low, found.high) == pytest.approx(proportion_confint(81, 263, method="wilson"), abs=1e-12)


def test_clusters_that_agree_count_as_one_case_each():
    """20 clusters of 10 equal cases tell as much as 20 cases, up to t in place of the normal quantile."""
    once = np.array([1] * 6 + [0] * 14)
    clustered = share_estimate(np.repeat(once, 10), np.repeat(np.arange(20), 10))
    single = share_estimate(once)
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=0.1)
    assert clustered.n == 200


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(cases):
    found = share_estimate([hit for hit, _ in cases], [cluster for _, cluster in cases])
    if len({cluster for _, cluster in cases}) == 1:
        assert found.low is None
        assert "one cluster" in found.notes[0]
    else:
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high > found.low


def test_nominal_95_percent_covers_about_95_percent_with_clusters():
    """30 clusters of 1 to 8 cases whose rates vary (beta-binomial, ICC 1/3), 600 simulations."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(600):
        sizes = rng.integers(1, 9, 30)
        rates = rng.beta(0.4, 1.6, 30)  # mean .2
        hits = rng.random(sizes.sum()) < np.repeat(rates, sizes)
        found = share_estimate(hits, np.repeat(np.arange(30), sizes))
        covered += found.low <= 0.2 <= found.high
    assert 0.92 <= covered / 600 <= 0.985


@pytest.mark.parametrize("sizes", [[10] * 20, [40] + [50] * 13 + [72, 78, 146, 150]])
def test_a_mean_on_the_floor_rarely_clears_it(sizes):
    """Failures of 5%, beta-binomial with ICC .3: one side of the 95% interval is 2.5%; by t it was 25% and 20%."""
    rng, codes, cleared = np.random.default_rng(7), np.repeat(np.arange(len(sizes)), sizes), 0
    for _ in range(400):
        failing = rng.beta(0.05 * 7 / 3, 0.95 * 7 / 3, len(sizes))
        hits = rng.random(codes.size) >= failing[codes]
        found = share_estimate(hits, codes)
        cleared += found.low >= 0.95
        assert (share_p_above(hits, 0.95, clusters=codes) < 0.025) == (found.low > 0.95)
    print(f"{len(sizes)} clusters: {cleared / 400:.1%} clear the floor")
    assert cleared / 400 <= 0.05


def test_other_bounds_are_shares_of_their_range():
    """A rubric of 1 to 5 is read as (x - 1) / 4."""
    levels = np.array([5, 4, 5, 3, 5, 5, 4, 5])
    found, share = share_estimate(levels, bounds=(1, 5)), share_estimate((levels - 1) / 4)
    assert (found.value, found.low, found.high) == pytest.approx(
        (1 + 4 * share.value, 1 + 4 * share.low, 1 + 4 * share.high)
    )
    assert share_p_above(levels, 4, bounds=(1, 5)) == pytest.approx(share_p_above((levels - 1) / 4, 0.75))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_graded_scores_keep_within_0_and_1_too(scores):
    """Shares of facts, rubric levels: the mean lies inside its interval, and neither leaves the range."""
    found = share_estimate(scores)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


@pytest.mark.parametrize("hits", [[], [-0.1, 1.0], [2, 0], [float("nan"), 1]])
def test_what_is_no_share_is_refused(hits):
    with pytest.raises(DataError, match="each between 0 and 1"):
        share_estimate(hits)


@pytest.mark.parametrize("share", [1 / k for k in range(2, 24)])
def test_equal_scores_are_no_certainty_whatever_rounding_makes_of_their_mean(share: float) -> None:
    """Ten thirds have a variance of 1e-33, and an interval as wide as ten halves have."""
    estimate = share_estimate([share] * 10)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low > 0.35
