"""What users asked and got: one request as a `Trace`, all of them as `Traces`.

`Traces` is to production what `Results` is to a run: one frame with a row per request, and what was wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from llmlab.base.display import Rows, Shown
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.base.project import aware
from llmlab.clients.base import Generation, Usage
from llmlab.production.figures import Figures, figures_of
from llmlab.production.lines import SIGNAL, with_signals
from llmlab.production.reading import from_files, from_objects, from_table
from llmlab.tracking.reports import read_traces

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Step", "Trace", "Traces"]

ROWS_SHOWN = 10
_NAMES = ("request_id", "unit_id", "session_id", "service", "rollout", "arm", "bundle", "guarded_by")
_SHOWN = ("time", "request_id", "unit_id", "service", "arm", "status", "latency_s", "cost_usd", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A call that an application made for a request: its name, kind (llm, retriever, tool, ...) and what it gave."""

    name: str = ""
    kind: str = ""
    latency_s: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    output: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Trace(Shown):
    """One request of production.

    Attributes:
        request_id: its name.
        time: when it began, in UTC.
        inputs: what was asked.
        answer: what came back, or the reason why nothing did.
        unit_id: what was randomised, a pseudonym.
        session_id: the conversation it belongs to.
        service: who served it.
        rollout, arm: the rollout by name ("" = none), and baseline, candidate, shadow, or "" = not enrolled.
        bundle: digest of what answered.
        messages: the prompt as sent, where it is known.
        guards: checks that fired.
        guarded_by: digest of the guards that its client applied, "" = none, or unknown.
        signals: thumbs, regenerated, edited, conversion, judge scores.
        scores: of the retrieved documents, in their order, None = unknown.
        steps: the calls an application made for it.
    """

    request_id: str
    time: datetime
    inputs: Mapping[str, Any]
    answer: Generation
    unit_id: str = ""
    session_id: str = ""
    service: str = ""
    rollout: str = ""
    arm: str = ""
    bundle: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    guards: tuple[str, ...] = ()
    guarded_by: str = ""
    signals: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[float | None, ...] = ()
    steps: tuple[Step, ...] = ()

    def _rows(self) -> list[dict[str, object]]:
        answer = self.answer
        about = {"text": answer.text, "error": answer.error, "latency_s": answer.latency_s, "cost_usd": answer.cost_usd}
        who = {name: getattr(self, name) for name in ("time", "request_id", "unit_id", "service", "arm")}
        return [{**who, "inputs": dict(self.inputs), "status": answer.status, **about}]


@dataclass(frozen=True, kw_only=True, repr=False)
class Traces(Shown):
    """Requests of production, in order of time.

    Attributes:
        frame: one row per request: when, who, which arm; status, text and amounts (NaN = unknown); `signals.NAME`.
        problems: what was wrong with the files, how many of what, with the first lines.
        source: how they were read.
    """

    frame: pd.DataFrame
    problems: Rows
    source: str

    @classmethod
    def load(cls, paths: str | Path | Sequence[str | Path]) -> Self:
        """The requests in files: JSON lines, Parquet or CSV, of ours or of the tools that `reading` knows.

        Args:
            paths: a file, a folder, a pattern with `*`, or a list of them.

        Raises:
            FileRuleError: no such file, or none of the formats.
        """
        frame, problems, source = from_files([paths] if isinstance(paths, (str, Path)) else paths)
        return cls(frame=frame, problems=problems, source=source)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, mapping: Mapping[str, str] | None = None) -> Self:
        """The requests in a table, a row each.

        Args:
            mapping: our field -> column of the table, such as {"time": "created_at", "signals.thumbs": "liked"}.

        Raises:
            DataError: a column is not there, or none says when. ValueError: no such field.
        """
        made, problems = from_table(frame, dict(mapping or {}))
        return cls(frame=made, problems=problems, source="read from a table")

    @classmethod
    def from_mlflow(cls, experiment: str, *, root: Path | None = None) -> Self:
        """The requests that live as traces in an experiment of MLflow, whole: its short form cuts texts.

        Raises:
            StoreError: the store cannot be read, or has no such experiment.
        """
        frame, problems = from_objects(read_traces(experiment, root=root), name="MLflow")
        return cls(frame=frame, problems=problems, source=f"read from MLflow's experiment {experiment}")

    def with_signals(self, frame: pd.DataFrame, *, on: str = "request_id") -> Self:
        """The traces with signals that came later: every other column of the table is one, NaN = nothing said.

        Raises:
            DataError: the table has no column `on`, or a column that is no number.
        """
        if on not in frame or on not in self.frame:
            raise DataError(f"signals are joined on {on!r}, which the table and the traces must both have")
        try:
            named = {name: f"{SIGNAL}{str(name).removeprefix(SIGNAL)}" for name in frame.columns if name != on}
            numbers = frame.rename(columns=named).astype(dict.fromkeys(named.values(), float))
        except (TypeError, ValueError) as error:
            raise DataError(f"a signal is a number for each request: {error}") from None
        joined, unknown = with_signals(self.frame, numbers, on=on)
        told = {"problem": "signal for a request that is not here", "count": unknown, "first": ""}
        problems = replace(self.problems, rows=(*self.problems.rows, *([told] if unknown else [])))
        return replace(self, frame=joined, problems=problems)

    def between(self, start: datetime, end: datetime) -> Self:
        """Those that began from `start` (with its time zone) on and before `end`."""
        times = self.frame["time"]
        chosen = (times >= aware(start)) & (times < aware(end))
        return replace(self, frame=self.frame[chosen].reset_index(drop=True))

    def figures(
        self,
        by: str | None = None,
        *,
        maturity: Mapping[str, timedelta] | None = None,
        now: datetime | None = None,
    ) -> Figures:
        """What the field watches, as one table with the n of each figure.

        Args:
            by: hour, day (in UTC), service, bundle, arm, model or another column of the frame; None = all together.
            maturity: signal -> age from which its silence counts; younger requests are left out of it, and counted.
            now: the moment that ages are reckoned to (with its time zone), by default this one.

        Raises:
            DataError: no requests, no such column or signal, or more than 1,000 groups.
        """
        wrong = sum(int(str(row["count"])) for row in self.problems.rows)
        moment = None if now is None else aware(now)
        return figures_of(self.frame, by=by, maturity=maturity, now=moment, problems=wrong)

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[Trace]:
        for start in range(0, len(self.frame), 1000):
            for row in self.frame[start : start + 1000].to_dict("records"):
                yield _trace({str(name): value for name, value in row.items()})

    def to_frame(self) -> pd.DataFrame:
        """The frame."""
        return self.frame

    def _rows(self) -> list[dict[str, object]]:
        first = self.frame.head(ROWS_SHOWN)[list(_SHOWN)].to_dict("records")
        return [{name: None if value != value else value for name, value in row.items()} for row in first]  # type: ignore[misc]  # mypy: names are texts

    def _sentence(self) -> str:
        n, units = len(self.frame), self.frame["unit_id"].replace("", np.nan).nunique()
        said = f"{counted(n, 'request')} of {counted(units, 'unit')}, {self.source}"
        if n:
            said += f", {self.frame['time'].iloc[0]:%Y-%m-%d %H:%M} to {self.frame['time'].iloc[-1]:%Y-%m-%d %H:%M} UTC"
        wrong = "; ".join(f"{row['problem']}: {row['count']:,}" for row in self.problems.rows)
        return f"{said}. {wrong}" if wrong else f"{said}."


def _trace(row: Mapping[str, Any]) -> Trace:
    cost = _known(row["cost_usd"])
    tokens = [_known(row[name]) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")]
    usage = Usage(
        **{
            name: None if count is None else int(count)
            for name, count in zip(("input_tokens", "output_tokens", "cached_input_tokens"), tokens, strict=True)
        }
    )
    found = row["retrieved"] if isinstance(row["retrieved"], (list, np.ndarray)) else ()
    steps = tuple(Step(**step) for step in _json(row["steps"], []))
    return Trace(
        **{name: row[name] for name in _NAMES},
        time=row["time"].to_pydatetime(),
        inputs=_json(row["inputs"], {}),
        messages=tuple(_json(row["messages"], [])),
        guards=tuple(filter(None, row["guards"].split(","))),
        signals={
            name.removeprefix(SIGNAL): value
            for name, value in row.items()
            if name.startswith(SIGNAL) and value == value
        },
        scores=tuple(_known(one["score"]) for one in found),
        steps=steps,
        answer=Generation(
            status=row["status"],
            text=row["text"],
            retrieved=tuple(one["id"] or "" for one in found),
            tool_calls=tuple(_json(row["tool_calls"], [])),
            usage=usage,
            cost_usd=None if cost is None else Decimal(repr(cost)),
            served_model=row["served_model"] or None,
            attempts=int(_known(row["attempts"]) or 1),
            error=row["error"],
            steps=tuple(step.name for step in steps),
            latency_s=_known(row["latency_s"]),
            first_token_s=_known(row["first_token_s"]),
        ),
    )


def _known(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _json(text: str, default: Any) -> Any:
    """The value of a JSON text that has the type of the default, else a value of that type with the text in it."""
    if not text:
        return default
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, type(default)):
        return value
    return {"input": value} if isinstance(default, dict) else []
