"""The timeline of a released bundle: which version an alias pointed to after each move."""

from __future__ import annotations

from matplotlib.axes import Axes

from llmlab.base.cells import plain
from llmlab.base.numbers import counted
from llmlab.plots.drawing import COLOURS, Picture, picture, styled, titled
from llmlab.registry.moves import History, Move

__all__ = ["timeline"]

MOST_MOVES = 40
MARKS = {"promote": ("o", COLOURS["blue"]), "rollback": ("v", COLOURS["vermillion"]), "adopt": ("s", COLOURS["purple"])}
FORCED = ("X", COLOURS["black"])


def timeline(history: History, *, alias: str = "production") -> Picture:
    """The versions that an alias pointed to, move by move; the newest moves where there are many.

    Promotions, rollbacks, adopted and FORCED moves have their own marks, with their day and who made them.

    Raises:
        ValueError: the alias was never moved.
    """
    moves = history.valid(alias)[-MOST_MOVES:]
    if not moves:
        raise ValueError(f"{alias!r} of {history.name} was never moved (there are: {', '.join(history.aliases)})")
    figure, (axes,) = picture(height_inches=3.0)
    _draw(axes, moves)
    listed = "; ".join(f"{move.when[:10]} {move.word} to version {move.version} by {move.who}" for move in moves)
    title = _title(moves, plain(history.name), plain(alias))
    return titled(figure, title, alt=f"Moves of {alias} of {history.name}: {listed}.")


@styled()
def _draw(axes: Axes, moves: tuple[Move, ...]) -> None:
    places = list(range(len(moves)))
    heights = [*(move.version for move in moves), moves[-1].version]
    axes.step([*places, len(moves) - 0.4], heights, where="post", color=COLOURS["grey"])
    for place, move in zip(places, moves, strict=True):
        shape, colour = FORCED if move.forced else MARKS[move.kind]
        axes.plot(place, move.version, shape, color=colour, markersize=8, zorder=3)
        if len(moves) <= 12:
            note = f"{move.word}\n{plain(move.who, 14)}"
            axes.annotate(note, (place, move.version), (5, 6), textcoords="offset points", fontsize=8, color=colour)
    axes.set_xlim(-0.4, len(moves) + 0.1)
    axes.set_xticks(places, [move.when[:10] for move in moves], rotation=0 if len(moves) <= 6 else 60, fontsize=8)
    versions = sorted({move.version for move in moves})
    axes.set_yticks(versions, [f"version {version}" for version in versions])
    axes.margins(y=0.35)
    axes.grid(visible=False, axis="x")


def _title(moves: tuple[Move, ...], name: str, alias: str) -> str:
    counts = {"rolled back": sum(m.kind == "rollback" for m in moves), "FORCED": sum(m.forced for m in moves)}
    noted = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    after = f"after {counted(len(moves), 'move')}{f' ({noted})' if noted else ''}"
    return f"{alias} of {name} is version {moves[-1].version} {after}"
