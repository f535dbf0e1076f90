"""What the field watches, as one table: traffic, errors, times, tokens, money, checks, feedback, each with its n.

A figure of nothing is missing, never zero; a percentile needs so many requests that one lies beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmlab.base.errors import DataError
from llmlab.base.numbers import counted, number
from llmlab.clients.prices import context_tokens
from llmlab.display.shown import Shown
from llmlab.production.lines import FAILED, LEFT, SIGNAL, cancelled_in, numbers_of, signals_of
from llmlab.stats.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_GROUPS_AT_MOST = 1000
GROUPS_SHOWN, _CODES_SHOWN = 7, 20
DAY = timedelta(days=1)
_SUCCESS = ("conversion", "success", "task_success", "resolved")
_PERIODS = {"hour": "h", "day": "D"}
_COLUMNS = {"unit": "unit_id", "session": "session_id", "model": "served_model"}


class Figure(NamedTuple):
    """A number of a group with what it is over; None where nothing is known."""

    name: str
    value: float | None
    n: int
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Figures(Shown):
    """Figures of production by group.

    Attributes:
        by: what the groups are of, "" = all together.
        groups: (name, its figures), times in order.
        new_codes: error codes that the last day brought, with their number.
        young: signal -> requests left out because they are younger than its maturity.
        problems: how much was wrong with what was read.
        shadows: second answers of a shadow that are left out, because nobody saw them; by arm they are a group.
    """

    by: str
    groups: tuple[tuple[str, tuple[Figure, ...]], ...]
    new_codes: Mapping[str, int]
    young: Mapping[str, int]
    problems: int = 0
    shadows: int = 0

    def __getitem__(self, name: str) -> Figure:
        """The figure of this name, of the last group."""
        return next(figure for figure in self.groups[-1][1] if figure.name == name)

    def to_frame(self) -> pd.DataFrame:
        """One row per group and figure: by, figure, value, n, unit."""
        import pandas as pd

        rows = [(group, *figure) for group, figures in self.groups for figure in figures]
        return pd.DataFrame(rows, columns=["by", "figure", "value", "n", "unit"])

    def _rows(self) -> list[dict[str, object]]:
        shown = self.groups[-GROUPS_SHOWN:]
        if not self.by:
            return [{"figure": f.name, "value": f.value, "unit": f.unit, "n": f.n} for f in shown[0][1]]
        names = dict.fromkeys((figure.name, figure.unit) for _, figures in shown for figure in figures)
        by_name = {group: {figure.name: figure for figure in figures} for group, figures in shown}
        return [
            {"figure": name, "unit": unit, **{group: _cell(by_name[group].get(name)) for group, _ in shown}}
            for name, unit in names
        ]

    def _sentence(self) -> str:
        where = f"{self.groups[-1][0]}: " if self.by else ""
        sentences = [
            f"{where}{counted(figure.n, 'request')}, {number(100 * figure.value)}% of them failed."
            for figure in self.groups[-1][1]
            if figure.name == "error rate" and figure.value is not None
        ]
        sentences += [
            f"{counted(round(figure.n * figure.value), 'request')} {LEFT}."
            for figure in self.groups[-1][1]
            if figure.name == "cancelled" and figure.value
        ]
        if self.shadows:
            answers = counted(self.shadows, "second answer")
            sentences.append(f"{answers} of a shadow left out, costs too: nobody saw them (by arm they stand apart).")
        if self.new_codes:
            codes = ", ".join(f"{code} ({count:,})" for code, count in self.new_codes.items())
            sentences.append(f"Error codes not seen before the last day: {codes}.")
        sentences += [
            f"{name}: {counted(n, 'request')} younger than its maturity left out." for name, n in self.young.items()
        ]
        if len(self.groups) > GROUPS_SHOWN:
            sentences.append(f"The last {GROUPS_SHOWN} of {len(self.groups):,}; to_frame() has all.")
        if self.problems:
            sentences.append(f"{counted(self.problems, 'line')} of the files had problems (`traces.problems`).")
        return " ".join(sentences)


def figures_of(
    frame: pd.DataFrame,
    *,
    by: str | None = None,
    maturity: Mapping[str, timedelta] | None = None,
    now: datetime | None = None,
    problems: int = 0,
) -> Figures:
    """The figures of a frame of requests; `Traces.figures` documents it."""
    if not len(frame):
        raise DataError("no request is there to make figures of")
    shadow = (frame["arm"] == "shadow").to_numpy(bool) & (by != "arm")
    if shadow.all():
        raise DataError("all these requests are second answers of a shadow, which nobody saw: figures('arm') has them")
    frame = frame[~shadow]
    moment = datetime.now(UTC) if now is None else now
    cancelled, code = cancelled_in(frame), frame["error_code"]
    failed = frame["status"].isin(FAILED) & ~cancelled
    by_status = code.where(code != "", frame["status"]).where(failed, "")  # where there is no code
    frame = frame.assign(error_code=by_status, _cancelled=cancelled)
    young: dict[str, int] = {}
    for name, age in (maturity or {}).items():
        column = f"{SIGNAL}{name}"
        if column not in frame:
            raise DataError(f"no signal {name!r} is there (there are: {', '.join(signals_of(frame)) or 'none'})")
        mature = frame["time"] <= moment - age
        young[name] = int((~mature).sum())
        frame[column] = frame[column].where(mature)
        frame[f"_mature.{name}"] = mature
    codes = frame["error_code"][frame["error_code"] != ""].value_counts()
    shown, left = list(codes.index[:_CODES_SHOWN]), bool(frame["_cancelled"].any())
    return Figures(
        by=by or "",
        groups=tuple((name, tuple(_figures(part, shown, left=left))) for name, part in _groups(frame, by)),
        new_codes=_new_codes(frame),
        young={name: n for name, n in young.items() if n},
        problems=problems,
        shadows=int(shadow.sum()),
    )


def _groups(frame: pd.DataFrame, by: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    if by is None:
        return iter((("all", frame),))
    if by in _PERIODS:
        times = frame["time"].dt.floor(_PERIODS[by]).dt.strftime("%Y-%m-%d" if by == "day" else "%Y-%m-%d %H:00")
    elif (column := _COLUMNS.get(by, by)) in frame:
        times = frame[column].astype(str).replace("", "(none)")
    else:
        raise DataError(f"by == {by!r}, must be {', '.join((*_PERIODS, *_COLUMNS))} or a column of the frame")
    if (n := times.nunique()) > _GROUPS_AT_MOST:
        raise DataError(f"by == {by!r} makes {n:,} groups, {_GROUPS_AT_MOST:,} at most can be read: take less")
    return ((str(name), part) for name, part in frame.groupby(times, sort=True))


def _new_codes(frame: pd.DataFrame) -> dict[str, int]:
    """Codes whose first request lies in the last day, where there is more than a day to compare with."""
    first, last = frame["time"].iloc[0], frame["time"].iloc[-1]
    if last - first <= DAY:
        return {}
    failed = frame[frame["error_code"] != ""]
    per_code = failed.groupby("error_code")["time"].agg(["min", "count"])
    new = per_code[per_code["min"] > last - DAY]
    return {str(code): int(n) for code, n in new["count"].items()}


def _figures(part: pd.DataFrame, codes: list[str], *, left: bool) -> Iterator[Figure]:
    n = len(part)
    status = part["status"].to_numpy(dtype=object)
    yield Figure("requests", float(n), n)
    for name, column in (("units", "unit_id"), ("sessions", "session_id")):
        known = part[column][part[column] != ""]
        yield Figure(name, float(known.nunique()) if len(known) else None, len(known))
    cancelled = part["_cancelled"].to_numpy(bool)
    yield _share("error rate", np.isin(status, FAILED)[~cancelled])
    if left:  # in some group
        yield _share("cancelled", cancelled)
    error_codes = part["error_code"].to_numpy(dtype=object)[~cancelled]  # they add up to the error rate
    for code in codes:
        yield _share(f"errors {code}", error_codes == code)
    yield _share_above("retries", numbers_of(part, "attempts"), 1)
    for name, column in (("latency", "latency_s"), ("time to first token", "first_token_s")):
        for q in (0.5, 0.95, 0.99):
            yield _quantile(f"{name} p{q * 100:.0f}", numbers_of(part, column), q, "s")
    yield from _tokens(part)
    yield from _costs(part)
    yield _share("refusals", status == "refused")
    yield _share("guards fired", part["guards"].to_numpy(dtype=object) != "")
    yield _share_above("fallbacks", numbers_of(part, "fallback"), 0)
    yield _quantile("answer length p50", numbers_of(part, "answer_chars"), 0.5, "characters")
    yield _share_above("retrieval hits", numbers_of(part, "retrieved_n"), 0)
    yield from _feedback(part)
    ended = part[part["session_id"] != ""].drop_duplicates("session_id", keep="last")["status"]
    yield _share("sessions that ended without an answer", ~ended.isin(["ok", "truncated"]).to_numpy())


def _tokens(part: pd.DataFrame) -> Iterator[Figure]:
    sent, answered = numbers_of(part, "prompt_tokens"), numbers_of(part, "completion_tokens")
    yield _figure("tokens in", sent, np.sum, "tokens")
    yield _figure("tokens out", answered, np.sum, "tokens")
    yield _figure("tokens cached", numbers_of(part, "cached_tokens"), np.sum, "tokens")
    took = numbers_of(part, "latency_s")
    yield _quantile("tokens per second p50", answered / np.where(took > 0, took, np.nan), 0.5)
    window = numbers_of(part, "context_tokens")
    if np.isnan(window).any():  # as the price list says of the model that answered
        listed = {name: context_tokens(name) or np.nan for name in part["served_model"].unique() if name}
        window = np.where(np.isnan(window), part["served_model"].map(listed).to_numpy(float, na_value=np.nan), window)
    yield _quantile("context used p95", sent / np.where(window > 0, window, np.nan), 0.95, "share")


def _costs(part: pd.DataFrame) -> Iterator[Figure]:
    cost = numbers_of(part, "cost_usd")
    known = ~np.isnan(cost)
    total, n = float(cost[known].sum()), int(known.sum())
    yield _figure("cost", cost, np.sum, "USD")
    days = max((part["time"].iloc[-1] - part["time"].iloc[0]) / DAY, 1.0)
    owned = known & (part["unit_id"] != "").to_numpy()
    users, paid = part["unit_id"][owned].nunique(), float(cost[owned].sum())
    good = [numbers_of(part, f"{SIGNAL}{name}") for name in _SUCCESS]
    done = int((np.nansum(np.stack(good), axis=0)[known] > 0).sum())
    yield Figure("cost per user", paid / users if users else None, int(owned.sum()), "USD")
    for name, over in (("request", n), ("day", days), ("successful task", done)):
        yield Figure(f"cost per {name}", total / over if n and over else None, n, "USD")
    services = part.assign(cost_usd=cost)[known].groupby("service")["cost_usd"].agg(["sum", "count"])
    for service, row in services.iterrows():
        if str(service):
            yield Figure(f"cost of {service}", float(row["sum"]), int(row["count"]), "USD")


def _feedback(part: pd.DataFrame) -> Iterator[Figure]:
    """What people and judges said: each signal's mean over those who said something, and how many did."""
    for name in sorted(signals_of(part)):
        values = numbers_of(part, f"{SIGNAL}{name}")
        mature = part[f"_mature.{name}"].to_numpy(bool) if f"_mature.{name}" in part else np.ones(len(part), bool)
        label = "groundedness" if name.startswith("ground") else f"feedback {name}"
        yield _figure(label, values, np.mean, "mean")
        yield _share(f"response rate {name}", ~np.isnan(values)[mature])


def _share(name: str, hits: NDArray[np.bool_]) -> Figure:
    return _figure(name, hits.astype(np.float64), np.mean, "share")


def _share_above(name: str, values: FloatArray, limit: float) -> Figure:
    return _share(name, values[~np.isnan(values)] > limit)


def _quantile(name: str, values: FloatArray, q: float, unit: str = "") -> Figure:
    return _figure(name, values, lambda known: np.quantile(known, q), unit, least=fewest(q))


def fewest(q: float) -> float:
    """Values below which their quantile is not told: one of them at least should lie beyond it."""
    return 1 / (1 - q) - 1e-9 if q > 0.5 else 1


def _figure(
    name: str, values: FloatArray, of: Callable[[FloatArray], np.floating[Any]], unit: str, *, least: float = 1
) -> Figure:
    """What `of` makes of the values that are known, None where they are fewer than `least`."""
    known = values[~np.isnan(values)]
    return Figure(name, float(of(known)) if len(known) >= least else None, len(known), unit)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{'–' if figure.value is None else number(figure.value)} ({figure.n:,})"
