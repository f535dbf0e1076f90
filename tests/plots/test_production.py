"""Pictures of a rollout say what was found, with every interval and margin in them."""

import pytest

import llmlab as ll
from llmlab import plots
from llmlab.production.rollout import decide
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


@pytest.mark.parametrize(("days", "every"), [(14, "By day"), (2, "By hour")])
def test_figures_over_time_mark_releases_and_say_what_is_not_known(days, every):
    """Eight small pictures; the time to the first token was never recorded."""
    frame = traffic(seed=2, days=days)
    figure = plots.over_time(ll.Traces.from_frame(frame), releases={"v2 starts": on_day(1)})
    assert figure._suptitle.get_text().startswith(f"{len(frame):,} requests")
    assert figure.alt.startswith(every)
    assert "v2 starts at 2026-03-03 00:00" in figure.alt
    said = {axes.get_title(loc="left"): [text.get_text().strip() for text in axes.texts] for axes in figure.axes}
    assert len(said) == 8
    assert "not known" in said["time to first token (s)"]
    assert all("v2 starts" in texts for texts in said.values())
    with pytest.raises(ValueError, match="no request"):
        plots.over_time(ll.Traces.from_frame(frame.head(0)))
