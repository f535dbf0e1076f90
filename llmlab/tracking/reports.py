"""A report as one MLflow run: figures, a table, texts and metrics; and feedback on traces that live in MLflow.

What production says goes here: one run per decision, never a trace per request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmlab.base.errors import StoreError
from llmlab.base.private import scrub
from llmlab.base.project import who
from llmlab.display.markdown import markdown
from llmlab.display.shown import Shown
from llmlab.tracking.page import LONGEST_NOTE_CHARS
from llmlab.tracking.reach import patient
from llmlab.tracking.runs import DESCRIPTION, log_figures, mlflow_name
from llmlab.tracking.spool import Picture, drawn
from llmlab.tracking.store import link, open_store, pages, reported

TABLE_FILE = "table.json"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoggedReport(Shown):
    """Where a report was logged; `was_there`: this very report had been before."""

    run_id: str
    experiment: str
    url: str
    was_there: bool = False

    def _sentence(self) -> str:
        return f"{'Logged before' if self.was_there else 'Logged'} in {self.experiment}: {link(self.url)}"


def log_report(
    name: str,
    *,
    digest: str,
    experiment: str,
    sentence: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float | None],
    table: Sequence[Mapping[str, object]],
    texts: Mapping[str, str],
    figures: Mapping[str, Picture] | None = None,
    root: Path | None = None,
) -> LoggedReport:
    """A run of its own with all that is given; the same digest is logged once.

    Args:
        digest: of what is reported.
        texts: path in the run's artifacts -> text.
        figures: name -> matplotlib figure, kept as PNG.

    Raises:
        StoreError: the store cannot be reached or written to.
    """
    from mlflow.entities import Metric

    store = open_store(root)
    url = store.url(store.experiment_id(experiment), query=f"tags.report_digest = '{digest}'")
    if there := store.whole_runs("report_digest", digest):
        return LoggedReport(run_id=there[0].info.run_id, experiment=experiment, url=url, was_there=True)
    shown = {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE_FILE, "type": "table"}])}
    note = {DESCRIPTION: markdown(scrub(sentence), LONGEST_NOTE_CHARS)}
    tags = {**{key: scrub(value) for key, value in tags.items()}, **shown, **note, "report_digest": digest}
    with store.run(experiment, name=name, tags=tags, what=f"the report {name!r}") as run_id:
        finite = {key: value for key, value in metrics.items() if value is not None and math.isfinite(value)}
        store.client.log_batch(run_id, [Metric(mlflow_name(key), value, 0, 0) for key, value in finite.items()])
        for path, text in {**texts, TABLE_FILE: _table(table)}.items():
            store.client.log_text(run_id, scrub(text), path)
        log_figures(store, [run_id], drawn(figures))
    return LoggedReport(run_id=run_id, experiment=experiment, url=url)


def log_feedback(
    feedback: Iterable[tuple[str, str, float]], *, source: str = "HUMAN", root: Path | None = None
) -> tuple[int, int]:
    """Signals as MLflow's feedback on the traces that they are about: how many were logged, and how many were not.

    Args:
        feedback: request id, name, value; only ids of MLflow's own traces (`tr-...`) can be there.
        source: HUMAN, LLM_JUDGE or CODE.
    """
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.tracing.client import TracingClient

    store, logged, elsewhere = open_store(root), 0, 0
    client, by = patient(store.uri, TracingClient(store.uri)), AssessmentSource(source, who())
    for trace_id, name, value in feedback:
        if not re.fullmatch(r"tr-[0-9a-f]+", trace_id):
            elsewhere += 1
            continue
        with reported(f"the feedback {name!r} on the trace {trace_id} cannot be logged"):
            client.log_assessment(trace_id, Feedback(name=name, value=value, source=by))
        logged += 1
    return logged, elsewhere


def read_traces(experiment: str, *, root: Path | None = None) -> Iterator[Mapping[str, Any]]:
    """Every trace of an experiment with its spans, as MLflow's `Trace.to_dict` gives it; StoreError without one."""
    store = open_store(root)
    with reported(f"the traces of {experiment!r} cannot be read"):
        entity = store.client.get_experiment_by_name(experiment)
        if entity is None:
            raise StoreError(f"the tracking store has no experiment {experiment!r}")
        search = partial(store.client.search_traces, locations=[entity.experiment_id], include_spans=True)
        yield from (trace.to_dict() for trace in pages(lambda token: search(page_token=token)))


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows in the form of MLflow's own tables."""
    columns = list(rows[0]) if rows else []
    cells: list[list[Any]] = [[None if row[name] is None else str(row[name]) for name in columns] for row in rows]
    return json.dumps({"columns": columns, "data": cells}, ensure_ascii=False)
