"""Pictures of a rollout and of an alias say what was found, with every interval, margin and move in them."""

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab import plots
from llmlab.production.rollout import decide
from llmlab.registry import History, Move
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


def test_what_nobody_records_is_left_out_of_the_figures_over_time():
    frame = traffic(seed=2, days=2).drop(columns="signals.thumbs")
    figure = plots.over_time(ll.Traces.from_frame(frame))
    said = {axes.get_title(loc="left"): [text.get_text().strip() for text in axes.texts] for axes in figure.axes}
    assert sum("not known" in texts for texts in said.values()) == 2


def test_a_percentile_of_too_few_requests_is_not_drawn():
    """As the table of figures; the label stands where the line ends."""
    frame = traffic(seed=2, days=14)
    day = frame["time"].dt.floor("D")
    few = frame[(day != day.max()) | (frame.groupby(day).cumcount() < 50)]
    axes = plots.over_time(ll.Traces.from_frame(few)).figure.axes[1]
    p50, p95, p99 = (line.get_ydata() for line in axes.lines)
    assert [np.isnan(line[-1]) for line in (p50, p95, p99)] == [False, False, True]
    assert not np.isnan([text.xy[1] for text in axes.texts]).any()
    hour = plots.over_time(ll.Traces.from_frame(frame[day == day.max()].head(15))).figure.axes[1]
    assert (len(hour.lines), [text.get_text() for text in hour.texts]) == (1, ["p50"])


def test_what_nobody_saw_is_in_no_figure_over_time():
    frame = traffic(seed=2, days=2)
    shadow = frame.iloc[:50].assign(
        arm="shadow", status="error", request_id=lambda rows: rows["request_id"] + ":shadow"
    )
    figure = plots.over_time(ll.Traces.from_frame(pd.concat([frame, shadow], ignore_index=True)))
    assert figure._suptitle.get_text().startswith(f"{len(frame):,} requests")
    assert "50 answers of a shadow left out" in figure._suptitle.get_text().replace("\n", " ")


def test_a_few_requests_are_not_said_to_have_come_in_no_time():
    figure = plots.over_time(ll.Traces.from_frame(traffic(seed=2, days=1).head(3)))
    assert figure._suptitle.get_text().startswith("3 requests within a day")


def timeline(*moves, name="qa"):
    """The picture of an alias that these moves, each (version, kind) and more, were made of."""
    about = {"alias": "production", "before": None, "digest": "d", "who": "anna", "reason": "r", "settled": True}
    history = [
        Move(
            number=i + 1,
            follows=i,
            version=version,
            kind=kind,
            when=f"2026-03-{i % 28 + 1:02}T10:00:00+00:00",
            **about | {"forced": False} | dict(*more),
        )
        for i, (version, kind, *more) in enumerate(moves)
    ]
    return plots.timeline(History(name=name, moves=tuple(history)))


def test_the_title_says_what_the_alias_is_and_what_happened():
    """Rollbacks and forced moves are counted; the alt text names each move."""
    figure = timeline((1, "promote"), (2, "promote", {"forced": True}), (1, "rollback"), name="pandas_help")
    title = "production of pandas_help is version 1 after 3 moves (1 rolled back, 1 FORCED)"
    assert " ".join(figure.get_suptitle().split()) == title
    assert "2026-03-02 FORCED PROMOTE to version 2 by anna" in figure.alt
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["version 1", "version 2"]


def test_many_moves_are_cut_to_the_newest_and_an_alias_without_any_is_refused():
    assert len(timeline(*((i, "promote") for i in range(1, 60))).axes[0].get_xticks()) == 40
    with pytest.raises(ValueError, match="never moved"):
        timeline()


def test_hostile_names_are_drawn_as_text():
    """Neither mathtext nor control characters."""
    figure = timeline((1, "promote", {"who": "$\\frac{1}{0$\x1b"}), name="$x_1$\x1b[31m")
    assert figure.png()
    assert "\x1b" not in figure.alt
