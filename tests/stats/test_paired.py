"""The paired difference: known answers, oracles, degenerate input, traps and a coverage simulation."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.stats.burdens import non_inferior
from llmlab.stats.estimate import reduce_repeats
from llmlab.stats.paired import mean_difference, relative_margin_difference
from tests import real_data
from tests.stats.made import counted, table


@pytest.mark.parametrize(
    ("category", "p_value"),
    [
        ("coding", 0.00136),
        ("data_analysis", 0.0161),
        ("math", 0.0205),
        ("language", 0.107),
        ("reasoning", 0.107),
        ("instruction_following", 0.537),
    ],
)
def test_livebench_non_inferiority_by_category(category, p_value):
    """Margin 0.02, unclustered; `scipy.stats.ttest_1samp(d + m, 0, alternative="greater")` agrees."""
    from scipy import stats

    asked = real_data.livebench().query("category == @category")
    d = asked[real_data.SONNET] - asked[real_data.GPT]
    found = mean_difference(d)
    assert found.p_above(-0.02) == pytest.approx(p_value, rel=6e-3)
    assert found.p_above(-0.02) == pytest.approx(stats.ttest_1samp(d + 0.02, 0, alternative="greater").pvalue, rel=1e-9)
    between_bounds = mean_difference(d, bounds=(-1, 1))
    assert p_value * 0.99 <= between_bounds.p_above(-0.02) < p_value + 0.01  # many cases differ: near t
    for one in (found, between_bounds):
        assert (non_inferior(one, margin=0.02) == "PASS") == (p_value < 0.05)


@given(
    d=st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=9, max_size=40).filter(
        lambda x: len(set(x)) > 1 and np.count_nonzero(x) >= 7
    )
)
def test_independent_cases_match_scipy(d):
    """`ttest_1samp` is the oracle for value, p and interval, where 7 cases or more differ."""
    from scipy import stats

    oracle, result = stats.ttest_1samp(d, 0), mean_difference(d)
    assert result.p_value == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)
    assert (result.low, result.high) == pytest.approx(tuple(oracle.confidence_interval()), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("up", "down"), [(4, 0), (5, 0), (5, 1), (0, 6), (2, 2)])
@pytest.mark.parametrize("bounds", [None, (-1.0, 1.0)])
def test_of_few_pass_fail_cases_that_differ_p_is_at_least_mcnemars_exact_one(up, down, bounds):
    """`binomtest` is the oracle. By t alone 4 of 100 that all differ one way are p .045, exactly they are .125."""
    from scipy import stats

    result = mean_difference(table(up, down, 100), bounds=bounds)
    exact = stats.binomtest(up, up + down).pvalue
    assert result.p_value >= exact - 1e-12
    assert result.p_value == pytest.approx(exact, abs=0.02 if up + down == 6 else 1e-9)
    assert min(result.p_above(0), result.p_below(0)) >= exact / 2 - 1e-12


@pytest.mark.parametrize("n", [10, 27, 60])
def test_with_so_few_cases_no_difference_is_rejected_in_at_most_six_percent(n):
    """By enumeration, each case that differs as likely up as down, where up to 95% of the cases differ."""
    from scipy import stats

    rejected = [0.0] * (n + 1)
    for differ in range(1, n + 1):
        ups = [up for up in range(differ // 2 + 1) if counted(up, differ - up, n).p_value <= 0.05]
        rejected[differ] = 2 * sum(stats.binom.pmf(ups, differ, 0.5))
    for share in np.arange(0.05, 0.96, 0.05):
        assert stats.binom.pmf(np.arange(n + 1), n, share) @ rejected <= 0.06


@pytest.mark.parametrize("differ", [7, 8, 9, 11, 14, 20, 21, 40, 100])
def test_from_seven_on_p_is_mcnemars_mid_p_where_it_decides(differ):
    """Of 300 cases; by McNemar's exact test 8 that differ would never be shown 7 to 1 (p .07, mid-p .039)."""
    from scipy import stats

    for up in range(differ // 2):
        mid_p = 2 * stats.binom.cdf(up, differ, 0.5) - stats.binom.pmf(up, differ, 0.5)
        if not 0.04 < mid_p < 0.06:
            assert (counted(up, differ - up, 300).p_value <= 0.05) == (mid_p <= 0.05)


def test_a_cluster_flips_as_a_whole():
    """Five documents of 20 cases that all gain: 2 of 32 patterns."""
    rng = np.random.default_rng(0)
    d = rng.uniform(0.1, 0.2, 100)
    result = mean_difference(d, np.repeat(np.arange(5), 20))
    assert result.p_value == 2 / 32
    assert result.low == 0.0


@given(d=st.lists(st.floats(-5, 5), min_size=3, max_size=30), margin=st.floats(-1, 1))
def test_swapping_the_arms_turns_everything_round(d, margin):
    """Baseline and candidate exchanged: signs flip, p values swap sides."""
    one, other = mean_difference(d), mean_difference([-x for x in d])
    assert one.value == pytest.approx(-other.value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)
    assert one.p_above(margin) == pytest.approx(other.p_below(-margin))


GRADED = st.lists(st.floats(-1, 1), min_size=4, max_size=20).filter(lambda x: np.std(x) > 1e-6)
STEPPED = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0]), min_size=3, max_size=12)


@pytest.mark.parametrize("bounds", [None, (-1, 1)])
@given(d=GRADED | STEPPED, level=st.floats(0.5, 0.999))
def test_intervals_and_p_values_agree_at_every_level(bounds, d, level):
    """0 lies outside the interval where p is below 1 - level, and PASS stands where the 90% one clears the margin."""
    result = mean_difference(d, bounds=bounds, level=level)
    if result.se and abs(result.p_value - (1 - level)) > 1e-6:
        assert (result.p_value < 1 - level) == (not result.low <= 0 <= result.high)
    for other in (0.9, 0.99):
        low, high = result.ends(other)
        if result.se:  # at 0 by their signs
            assert result.p_above(low) == pytest.approx((1 - other) / 2, abs=1e-6) or low in (-1, 0)
            assert result.p_below(high) == pytest.approx((1 - other) / 2, abs=1e-6) or high in (0, 1)
        assert result.turned.ends(other) == pytest.approx((-high, -low))
        read, computed = result.interval(other), mean_difference(d, bounds=bounds, level=other)
        assert (read.low, read.high) == pytest.approx((computed.low, computed.high), rel=1e-9, abs=1e-12)
    if abs((p := result.p_above(-0.1)) - 0.05) > 1e-9 and result.df >= 4 and result.se:
        assert (non_inferior(result, margin=0.1) == "PASS") == (p < 0.05) == (result.ends(0.9)[0] > -0.1)


@pytest.mark.parametrize(("d", "said"), [([], "at least 2"), ([0.5], "at least 2"), ([0.1, np.nan, 0.2], "count it")])
def test_too_few_cases_and_missing_ones_are_refused(d, said):
    with pytest.raises(DataError, match=said):
        mean_difference(d)


def test_two_cases_never_show_a_difference():
    for d in ([0.5, 0.501], [0.5, 0.5]):
        assert mean_difference(d).p_value >= 0.5


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e300, -1e300], [1e-300, 2e-300, 0.0], [5.0] * 3])
def test_nothing_shown_is_ever_nan(values):
    result = mean_difference(values)
    assert all(math.isfinite(x) for x in (result.value, result.p_value, result.df))
    assert "nan" not in f"{result!r} {result} {result._repr_html_()}".lower()


def test_a_difference_too_small_to_be_squared_twice_is_none():
    tiny, tie = (mean_difference([1.0, 0.0, 0.0, -loss], bounds=(-1, 1)) for loss in (1e-97, 0.0))
    assert (tiny.low, tiny.high, tiny.p_value) == (tie.low, tie.high, tie.p_value)


def test_relative_margin_counts_the_baselines_noise():
    """The t test of candidate - 1.1 x baseline, by scipy."""
    from scipy import stats

    rng = np.random.default_rng(2)
    base = rng.lognormal(0, 0.5, 80)
    cand = base * rng.normal(1.03, 0.1, 80)
    result = relative_margin_difference(base, cand, margin=0.10)
    assert result.p_below(0) == pytest.approx(stats.ttest_1samp(cand - 1.1 * base, 0, alternative="less").pvalue)
    with pytest.raises(ValueError, match="pair them by id"):
        relative_margin_difference(base, cand[:-1], margin=0.1)


def test_a_mean_that_few_far_off_cases_make_carries_a_note():
    """Without bounds: 1 case of 50 at -50; t passes at a margin of the true harm in 36%, not 5%."""
    even, far = np.random.default_rng(1).normal(0, 1, 50), np.r_[np.random.default_rng(1).normal(0, 1, 49), -50]
    assert mean_difference(even).notes == ()
    assert "far-off" in mean_difference(far).notes[0]
    assert "far-off" in mean_difference(np.repeat(far, 3), np.repeat(np.arange(50), 3)).notes[0]


def test_false_positives_of_clustered_repeated_data_are_five_percent():
    """20 documents x 10 questions x 3 repeats, no difference: rows as cases reject far too often, ours about 5%."""
    rng, runs, naive, ours = np.random.default_rng(7), 1000, 0, 0
    cases, documents = np.repeat(np.arange(200), 3), np.repeat(np.arange(20), 10)
    for _ in range(runs):
        taste = rng.normal(0, 0.10, 20)[documents] + rng.normal(0, 0.15, 200)
        rows = taste[cases] + rng.normal(0, 0.2, 600)
        naive += mean_difference(rows).p_value < 0.05
        ours += mean_difference(reduce_repeats(rows, cases), documents).p_value < 0.05
    assert naive / runs > 0.2
    assert 0.03 < ours / runs < 0.07


# -- p and interval ------------------------------------------------------------------------------------------------

SMALL = st.lists(st.sampled_from([-1.0, -0.6, -0.5, -0.1, 0.0, 0.1, 0.4, 0.5, 1.0]), min_size=3, max_size=25)


@given(SMALL, st.booleans(), st.integers(2, 12), st.sampled_from([0.8, 0.9, 0.95, 0.99]), st.floats(-1.0, 1.0))
@example(values=[-1.0] * 5 + [0.0] * 5, bounded=False, n_clusters=12, level=0.95, share=0.1)
def test_p_and_interval_say_the_same_of_every_bound(values, bounded, n_clusters, level, share):
    """Beyond 0 as at 0: what is not shown to be above 0 is not shown to be above .1 either."""
    clusters = None if n_clusters > len(values) else [i % n_clusters for i in range(len(values))]
    d = mean_difference(values, clusters, bounds=(-1.0, 1.0) if bounded else None, level=level)
    tail = (1 - level) / 2
    assume(d.se > 0 or d.bounded is not None)  # else the interval has no width, which is told
    assert (d.p_value <= 1 - level) == (not d.low <= 0 <= d.high)
    for b in (0.0, share * d.value):
        assume(all(abs(p - tail) > 1e-6 for p in (d.p_above(b), d.p_below(b))))
        low, high = d.ends(level)
        assert (d.p_above(b) < tail, d.p_below(b) < tail) == (low > b, high < b)


@given(SMALL, st.integers(2, 12), st.floats(0.5, 0.9999), st.randoms(use_true_random=False))
@example(values=[-1 / 3, 1 / 3, -2 / 3, 2 / 3, 0.0, 0.0], n_clusters=3, level=0.95, rng=random.Random(4))
@example(values=[0.4, -0.4] * 12, n_clusters=12, level=0.9999, rng=random.Random(1))
def test_no_interval_leaves_the_bounds_and_none_depends_on_the_order_of_the_cases(values, n_clusters, level, rng):
    """At every level and however few the clusters; a mean of 1e-17 is none."""
    cases = [(x, i % n_clusters) for i, x in enumerate(values)]
    assume(len(cases) >= n_clusters)
    d, again = (
        mean_difference(*zip(*some, strict=True), bounds=(-1.0, 1.0)) for some in (cases, rng.sample(cases, len(cases)))
    )
    for one in (d, d.turned):
        low, high = one.ends(level)
        assert -1 <= one.low <= one.high <= 1
        assert -1 <= low <= one.value <= high <= 1
    assert (again.value, again.method) == (pytest.approx(d.value, abs=1e-12), d.method)
    assert (again.low, again.high) == pytest.approx((d.low, d.high), abs=1e-6)
