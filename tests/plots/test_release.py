"""The timeline of an alias: every move is on it, and in its alt text."""

from __future__ import annotations

import pytest

from llmlab.plots import timeline
from llmlab.registry import History, Move


def move(number: int, version: int, kind: str, *, forced: bool = False, who: str = "anna") -> Move:
    return Move(
        number=number,
        alias="production",
        kind=kind,  # type: ignore[arg-type]  # one of the three
        before=None,
        version=version,
        digest="d",
        follows=number - 1,
        who=who,
        when=f"2026-03-{number:02}T10:00:00+00:00",
        reason="r",
        forced=forced,
        settled=True,
    )


def test_the_title_says_what_the_alias_is_and_what_happened() -> None:
    """Rollbacks and forced moves are counted; the alt text names each move."""
    moves = (move(1, 1, "promote"), move(2, 2, "promote", forced=True), move(3, 1, "rollback"))
    figure = timeline(History(name="pandas_help", moves=moves))
    title = "production of pandas_help is version 1 after 3 moves (1 rolled back, 1 FORCED)"
    assert " ".join(figure.get_suptitle().split()) == title
    assert "2026-03-02 FORCED PROMOTE to version 2 by anna" in figure.alt
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["version 1", "version 2"]


def test_lost_moves_are_not_drawn_and_many_moves_are_cut_to_the_newest() -> None:
    """40 fit."""
    moves = tuple(move(i % 28 + 1, i, "promote") for i in range(1, 60))
    figure = timeline(History(name="qa", moves=moves))
    assert len(figure.axes[0].get_xticks()) == 40


def test_hostile_names_are_drawn_as_text() -> None:
    """Neither mathtext nor control characters."""
    figure = timeline(History(name="$x_1$\x1b[31m", moves=(move(1, 1, "promote", who="$\\frac{1}{0$\x1b"),)))
    assert figure.png()
    assert "\x1b" not in figure.alt


def test_an_alias_that_was_never_moved_has_no_timeline() -> None:
    """It says which ones have."""
    with pytest.raises(ValueError, match="never moved"):
        timeline(History(name="qa"))
