"""Which cases to look at first: those that flipped, and the worst."""

import pytest

from tests.made_results import made


def test_flips_are_counted_harmed_first():
    """Good from the middle of the range; both answers beside each other."""
    found = made({"v1": [1.0, 1.0, 0.0, 0.0, 0.5], "v2": [1.0, 0.0, 1.0, None, 0.6]}).flips("v1", "v2")
    assert [flip.case_id for flip in found.flips] == ["q001", "q002"]
    assert (len(found), len(found.harmed), len(found.mended)) == (2, 1, 1)
    assert (found.flips[0].before_text, found.flips[0].after_text) == ("1.0", "0.0")
    assert "1 case became good, 1 became bad and 2 stayed" in str(found)
    assert "1 case without a score in both" in str(found)
    none = made({"v1": [1, 0], "v2": [1, 0]}).flips("v1", "v2")
    assert str(none).startswith("From v1 to v2, 0 cases became good")
    assert "2 stayed" in none._repr_html_()


def test_flips_of_a_lower_is_better_metric_turn_around():
    found = made({"v1": [1, 0], "v2": [0, 1]}, higher_is_better=False).flips("v1", "v2")
    assert [flip.became for flip in found.flips] == ["bad", "good"]
    assert "good from 0.5 down" in str(found)


def test_flips_need_a_bounded_metric_and_known_variants():
    with pytest.raises(ValueError, match="no bounds"):
        made({"v1": [1, 2], "v2": [2, 1]}, low=None, high=None).flips("v1", "v2")
    with pytest.raises(ValueError, match="no variant 'v3'"):
        made({"v1": [1, 0], "v2": [0, 1]}).flips("v1", "v3")


def test_worst_are_the_lowest_scored_and_never_the_unscored():
    results = made({"v1": [0.4, None, 0.1], "v2": [0.2, 0.9, 0.3]})
    assert [row["case"] for row in results.worst(2).rows] == ["q002", "q000"]
    assert results.worst(2, variant="v1").case_ids == ("q002", "q000")
    assert "1 unscored answer cannot be ranked" in str(results.worst(2))
    turned = made({"v1": [0.4, 0.1]}, higher_is_better=False)
    assert turned.worst(1).case_ids == ("q000",)
    with pytest.raises(ValueError, match="n == 0"):
        results.worst(0)
    with pytest.raises(ValueError, match="no variant"):
        results.worst(1, variant="v9")


def test_a_threshold_of_ones_own_decides_and_any_change_shows_all_that_moved():
    results = made({"v1": [0.5, 0.9, 0.2, 0.2], "v2": [0.9, 0.7, 0.4, 0.2]})
    assert [flip.case_id for flip in results.flips("v1", "v2", threshold=0.8).flips] == ["q001", "q000"]
    moved = results.flips("v1", "v2", any_change=True)
    became = [(flip.case_id, flip.became) for flip in moved.flips]
    assert became == [("q001", "worse"), ("q000", "better"), ("q002", "better")]
    assert (len(moved.harmed), len(moved.mended), moved.good_when) == (1, 2, None)
    with pytest.raises(ValueError, match="one of the two"):
        results.flips("v1", "v2", threshold=0.8, any_change=True)
    unbounded = made({"v1": [1, 2], "v2": [2, 1]}, low=None, high=None)
    assert len(unbounded.flips("v1", "v2", threshold=1.5)) == len(unbounded.flips("v1", "v2", any_change=True)) == 2


def test_flips_say_what_was_expected_and_why_and_show_fifteen_at_once():
    n = 20
    found = made({"v1": [1] * n, "v2": [0] * n})
    reasons = ["because"] * len(found.frame)
    found = found.with_scores(found.metrics["right"], found.scores("right"), explanations=reasons).flips("v1", "v2")
    assert {(flip.expected, flip.reason) for flip in found.flips} == {("yes", "because")}
    assert found._repr_html_().count("<tr>") == 1 + 15
    assert "5 more" in found._repr_html_()
    assert len(found.to_frame()) == n
