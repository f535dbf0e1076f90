"""Effects of a grid's factors: paired differences, statsmodels' coefficients, errors that clusters cannot fool."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from llmlab.base.errors import DataError
from llmlab.stats.effects import factor_effects
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


def false_alarms(draws, seed):
    """Nothing differs on average, one cluster of 200 cases and nine of 20: how often each main effect is p < .05."""
    ours = np.zeros(draws)
    for i in range(draws):
        found = factor_effects(scores(seed * 10_000 + i, UNEVEN), factors=GRID, formula="prompt", clusters=UNEVEN)
        ours[i] = found["prompt=v2"].difference.p_value
    return float((ours < 0.05).mean())


def test_one_large_cluster_among_small_ones_does_not_raise_false_alarms():
    """CR1 with t(G - 1), which statsmodels' cluster errors are, rejects 19% here."""
    assert false_alarms(150, seed=1) < 0.10


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
