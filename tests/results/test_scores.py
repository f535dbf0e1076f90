"""The one reduction from rows to cases: repeats averaged, missing counted, bounds of what is missing known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.base.errors import DataError
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.elsewhere import read_scores
from llmlab.results.scores import CaseGroups, Metric, score_table
from tests.made_results import made

SHARE = Metric(name="right", low=0.0, high=1.0)
NAN = float("nan")


def table(scores, cases, variants, *, metric=SHARE, golden=None, n_cases=2, n_variants=2, bounds=None):
    ids = [f"q{i}" for i in range(n_cases)]
    return score_table(
        metric,
        scores=np.array(scores, dtype=float),
        case_codes=np.array(cases),
        variant_codes=np.array(variants),
        case_ids=ids,
        variants=[f"v{i}" for i in range(n_variants)],
        groups=CaseGroups.of(ids, golden),
        bounds=bounds,
    )


def test_repeats_of_a_case_become_one_number():
    """Three answers to q0 are one value; the counts remember them."""
    found = table([1, 0, 0, 1, NAN], [0, 0, 0, 0, 1], [0, 0, 0, 1, 1])
    assert found.values[0].tolist() == [1 / 3, 1]
    assert np.isnan(found.values[1]).all()
    assert found.scored.tolist() == [[3, 1], [0, 0]]
    assert found.attempted.tolist() == [[3, 1], [0, 1]]


def test_a_missing_repeat_is_bounded_by_the_metric():
    """One of two answers unscored: the case lies between 0.5 and 1; a case never tried between 0 and 1."""
    found = table([1, NAN, 1], [0, 0, 0], [0, 0, 1])
    assert found.values[0].tolist() == [1, 1]
    low, high = found.pessimistic([0, 1])
    assert low.tolist() == [[0.5, 1], [0, 0]]
    assert high.tolist() == [[1, 1], [1, 1]]
    assert found.pessimistic([1], np.array([True, False])) is None
    assert table([1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1]).pessimistic([0, 1]) is None


def test_what_nothing_bounds_is_taken_beyond_the_worst_answer_of_the_arms_that_are_read():
    """A repeat of its own, not the mean of a case; a variant that is not compared does not count; nor an own bound."""
    metric, scores = Metric(name="s", low=0.0), [1, 5, 2, 3, NAN, 90]
    found = table(scores, [0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 1, 2], n_variants=3, metric=metric)
    assert [end[1].tolist() for end in found.pessimistic([0, 1])] == [[2, 0], [2, 5 + 1.5 * np.std([1, 5, 2])]]
    assert found.pessimistic([1, 2])[1][1].tolist() == [90, 90]
    assert found.assumed([0, 1])
    assert not found.assumed([0])
    own = (np.array([NAN, NAN, NAN, NAN, 4, NAN]), np.array([NAN, NAN, NAN, NAN, 7, NAN]))
    bounded = table(scores, [0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 1, 2], n_variants=3, metric=metric, bounds=own)
    assert [end[1].tolist() for end in bounded.pessimistic([0, 1])] == [[2, 4], [2, 7]]
    assert not bounded.assumed([0, 1])
    assert table([NAN, NAN], [0, 0], [0, 1], metric=metric).pessimistic([0, 1]) is None


@pytest.mark.parametrize("score", [1.5, -0.1, float("inf")])
def test_a_score_out_of_bounds_is_refused(score):
    with pytest.raises(DataError, match="row 2"):
        table([1, score], [0, 1], [0, 0])


def test_clusters_and_tags_come_from_the_golden_set():
    """Cases of one cluster share a code; a case without one is its own, whatever it is called."""
    cases = [("q0", "doc", ("a",)), ("q1", "doc", ("a", "b")), ("q2", None, ()), ("doc", None, ())]
    golden = GoldenSet(tuple(Case(id=i, inputs={"q": i}, cluster=c, tags=t) for i, c, t in cases))
    groups = CaseGroups.of([i for i, _, _ in cases], golden)
    assert groups.clusters.tolist() == [0, 0, 1, 2]
    assert groups.clustered
    assert not CaseGroups.of(["q0", "q2"], golden).clustered
    found = table([1, 1], [0, 1], [0, 0], golden=golden)
    assert {tag: mask.tolist() for tag, mask in found.categories().items()} == {"a": [True, True], "b": [False, True]}


def test_a_part_of_cases_has_the_clusters_and_weights_that_it_would_have_alone():
    """Cases that all weigh the same are not said to be weighted, as they are not where the part is read with texts."""
    every = CaseGroups.of_columns(["a", "a", None], tags=[("x",), (), ()], weights=np.array([2.0, 2.0, 1.0]))
    parts = [every.taken(np.array(places)) for places in ([0, 1], [2, 1])]
    assert [(part.clusters.tolist(), part.clustered) for part in parts] == [([0, 0], True), ([0, 1], False)]
    assert (parts[0].weights, parts[0].tags) == (None, (("x",), ()))
    assert parts[1].weights.tolist() == [1.0, 2.0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0, NAN])), min_size=1))
def test_counts_and_bounds_hold_for_any_rows(rows):
    """Every row is counted once, and the value lies between its bounds."""
    cases, variants, scores = zip(*rows, strict=True)
    found = table(scores, cases, variants, n_cases=5, n_variants=3)
    assert found.attempted.sum() == len(rows)
    assert found.scored.sum() == np.count_nonzero(~np.isnan(scores))
    if (ends := found.pessimistic([0, 1, 2])) is not None:
        known, (low, high) = ~np.isnan(found.values), ends
        assert (low[known] <= found.values[known] + 1e-12).all()
        assert (found.values[known] <= high[known] + 1e-12).all()
        assert not np.isnan(low).any()


def test_the_noise_between_repeats_is_that_of_the_variance_decomposition():
    """Pooled within cases, per variant, `np.var` of each case averaged; its share of a mean falls with the repeats."""
    scores = np.random.default_rng(2).integers(0, 2, (2, 20, 3)).astype(float)
    table = made({"a": scores[0].ravel().tolist(), "b": scores[1].ravel().tolist()}, repeats=3).table("right")
    within = scores.var(axis=2, ddof=1).mean(axis=1)
    assert table.within == pytest.approx(within)
    noise, repeats = table.repeat_noise(np.ones(20, dtype=bool), [0, 1])
    assert (noise, repeats) == (pytest.approx(within.sum() / 3), pytest.approx(3))
    assert made({"a": [1.0, 0.0], "b": [0.0, 1.0]}).table("right").within is None


def test_the_means_of_a_file_count_a_case_as_often_as_its_weight_says(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("id,w,v1,v2\na,97,1,1\nb,1,0,1\nc,1,0,1\nd,1,0,0\n", encoding="utf-8")
    scores = read_scores(path, id="id", baseline="v1", candidates=["v2"], weight="w").to_frame()
    assert dict(zip(scores["variant"], scores["mean"], strict=True)) == pytest.approx({"v1": 0.97, "v2": 0.99})
