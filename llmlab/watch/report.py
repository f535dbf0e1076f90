"""A watch and its report: alerts first, with since when and which page says what to do; texts for other machines.

llmlab is no pager: the circuit breaker acts, Prometheus alerts on the text file, and the report explains.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from llmlab.base.cells import as_sentences, plain
from llmlab.base.errors import DataError
from llmlab.base.numbers import counted
from llmlab.base.project import aware, located
from llmlab.base.verdict import Verdict, required
from llmlab.display.markdown import markdown, markdown_table
from llmlab.display.shown import Rows, Shown
from llmlab.gate.policy import age_limit
from llmlab.golden.cases import Case, GoldenSet
from llmlab.production.harvest import as_results
from llmlab.production.lines import LEFT, SIGNAL, Trace, cancelled_in, signals_of
from llmlab.production.traces import Traces
from llmlab.results.results import Results
from llmlab.stats.arrays import FloatArray
from llmlab.watch.drift import Embed, read_drift
from llmlab.watch.policy import DAY, HOUR, WatchPolicy, duration
from llmlab.watch.readings import Reading, State, read_rule
from llmlab.watch.windows import Requests, Traffic, values_named

if TYPE_CHECKING:
    import pandas as pd

_ORDER = list(State)
_MOST_BUNDLES = 20


@dataclass(frozen=True, kw_only=True, repr=False)
class Watch(Shown):
    """Rules of what must not happen in production, and what its traffic is held against.

    Attributes:
        golden: the cases whose tags are the topics, None = topics are not read.
        name: of the experiment.
        embed: texts to vectors, for `question_embedding` (`ll.search.Embedder`); None = it is not read.
    """

    policy: WatchPolicy
    golden: GoldenSet | None = None
    name: str = ""
    embed: Embed | None = None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The watch in a file (`watch.yaml`), with the golden set beside it where there is one.

        Raises:
            FileRuleError: the file breaks a rule, or names a runbook that is not there.
        """
        path = located(path)
        golden = path.parent / "golden.jsonl"
        return cls(
            policy=WatchPolicy.load(path),
            golden=GoldenSet.load(golden) if golden.is_file() else None,
            name=path.resolve().parent.name,
        )

    def report(self, traces: Traces, *, now: datetime | None = None) -> WatchReport:
        """What the last window says against the days before.

        Args:
            traces: of production, of the reference's days and the window; those of a shadow are left out.
            now: the moment that windows end at (with its time zone), by default that of the last request.

        Raises:
            DataError: no request.
        """
        frame = traces.to_frame()
        frame = frame[(frame["arm"] != "shadow").to_numpy(bool)]
        silent = [f"{SIGNAL}{name}" for name in signals_of(frame) if frame[f"{SIGNAL}{name}"].isna().all()]
        frame = frame.drop(columns=silent)  # a signal that no request has is one that nobody records
        if frame.empty:
            raise DataError("no request is there to report on")
        last = frame["time"].iloc[-1].to_pydatetime()
        moment = last + timedelta(microseconds=1) if now is None else aware(now)
        traffic = Traffic(rows=frame, now=moment, reference=self.policy.reference)
        readings = [reading for rule in self.policy.watched for reading in read_rule(rule, traffic, self.policy)]
        readings += read_drift(traffic, self.policy, golden=self.golden, embed=self.embed)
        return WatchReport(
            readings=tuple(sorted(readings, key=lambda reading: _ORDER.index(reading.state))),
            policy=self.policy,
            name=self.name,
            now=moment,
            last=last,
            day=traffic.last(DAY).rows,
            notes=(
                *_notes(self.policy, readings, silent=moment - last),
                *_later(frame, moment),
                *_left(traffic.last(DAY)),
                *traces.wrong,
            ),
        )

    def _rows(self) -> list[dict[str, object]]:
        return self.policy._rows()

    def _sentence(self) -> str:
        return self.policy._sentence()


@dataclass(frozen=True, kw_only=True, repr=False)
class WatchReport(Shown):
    """What the last window says.

    Attributes:
        readings: every rule and drift, alerts first.
        name: of the experiment.
        now, last: the moment that windows end at, and that of the last request.
        day: the requests of the last day, one row each.
    """

    readings: tuple[Reading, ...]
    policy: WatchPolicy
    name: str
    now: datetime
    last: datetime
    day: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def alerts(self) -> tuple[Reading, ...]:
        """Those whose bound crossed its limit."""
        return tuple(reading for reading in self.readings if reading.state is State.ALERT)

    @property
    def verdict(self) -> Verdict:
        """FAIL with an alert, INCONCLUSIVE where a rule has too little data, else PASS."""
        verdicts = {reading.state.verdict for reading in self.readings}
        if Verdict.FAIL in verdicts:
            return Verdict.FAIL
        silent = self.now - self.last > age_limit(self.policy.ended_after)
        return Verdict.INCONCLUSIVE if silent or Verdict.INCONCLUSIVE in verdicts or not verdicts else Verdict.PASS

    @property
    def exit_code(self) -> int:
        """0 quiet, 1 alert, 3 too little data."""
        return self.verdict.exit_code

    @property
    def sentence(self) -> str:
        """The report in one sentence."""
        alerts, watched = (
            ", ".join(reading.metric for reading in self.readings if reading.state is state)
            for state in (State.ALERT, State.WATCH)
        )
        head = {
            Verdict.FAIL: f"{counted(len(self.alerts), 'alert')}: {alerts}",
            Verdict.INCONCLUSIVE: "No alert, and too little data to call it quiet",
        }.get(self.verdict, "Quiet")
        tail = f"; to look at: {watched}" if watched else ""
        return f"{head}{tail} (until {self.now:%Y-%m-%d %H:%M} UTC)."

    def require(self, how: str) -> Self:
        """This report; with `how` "pass" a GateError unless it is quiet, with "none" never."""
        required(self.verdict, how, sentence=self.sentence, decision=self)
        return self

    def worst(self, n: int = 20) -> Results:
        """The n requests of the last day to look at first, as `ll.widgets.Explorer` takes them.

        First those that made an alert, then failures, complaints, refusals, fired guards and low quality.
        """
        worst = np.argsort(-_badness(self.day, self.readings), kind="stable")[:n]
        frame = self.day.iloc[worst].reset_index(drop=True)
        requests = list(Traces(frame=frame, problems=Rows(rows=()), source="the worst of a report"))
        alerts = {name: reading.metric for reading in reversed(self.readings) for name in reading.rows}
        return as_results(requests, [_case(trace, alerts.get(trace.request_id, "")) for trace in requests])

    def to_junit(self) -> str:
        """JUnit XML with one test per rule and drift: an alert is a failure, too little data is skipped."""
        counts = {
            "tests": len(self.readings),
            "failures": len(self.alerts),
            "skipped": sum(r.state is State.UNKNOWN for r in self.readings),
        }
        suite = ET.Element("testsuite", {"name": "llmlab watch", **{key: str(n) for key, n in counts.items()}})
        for reading in self.readings:
            case = ET.SubElement(suite, "testcase", {"classname": "watch", "name": plain(reading.metric), "time": "0"})
            if reading.state is State.ALERT:
                message = plain(f"{reading.what} ({reading.runbook})", 500)
                ET.SubElement(case, "failure", {"type": reading.state.value, "message": message})
            elif reading.state is State.UNKNOWN:
                ET.SubElement(case, "skipped", {"message": plain(reading.what, 500)})
        ET.indent(suite)
        return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"

    def to_markdown(self) -> str:
        """The report for a chat or an issue."""
        parts = [f"## Watch: {self.verdict}", markdown(self.sentence, None), markdown_table(self._rows())]
        return "\n\n".join([*parts, *(markdown(note, None) for note in self.notes)]) + "\n"

    def to_prometheus(self) -> str:
        """Prometheus' text format: states, and the last day's requests, failures and cost by the bundle's digest.

        A series is named by the window that its rule asks for: what a small service gets instead comes and goes.
        """
        return "\n".join(_exposed(self)) + "\n"

    def _rows(self) -> list[dict[str, object]]:
        return [row for reading in self.readings for row in reading._rows()]

    def _sentence(self) -> str:
        return "\n".join([self.sentence, *([as_sentences(self.notes)] if self.notes else [])])


def _notes(policy: WatchPolicy, readings: Sequence[Reading], *, silent: timedelta) -> Iterator[str]:
    if silent > age_limit(policy.ended_after):
        ago = timedelta(days=silent.days) if silent >= 2 * DAY else timedelta(hours=silent // HOUR)
        yield f"the last request came {duration(ago)} ago; does the service still record?"
    usual = [] if policy.rules else [rule.name for rule in policy.watched]
    usual += [] if "drift" in policy.model_fields_set else [f"{column} drift" for column in policy.drift]
    if unread := [name for name in usual if name not in {reading.metric for reading in readings}]:
        yield f"not watched, because no request says anything of it: {', '.join(unread)}"


def _left(day: Requests) -> Iterator[str]:
    if n := int(cancelled_in(day.rows).sum()):
        yield f"{counted(n, 'request')} of the last day {LEFT}"


def _later(frame: pd.DataFrame, moment: datetime) -> Iterator[str]:
    if later := int((frame["time"] >= moment).sum()):
        yield f"{counted(later, 'request')} dated {moment:%Y-%m-%d %H:%M} UTC or later were not read"


def _badness(day: pd.DataFrame, readings: Sequence[Reading]) -> FloatArray:
    requests = Requests(rows=day)
    alarmed = {name for reading in readings if reading.state is State.ALERT for name in reading.rows}
    total = 16.0 * day["request_id"].isin(alarmed).to_numpy(np.float64)
    weights = {"error_rate": 8.0, "negative_signals": 4.0, "refusal_rate": 2.0, "guard_rate": 2.0, "quality": -1.0}
    for name, weight in weights.items():
        total += weight * np.nan_to_num(values_named(name, requests))
    return np.asarray(total, dtype=np.float64)


def _case(trace: Trace, alert: str) -> Case:
    """A request as a case whose tags say what is wrong with it."""
    tags = [tag for tag in (alert, *trace.guards, "complaint" if trace.signals.get("thumbs", 1) <= 0 else "") if tag]
    inputs = dict(trace.inputs) or {"question": "(not recorded)"}
    return Case(id=trace.request_id, inputs=inputs, tags=tuple(tags), cluster=trace.unit_id or None)


def _exposed(report: WatchReport) -> Iterator[str]:
    def line(name: str, value: float, **labels: str) -> str:
        pairs = ",".join(f'{key}="{_label(text)}"' for key, text in {"experiment": report.name, **labels}.items())
        return f"{name}{{{pairs}}} {value:.10g}"

    yield "# HELP llmlab_watch_state 0 quiet, 1 to look at, 2 alert, -1 too little data."
    yield "# TYPE llmlab_watch_state gauge"
    states = {State.QUIET: 0, State.WATCH: 1, State.ALERT: 2, State.UNKNOWN: -1}
    for reading in report.readings:
        labels = {"metric": reading.metric, "window": reading.asked or reading.window, "runbook": reading.runbook}
        yield line("llmlab_watch_state", states[reading.state], **labels)
    yield "# HELP llmlab_watch_value The last window's value of a rule, in its own unit."
    yield "# TYPE llmlab_watch_value gauge"
    yield from (
        line("llmlab_watch_value", reading.value, metric=reading.metric, window=reading.asked or reading.window)
        for reading in report.readings
        if reading.value is not None
    )
    yield "# TYPE llmlab_watch_last_request_seconds gauge"
    yield line("llmlab_watch_last_request_seconds", report.last.timestamp())
    yield "# HELP llmlab_watch_day The last day's requests, failures and cost in USD, by the bundle that answered."
    yield "# TYPE llmlab_watch_day gauge"
    groups = report.day.groupby("bundle", sort=True)
    for bundle in groups.size().sort_values(ascending=False).index[:_MOST_BUNDLES]:
        part = Requests(rows=groups.get_group(bundle))
        figures = {"requests": float(len(part)), "failures": float(np.nansum(values_named("error_rate", part)))}
        if not np.isnan(costs := values_named("cost_usd", part)).all():
            figures["cost_usd"] = float(np.nansum(costs))
        yield from (line("llmlab_watch_day", n, bundle=str(bundle), figure=name) for name, n in figures.items())


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
