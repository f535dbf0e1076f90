"""Sentences that a product manager can act on, and that never say more than the numbers."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.numbers import rounded_count
from tests.made_results import made, with_numbers


def sentence(scores, **changes):
    """The one row's sentence."""
    return made(scores, **changes).compare("v1").rows[0].sentence


UP = {"v1": [0.1, 0.2, 0.3, 0.2] * 10, "v2": [0.5, 0.7, 0.6, 0.8] * 10}
DOWN = {"v1": UP["v2"], "v2": UP["v1"]}
APART = {"v1": [0.1, 0.9, 0.3, 0.6] * 5, "v2": [0.9, 0.1, 0.6, 0.3] * 5}
THREE = {"clusters": [f"d{i % 3}" for i in range(40)]}


@pytest.mark.parametrize(
    ("scores", "how", "said"),
    [
        (UP, {}, "v2 is 45 points higher than v1 on right (95% CI 32 to 50), larger than case-sampling noise."),
        (DOWN, {}, "45 points lower than v1 on right (95% CI 32 to 50 lower), larger"),
        (DOWN, {"higher_is_better": False}, "45 points lower than v1"),
        (APART, {}, "Not enough evidence that v2 differs from v1 on right (95% CI -"),
        (APART, {}, " points); with 20 cases a true difference under"),
        (APART, {}, "points is easily missed"),
        (UP, THREE, "3 clusters are too few for a verdict"),
    ],
)
def test_a_difference_is_said_in_points_with_its_interval_and_what_could_have_been_missed(scores, how, said):
    """Higher and lower are the direction of the number; better and worse are the verdict's words."""
    assert said in sentence(scores, **how)


def test_an_interval_on_both_sides_of_zero_names_the_side_of_each_end():
    """Beside "lower", -8 to 3 would have to be worked out."""
    row = made({"v1": [0.5, 0.4, 0.6, 0.5], "v2": [0.4, 0.4, 0.3, 0.6]}).compare("v1", margin=0.1).rows[0]
    assert re.search(r"points lower than v1 on right \(95% CI \d+ lower to \d+ higher\): ", row.sentence)


def test_other_units_are_said_as_they_are():
    results = with_numbers(
        made({"v1": [1] * 10, "v2": [1] * 10}), output_tokens=[10, 30, 11, 32, 9, 31, 10, 30, 11, 33] * 2
    )
    said = results.compare("v1", metrics=["output_tokens"]).rows[0].sentence
    assert "v2 is 21.0 tokens higher than v1 on output_tokens (95% CI 20.3 to 21.7)" in said


@pytest.mark.parametrize(("count", "said"), [(0.4, "1"), (9, "9"), (237.2, "240"), (12_345, "12,000")])
def test_needed_cases_are_said_with_two_digits(count, said):
    """More would promise what nobody knows."""
    assert rounded_count(count) == said


def test_a_comparison_says_findings_first_and_how_last():
    """Many rows and notes are cut, and the cut is said."""
    scores = {"v1": [0.1, 0.9] * 4}
    scores |= {f"w{i}": [0.2, None, 0.8, 0.1, 0.9, 0.3, None, 0.5] for i in range(8)}
    lines = made(scores).compare("v1").lines()
    assert len(lines) == 6 + 1 + 4 + 1 + 1
    assert lines[6] == "The other 2 rows over all cases: see the table."
    assert "4 more such notes" in lines[-2]
    fewer = {name: scores[name] for name in ("v1", *(f"w{i}" for i in range(5)))}
    assert "1 more such note:" in made(fewer).compare("v1").lines()[-2]
    assert "Holm, the family is 8 rows over all cases" in lines[-1]
    assert "cases independent" in lines[-1]


BOUNDS = {"shares": (0, 1), "dollars": (0, None), "grades": (1, 5)}


@given(
    n=st.integers(1, 40),
    kind=st.sampled_from(sorted(BOUNDS)),
    margin=st.sampled_from([None, 0.01, 0.25]),
    clustered=st.booleans(),
    lost=st.integers(0, 2),
    seed=st.integers(0, 5),
)
def test_every_line_is_a_whole_sentence_and_counts_as_people_do(n, kind, margin, clustered, lost, seed):
    """No "1 points", no "0.000000 higher", no NaN, nothing without a full stop; dollars down to 1e-9."""
    rng = np.random.default_rng(seed)
    scores = {
        "shares": rng.integers(0, 2, (2, n)),
        "grades": rng.integers(1, 6, (2, n)),
        "dollars": rng.lognormal(size=(2, n)) * 10.0 ** rng.integers(-9, 5),
    }[kind]
    arms = {arm: row.astype(float).tolist() for arm, row in zip(("v1", "v2"), scores, strict=True)}
    arms["v2"][:lost] = [None] * min(lost, n)
    low, high = BOUNDS[kind]
    results = made(arms, low=low, high=high, clusters=[f"d{i % 7}" for i in range(n)] if clustered else None)
    found = results.compare("v1", margin=None if margin is None else {"right": margin})
    for line in (*found.lines(), *results.summary().lines()):
        assert line.endswith(".")
        assert not re.search(r"(?<![\d.,-])1 (points|cases|answers|clusters|rows)\b", line)
        assert not re.search(r"\bnan\b|\bNone\b|(?<![\d.,])0(\.0+)?( points)? (higher|lower) than", line)
