"""Grid effects: equality with paired differences, statsmodels as oracle, planted effects."""

import math
from pathlib import Path

import numpy as np
import pytest

from llmlab.base.errors import DataError
from llmlab.stats.grid import grid_effects

LIVEBENCH = Path(__file__).parents[2] / "../shared/data/livebench_items.csv"


def _grid(cases, levels, seed=0, repeats=1):
    """Long arrays of a balanced grid: case ids and one column of levels per factor."""
    rows = np.array(list(np.ndindex(cases, *levels, repeats)))
    factors = {name: [f"{name}{i}" for i in rows[:, 1 + k]] for k, name in enumerate("pmt"[: len(levels)])}
    return rows, factors, np.random.default_rng(seed)


def test_two_level_factor_on_balanced_data_equals_the_paired_difference():
    """Value, standard error and degrees of freedom of a paired t-test, whatever else is in the grid."""
    rows, factors, rng = _grid(25, (2, 3))
    scores = rng.normal(0, 1, len(rows)) + 0.4 * rows[:, 1] + rng.normal(0, 2, 25)[rows[:, 0]]
    fit = grid_effects(scores, cases=rows[:, 0], factors=factors)
    cube = scores.reshape(25, 2, 3)
    difference = cube[:, 1].mean(axis=1) - cube[:, 0].mean(axis=1)
    effect = fit["p=p1"]
    assert fit.balanced
    assert effect.value == pytest.approx(difference.mean())
    assert effect.se == pytest.approx(difference.std(ddof=1) / math.sqrt(25))
    assert effect.df == pytest.approx(24)


def test_clustered_two_level_factor_gives_the_clustered_paired_answer():
    """LiveBench, two models by 18 tasks: d .030564, CR2 SE .0195841, df 13.5088, p .14172."""
    if not LIVEBENCH.exists():
        pytest.skip("livebench_items.csv is not in ../shared/data")
    pd = pytest.importorskip("pandas")
    items = pd.read_csv(LIVEBENCH)
    models = ["gpt-4o-2024-08-06", "claude-3-5-sonnet-20240620"]
    fit = grid_effects(
        items[models].to_numpy().ravel(),
        cases=np.repeat(items.question_id.to_numpy(), 2),
        factors={"model": models * len(items)},
        clusters=np.repeat(items.task.to_numpy(), 2),
    )
    effect = fit.effects[0]
    assert (effect.value, effect.se) == pytest.approx((0.030564, 0.0195841), abs=1e-6)
    assert (effect.df, effect.p_value) == pytest.approx((13.5088, 0.14172), abs=1e-4)
    assert (effect.low, effect.high) == pytest.approx((-0.011583, 0.072711), abs=1e-6)


def test_coefficients_agree_with_statsmodels_on_unbalanced_data():
    """OLS with a dummy for every case."""
    smf = pytest.importorskip("statsmodels.formula.api")
    pd = pytest.importorskip("pandas")
    rows, factors, rng = _grid(30, (2, 2))
    scores = rng.normal(0, 1, len(rows)) + 0.5 * rows[:, 1] * rows[:, 2]
    scores[[3, 17, 60]] = np.nan
    fit = grid_effects(scores, cases=rows[:, 0], factors=factors)
    frame = pd.DataFrame({"y": scores, "case": rows[:, 0], "a": rows[:, 1] - 0.5, "b": rows[:, 2] - 0.5}).dropna()
    oracle = smf.ols("y ~ a * b + C(case)", frame).fit()
    assert not fit.balanced
    assert (fit.rows, fit.rows_attempted) == (117, 120)
    for name, term in (("p=p1", "a"), ("m=m1", "b"), ("p=p1 x m=m1", "a:b")):
        assert fit[name].value == pytest.approx(oracle.params[term])


def test_a_planted_interaction_is_recovered_and_said():
    rows, factors, rng = _grid(200, (2, 2, 2), repeats=2)
    scores = rng.normal(0, 0.2, len(rows)) + 0.1 * rows[:, 1] + 0.3 * rows[:, 1] * rows[:, 2]
    fit = grid_effects(scores, cases=rows[:, 0], factors=factors)
    assert fit["p=p1 x m=m1"].value == pytest.approx(0.3, abs=0.03)
    assert fit["p=p1"].value == pytest.approx(0.25, abs=0.02)
    assert "is 0." in fit["p=p1 x m=m1"]._sentence()
    assert "higher with m m1 than with m m0" in fit["p=p1 x m=m1"]._sentence()
    assert fit["t=t1"]._sentence().startswith("No difference shown between t t1 and t t0")
    assert len(fit.to_frame()) == 6


def test_repeats_are_not_cases():
    """Copying every row as a repeat changes neither the value nor its uncertainty."""
    rows, factors, rng = _grid(12, (2,))
    scores = rng.normal(0, 1, len(rows))
    once = grid_effects(scores, cases=rows[:, 0], factors=factors)
    factors_twice = {name: column * 2 for name, column in factors.items()}
    twice = grid_effects(np.tile(scores, 2), cases=np.tile(rows[:, 0], 2), factors=factors_twice)
    assert twice["p=p1"].se == pytest.approx(once["p=p1"].se)
    assert twice["p=p1"].df == pytest.approx(once["p=p1"].df)


def test_missing_combinations_and_single_levels_are_named():
    with pytest.raises(DataError, match="p=p1, m=m1"):
        grid_effects(
            [1.0, 2.0, 3.0] * 4,
            cases=np.repeat(np.arange(4), 3),
            factors={"p": ["p0", "p1", "p0"] * 4, "m": ["m0", "m0", "m1"] * 4},
        )
    with pytest.raises(DataError, match="factor 'p'"):
        grid_effects([1.0, 2.0], cases=[1, 2], factors={"p": ["a", "a"]})
    with pytest.raises(DataError, match="two clusters"):
        grid_effects([1.0, 2.0, 1, 2], cases=[1, 1, 2, 2], factors={"p": list("abab")}, clusters=[1, 2, 3, 3])
    with pytest.raises(DataError, match="fewer than 2 clusters"):
        grid_effects([1.0, 2.0], cases=[1, 1], factors={"p": ["a", "b"]})


def test_an_effect_equal_in_every_case_says_so_without_nan():
    fit = grid_effects([0, 1, 1, 2, 3, 4], cases=[1, 1, 2, 2, 3, 3], factors={"p": list("ababab")})
    assert "the same in every case" in str(fit["p=b"])
    ties = grid_effects([0, 0, 1, 1, 3, 3], cases=[1, 1, 2, 2, 3, 3], factors={"p": list("ababab")})
    assert ties["p=b"].p_value == 1.0
    assert "Few clusters" in str(ties)
