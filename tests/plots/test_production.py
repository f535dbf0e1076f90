"""Pictures of a rollout say what was found, with every interval and margin in them."""

import pytest

from llmlab import plots
from llmlab.production.decide import decide
from tests.production.made import DIGESTS, on_day, policy, traffic


def looks(days, **given):
    frame = traffic(seed=2, days=14, **given)
    return [decide(policy(), frame, digests=DIGESTS, now=on_day(day)) for day in days]


def test_the_outcomes_of_a_rollout_are_a_forest_with_a_margin_each():
    """Named in the title and in the alt text."""
    (decision,) = looks([14], errors=(0.01, 0.02))
    figure = plots.outcomes(decision)
    assert figure._suptitle.get_text() == "REVERT: error_rate got worse"
    assert decision.sentence in figure.alt
    shares, cost = figure.axes
    assert {round(line.get_xdata()[0], 2) for line in shares.lines if line.get_linestyle() == ":"} == {1.0}
    assert len(shares.get_yticks()) + len(cost.get_yticks()) == len(decision.readings)


def test_the_boundary_is_the_interval_at_every_look():
    """With the margin, the first decision, and nothing below 50 units per arm."""
    decisions = looks([0.1, *range(1, 15)], errors=(0.01, 0.03))
    figure = plots.boundary(decisions)
    day = next(decision.days for decision in decisions if decision.action == "REVERT")
    assert f"error_rate: REVERT on day {day:.0f}" in figure._suptitle.get_text()
    assert "14 looks" in figure.alt
    with pytest.raises(ValueError, match="no look"):
        plots.boundary(decisions[:1])
