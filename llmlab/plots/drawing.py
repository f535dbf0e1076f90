"""What every figure is drawn with: one look, names that fit, and a `Picture` that shows itself with its alt text."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from llmlab.base.cells import plain

# Okabe & Ito (2008): told apart with any common colour blindness, and in grey print
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "black": "#000000",
    "grey": "#767676",
}
CYCLE = tuple(COLOURS[name] for name in ("blue", "orange", "green", "vermillion", "purple", "sky", "black"))
_OTHER_SCRIPTS = (  # matplotlib takes each sign from the first that has it
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR"),
    *("Noto Sans", "Arial Unicode MS", "Hiragino Sans", "PingFang SC", "Heiti TC", "Apple SD Gothic Neo"),
    *("Yu Gothic", "MS Gothic", "Microsoft YaHei", "SimHei", "Malgun Gothic"),
    *("IPAexGothic", "IPAGothic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "NanumGothic", "Droid Sans Fallback"),
)
_INSTALLED = frozenset(font.name for font in fontManager.ttflist)
_STYLE: Mapping[str, Any] = {
    "font.family": ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in _INSTALLED)],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "text.parse_math": False,  # a variant called $x$ is a name, not a formula
}
WIDTH_INCHES = 7.0
LONGEST_LABEL_CHARS = 90
_TITLE_LINE_CHARS = 74


class Picture(Figure):
    """A figure that shows itself in a notebook as a PNG with its alt text."""

    alt: str = ""

    def png(self) -> bytes:
        """The figure as PNG bytes, 700 pixels wide and up."""
        target = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the alt text has the name
            FigureCanvasAgg(self).print_png(target, metadata={"Description": self.alt, "Software": "llmlab"})
        return target.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        import base64

        png = base64.b64encode(self.png()).decode()
        return {"image/png": png, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


@contextmanager
def styled() -> Iterator[None]:
    """The house style, for as long as something is drawn: around some lines, or as decorator of a function."""
    with mpl.rc_context(dict(_STYLE)):
        yield


@styled()
def picture(
    *, height_inches: float, rows: int = 1, columns: int = 1, **subplots: Any
) -> tuple[Picture, Sequence[Axes]]:
    """An empty picture in the house style, with its axes row by row; `subplots` as of matplotlib."""
    figure = Picture(figsize=(WIDTH_INCHES, height_inches), dpi=120, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **subplots).flat)


def beside(axes: Axes, text: str, at: tuple[float, float], *, colour: str, size: int = 8) -> None:
    """A small text right of a point, in the point's colour."""
    axes.annotate(text, at, xytext=(5, 0), textcoords="offset points", va="center", fontsize=size, color=colour)


@styled()
def titled(figure: Picture, text: str, *, alt: str) -> Picture:
    """The figure with its title (what was found, in at most three lines) and its words for who cannot see it."""
    lines = wrapped(text, _TITLE_LINE_CHARS, lines=3)
    figure.suptitle(lines, x=0.01, ha="left", fontsize=11, fontweight="bold", color=COLOURS["black"])
    figure.alt = plain(alt, None)
    return figure


def wrapped(text: str, width: int, *, lines: int | None = None) -> str:
    """The text in lines of so many characters."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder="…"))


def short_name(text: str, longest: int = LONGEST_LABEL_CHARS) -> str:
    """A name without its middle where it is long: variants of a grid differ at the end."""
    safe = plain(text, None)
    half = longest // 2 - 1
    return safe if len(safe) <= longest else f"{safe[:half]}…{safe[-half:]}"


def told_apart(names: Sequence[str], longest: int) -> dict[str, str]:
    """Each name as `short_name`; where that makes two alike, without what all begin and end with."""
    short = {name: short_name(name, longest) for name in names}
    if len(set(short.values())) == len(short):
        return short
    whole = [plain(name, None) for name in names]
    begin, end = _n_alike(whole), _n_alike([name[::-1] for name in whole])
    middles = {name: f"…{safe[begin : len(safe) - end]}…" for name, safe in zip(names, whole, strict=True)}
    short = {name: text if len(text) <= longest else f"{text[: longest - 1]}…" for name, text in middles.items()}
    if len(set(short.values())) == len(short):
        return short
    return {name: f"{i}. {text[: longest - 4]}" for i, (name, text) in enumerate(short.items(), 1)}


def _n_alike(texts: Sequence[str]) -> int:
    """With how many characters all begin."""
    return next((i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), 0)


def arms(value: float, low: float | None, high: float | None, scale: float = 1.0) -> list[list[float]] | None:
    """An interval as matplotlib wants it, None where there is none."""
    if low is None or high is None:
        return None
    return [[(value - low) * scale], [(high - value) * scale]]
