"""Effects of factors, differences of quantiles, costs per success: oracles, and errors that clusters cannot fool."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from llmlab.base.errors import DataError
from llmlab.stats.effects import factor_effects, quantile_difference, ratio_change, ratio_of_sums
from llmlab.stats.paired import mean_difference

GRID = {"prompt": ["v1"] * 3 + ["v2"] * 3, "model": ["a", "b", "c"] * 2}
UNEVEN = np.repeat(np.arange(10), [200] + [20] * 9)


def scores(seed, codes, rng_sd=1.0):
    rng = np.random.default_rng(seed)
    per_group = rng.normal(0, rng_sd, (codes.max() + 1, 6))[codes]
    return per_group + rng.normal(0, 1, (codes.size, 6)) + rng.normal(0, 2, codes.size)[:, None]


def test_a_two_level_factor_is_the_paired_difference_of_its_marginal_means():
    values, codes = scores(0, UNEVEN), UNEVEN
    weights = np.linspace(1, 3, codes.size)
    found = factor_effects(values, factors=GRID, formula="prompt * model", clusters=codes, weights=weights)
    paired = mean_difference(values[:, 3:].mean(axis=1) - values[:, :3].mean(axis=1), codes, weights=weights)
    effect = found["prompt=v2"].difference
    assert (effect.value, effect.se, effect.df, effect.p_value) == pytest.approx(
        (paired.value, paired.se, paired.df, paired.p_value)
    )


def test_coefficients_are_those_of_statsmodels_with_a_constant_per_case():
    """On the long table with C(case); its cluster errors are CR1's, which CR2's equal where clusters have one size."""
    values, codes = scores(1, np.arange(40)), np.repeat(np.arange(8), 5)
    found = factor_effects(values, factors=GRID, formula="prompt * model", clusters=codes)
    table = pd.DataFrame({"y": values.ravel(), "case": np.repeat(np.arange(40), 6), "group": np.repeat(codes, 6)})
    table["p"] = np.tile([-0.5] * 3 + [0.5] * 3, 40)
    table["b"], table["c"] = (np.tile(column, 40) for column in np.tile(np.eye(3) - 1 / 3, (2, 1)).T[1:])
    oracle = smf.ols("y ~ p * (b + c) + C(case)", table).fit(cov_type="cluster", cov_kwds={"groups": table["group"]})
    terms = {"prompt=v2": "p", "model=b": "b", "prompt=v2 x model=c": "p:c"}
    for ours, theirs in terms.items():
        assert found[ours].difference.value == pytest.approx(oracle.params[theirs])
    small_sample = (240 - 1) / (240 - len(oracle.params))
    assert found["prompt=v2"].difference.se * small_sample**0.5 == pytest.approx(oracle.bse["p"])


def test_a_planted_interaction_is_found_and_said():
    values = scores(2, np.arange(200), rng_sd=0.1)
    values[:, 4] += 1.5
    found = factor_effects(values, factors=GRID, formula="prompt * model")
    assert found["prompt=v2 x model=b"].reading == "prompt v2 against prompt v1 gains more with model b than model a"
    assert found["prompt=v2 x model=c"].reading == "no interaction shown"
    assert found["prompt=v2"].reading == "prompt v2 scores higher than prompt v1"
    assert "200 of 200 cases" in str(found)


def test_cases_that_lack_a_variant_are_left_out_and_counted():
    values = scores(3, np.arange(50))
    values[[4, 9], [0, 5]] = np.nan
    found = factor_effects(values, factors=GRID, formula="prompt + model", clusters=np.arange(50) // 2)
    assert (found.effects[0].difference.n, found.n_attempted, len(found.effects)) == (48, 50, 3)


@pytest.mark.parametrize(
    ("formula", "error", "said"),
    [
        ("prompt * index", ValueError, "there are: prompt, model"),
        ("__import__('os')", ValueError, "must be factors"),
        ("prompt * model", DataError, "combinations that are missing"),
    ],
)
def test_what_cannot_be_told_is_refused(formula, error, said):
    with pytest.raises(error, match=said):
        factor_effects(
            scores(4, np.arange(20))[:, [0, 1, 3]],
            factors={k: [v[0], v[1], v[3]] for k, v in GRID.items()},
            formula=formula,
        )


def test_one_large_cluster_among_small_ones_does_not_raise_false_alarms():
    """Nothing differs on average: CR1 with t(G - 1), which statsmodels' cluster errors are, rejects 19% here."""
    draws = (scores(10_000 + i, UNEVEN) for i in range(150))
    shown = [factor_effects(draw, factors=GRID, formula="prompt", clusters=UNEVEN).effects[0] for draw in draws]
    assert np.mean([effect.difference.p_value < 0.05 for effect in shown]) < 0.10


def test_an_effect_that_unscored_answers_could_undo_is_not_shown():
    """The second variant loses its worst tenth; nothing differs."""
    shown = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        whole = rng.random((200, 2))
        lost = whole[:, 1] < 0.1
        seen, low, high = whole.copy(), whole.copy(), whole.copy()
        seen[lost, 1], low[lost, 1], high[lost, 1] = np.nan, 0.0, 1.0
        about = {"factors": {"model": ["a", "b"]}, "formula": "model", "bounds": (0.0, 1.0)}
        assert not factor_effects(whole, **about).effects[0].undone
        shown += "higher" in factor_effects(seen, **about, unscored_at=(low, high)).effects[0].reading
    assert shown <= 1


def test_rare_harm_is_reckoned_with_in_effects_as_in_comparisons():
    """2% fall by .5, the rest gain a little: without bounds t is sure of the gain."""
    scores = np.full((60, 2), 0.5)
    scores[:, 1] += np.where(np.arange(60) % 2, 0.01, 0.012)
    about = {"factors": {"model": ["a", "b"]}, "formula": "model"}
    paired = mean_difference(scores[:, 1] - scores[:, 0], bounds=(-1, 1))
    bounded = factor_effects(scores, **about, bounds=(0.0, 1.0)).effects[0].difference
    assert bounded.p_value == pytest.approx(paired.p_value)
    assert factor_effects(scores, **about).effects[0].difference.p_value < 0.001 < bounded.p_value


# -- differences of quantiles by cluster bootstrap ---------------------------------------------------------------------


def latencies(seed, n=600, slower=0.0):
    rng = np.random.default_rng(seed)
    shared = rng.lognormal(0, 0.4, n)
    return shared + rng.exponential(0.2, n), shared + rng.exponential(0.2, n) + slower


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95])
def test_value_is_numpys_inverted_cdf_quantile(q):
    """The point estimate is `np.quantile(..., method="inverted_cdf")` of each arm, subtracted."""
    a, b = latencies(0)
    expected = np.quantile(b, q, method="inverted_cdf") - np.quantile(a, q, method="inverted_cdf")
    assert quantile_difference(a, b, q=q, seed=0, n_resamples=50).value == pytest.approx(expected)


def test_interval_matches_a_plain_bootstrap():
    """Resampling pairs one by one, in a loop, gives the same interval within noise."""
    a, b = latencies(2, n=300)
    rng, drawn = np.random.default_rng(9), []
    for _ in range(2000):
        rows = rng.integers(0, 300, 300)
        drawn.append(np.subtract(*(np.quantile(x[rows], 0.9, method="inverted_cdf") for x in (b, a))))
    low, high = np.quantile(drawn, [0.025, 0.975])
    result = quantile_difference(a, b, q=0.9, seed=3)
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_lost_answers_took_longer_than_any_and_are_told_where_they_decide():
    a, b = latencies(6, n=400)
    b[np.argsort(b)[-8:]] = np.inf  # the slowest, so that p90 stays what it was
    assert quantile_difference(a, b, q=0.9, seed=0) == quantile_difference(*latencies(6, n=400), q=0.9, seed=0)
    with pytest.raises(DataError, match="lost"):
        quantile_difference(a, b, q=0.975, seed=0)


def test_weights_count_a_row_as_often_as_it_stands_for_and_repeats_share_a_cluster():
    a, b = latencies(7, n=300)
    weights = np.arange(300) % 3 + 1
    twice = np.repeat(np.arange(300), weights)
    weighted = quantile_difference(a, b, q=0.8, seed=0, clusters=np.arange(300), weights=weights)
    copied = quantile_difference(a[twice], b[twice], q=0.8, seed=0, clusters=twice)
    assert (weighted.value, weighted.low, weighted.high) == pytest.approx((copied.value, copied.low, copied.high))
    assert copied.n == 300


def test_too_few_points_beyond_the_quantile_are_refused():
    """p99 of 600 rows rests on six of them; the error says how many are needed."""
    a, b = latencies(5)
    with pytest.raises(DataError, match="1,000 answers are needed"):
        quantile_difference(a, b, q=0.99, seed=0)
    with pytest.raises(DataError, match="3 clusters"):
        quantile_difference(a, b, q=0.5, seed=0, clusters=np.arange(600) % 3)
    with pytest.raises(ValueError, match="pair them by id"):
        quantile_difference(a, b[:-1], q=0.5, seed=0)


@pytest.mark.slow
def test_interval_of_no_difference_covers_zero():
    """300 pairs, p90, 200 runs: about 95% of the intervals hold 0."""
    covered = 0
    for seed in range(200):
        result = quantile_difference(*latencies(seed, n=300), q=0.9, seed=seed, n_resamples=400)
        covered += result.low <= 0 <= result.high
    assert 0.90 <= covered / 200 <= 1.0


def test_a_quantile_over_ten_clusters_keeps_its_interval():
    """Percentiles alone cover 83% of these: few clusters vary less among themselves than their population does."""
    documents, covered = np.repeat(np.arange(10), 20), []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        before, after = (np.exp(rng.normal(0, 0.6, 10)[documents] + rng.normal(0, 0.3, 200)) for _ in range(2))
        change = quantile_difference(before, after, q=0.9, seed=seed, clusters=documents, n_resamples=300)
        covered.append(change.low <= 0 <= change.high)
    assert np.mean(covered) >= 0.9


# -- cost per success: value, interval, comparison of two arms, and where it is undefined ------------------------------


def arm(seed, n=200, cost=1.0, rate=0.7):
    rng = np.random.default_rng(seed)
    return cost * rng.lognormal(0, 0.5, n), (rng.random(n) < rate).astype(float)


def test_standard_error_of_a_constant_cost_is_that_of_the_log_rate():
    """With equal costs the log ratio is -log(rate): SE = sqrt((1 - p) / (p n)), here with n - 1."""
    success = np.r_[np.ones(60), np.zeros(40)]
    result = ratio_of_sums(np.full(100, 0.02), success)
    se = math.sqrt(0.4 / 0.6 / 99)
    assert result.value == pytest.approx(0.02 / 0.6)  # failed attempts are paid for
    assert result.high / result.value == pytest.approx(math.exp(stats.t.ppf(0.975, 99) * se))
    assert result.value / result.low == pytest.approx(result.high / result.value)


def test_change_between_an_arm_and_its_scaled_copy_is_exact():
    """Everything 12% dearer: the ratio is 1.12 without noise, since the cases are the same."""
    cost, success = arm(1)
    result = ratio_change((cost, success), (1.12 * cost, success))
    assert (result.value, result.low, result.high) == pytest.approx((1.12, 1.12, 1.12))
    twice = ratio_of_sums(2 * cost, cost)
    assert (twice.value, twice.low, twice.high) == pytest.approx((2, 2, 2))


def test_clusters_widen_the_interval_of_a_ratio():
    cost, success = (np.repeat(part, 5) for part in arm(7, n=60))
    alone, clustered = ratio_of_sums(cost, success), ratio_of_sums(cost, success, clusters=np.repeat(np.arange(60), 5))
    assert math.log(clustered.high / clustered.low) > 2 * math.log(alone.high / alone.low)


def test_no_success_is_undefined_and_no_cost_is_zero():
    undefined, free = ratio_of_sums([1.0, 2.0], [0, 0]), ratio_of_sums([0.0, 0.0], [1, 1])
    assert undefined.value is None
    assert undefined.low is None
    assert "undefined" in undefined.notes[0]
    assert (free.value, free.low) == (0.0, None)
    with pytest.raises(DataError, match="undefined"):
        ratio_change(([1.0, 2.0], [0, 0]), ([1.0, 2.0], [1, 1]))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="0 or more"):
        ratio_of_sums([-1.0, 2.0], [1, 1])
    with pytest.raises(DataError, match="denominator has 2 values where 3"):
        ratio_of_sums([1.0, 2.0, 3.0], [1, 1])
    with pytest.raises(ValueError, match="pair them by id"):
        ratio_change(([1.0, 2.0], [1, 1]), ([1.0, 2.0, 3.0], [1, 1, 1]))


@pytest.mark.slow
def test_interval_covers_the_true_cost_per_success():
    """30 documents x 5 cases with shared difficulty, 1,000 runs: about 95% cover."""
    rng, documents, covered = np.random.default_rng(8), np.repeat(np.arange(30), 5), 0
    truth = math.exp(0.5 * (0.3**2 + 0.5**2)) / 0.6
    for _ in range(1000):
        cost = np.exp(rng.normal(0, 0.3, 30)[documents] + rng.normal(0, 0.5, 150))
        success = rng.random(150) < np.clip(0.6 + rng.uniform(-0.3, 0.3, 30), 0, 1)[documents]
        result = ratio_of_sums(cost, success, clusters=documents)
        covered += result.low <= truth <= result.high
    assert 0.925 < covered / 1000 < 0.975
