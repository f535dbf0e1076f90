"""What MLflow is told of a run: one flat MLflow run per variant under a common `sweep_id`, few and rich records.

A variant's run holds its bundle (`bundle/bundle.json`, what the registry registers), digests as tags, short params,
one batch of metrics with intervals and counts, its cases as a table and as Parquet, and the figures. The tag
COMPLETION_TAG is written last: whoever reads a run looks for it, since MLflow's status says FINISHED too early.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from llmlab.base.documents import signature
from llmlab.base.errors import DataError, FileRuleError, StoreError
from llmlab.base.private import scrub, scrub_frame
from llmlab.base.project import git_state, project_root
from llmlab.base.yamlfile import to_yaml
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.chat import short_media
from llmlab.bundle.difference import flat
from llmlab.display.markdown import markdown
from llmlab.display.shown import Shown
from llmlab.gate.decision import Decision, Receipt
from llmlab.golden.cases import GoldenSet
from llmlab.results.results import Results
from llmlab.tracking import spool
from llmlab.tracking.ledger import CASES_FILE, cases_of, keep_look
from llmlab.tracking.page import LONGEST_NOTE_CHARS, VIEW_TAG, Page, view
from llmlab.tracking.screening import screened
from llmlab.tracking.spool import Decided, Entry, Picture, drawn
from llmlab.tracking.store import COMPLETION_TAG, NOTEBOOK, NOTEBOOK_RUN_ID, Status, Store, link, open_store, reported

LONGEST_PARAM_CHARS = 250  # MLflow cuts at 6,000 without an error; the bundle artifact holds everything
_LONGEST_CELL_CHARS = 2_000
_MOST_TABLE_ROWS = 2_000
TABLE_FILE = "cases.json"
_COMPARISON_FILE = "comparison.html"
_STATUS: dict[str, Status] = {"complete": "FINISHED", "partial": "KILLED", "FAILED": "FAILED"}
DESCRIPTION = "mlflow.note.content"  # shown above a run, as Markdown
MEASURED_TAG = "measured_by"
ORIGIN_TAG = "decided."  # on the candidate's run: where each decision on it was made, by its moment


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoggedSweep(Shown):
    """Where a run was logged.

    Attributes:
        sweep_id: digest of answers, scores and bundles; the tag that its MLflow runs share.
        run_ids: MLflow run id of each variant.
        url: the page of these runs (on the local store: once `llmlab ui` runs).
        was_there: True when these very results had been logged before.
    """

    sweep_id: str
    experiment: str
    run_ids: Mapping[str, str]
    url: str
    was_there: bool = False

    def _rows(self) -> list[dict[str, object]]:
        return [{"variant": variant, "MLflow run": run_id} for variant, run_id in self.run_ids.items()]

    def _sentence(self) -> str:
        prefix = "These results were logged before. " if self.was_there else ""
        return f"{prefix}Sweep {self.sweep_id[:8]} in experiment {self.experiment}: {link(self.url)}"


def log(
    results: Results,
    decision: Decision | None = None,
    *,
    experiment: str | None = None,
    figures: Mapping[str, Picture] | None = None,
    pii: str | None = None,
    root: Path | None = None,
) -> LoggedSweep:
    """One MLflow run per variant, and where to look at them. The same results twice are logged once.

    While the store is away they are kept in `mlruns/spool/`, with a warning; `llmlab sync` logs them later.

    Args:
        results: complete, partial or FAILED; the state becomes a tag and the run's status.
        decision: a gate's decision, kept with the candidate's run (with every run where that is not among them).
        experiment: by default the name that the bundles share.
        figures: name -> matplotlib figure, kept as PNG.
        pii: "flag" personal data with a warning, "redact" it to pseudonyms, or "refuse"; None: the project's policy.
        root: the project, by default the one around the current folder.

    Raises:
        StoreError: neither store nor spool can be written to. DataError: a bundle or a case contains a key, or
            personal data that the policy refuses.
    """
    root = project_root() if root is None else root
    if experiment is None:
        names = {bundle.name for bundle in results.bundles.values()}
        experiment = names.pop() if len(names) == 1 else "llmlab"
    results = screened(results, pii=pii, root=root)
    entry = Entry(
        results=results,
        decision=Decided.of(decision) if decision is not None else None,
        experiment=experiment,
        figures=drawn(figures),
        origin=_origin(results, root),
    )
    try:
        return _log(entry, root)
    except StoreError as error:
        kept = spool.keep(entry, root)
        warnings.warn(f"{error}. Nothing is lost: kept in {kept}, `llmlab sync` logs it", RuntimeWarning, stacklevel=2)
        return LoggedSweep(sweep_id=results.digest, experiment=experiment, run_ids={}, url=kept.as_uri())


def sync(root: Path | None = None) -> list[LoggedSweep]:
    """Log what the spool kept, oldest first; what is logged leaves the spool.

    Raises:
        StoreError: the store is away. FileRuleError: a folder of the spool is damaged; the others are logged before.
    """
    root = project_root() if root is None else root
    sweeps, damaged = list[LoggedSweep](), list[FileRuleError]()
    for folder in spool.spooled(root):
        try:
            entry = spool.read(folder)
        except FileRuleError as error:
            damaged.append(error)
            continue
        sweeps.append(_log(entry, root))
        shutil.rmtree(folder)
    if damaged:
        rule = f"{damaged[0].rule}; {len(damaged)} such in the spool, {len(sweeps)} others were logged"
        raise FileRuleError(rule, path=damaged[0].path)
    return sweeps


def _log(entry: Entry, root: Path) -> LoggedSweep:
    results, experiment = entry.results, entry.experiment
    store, sweep_id = open_store(root), results.digest
    pinned = [name for name, bundle in results.bundles.items() if bundle.model.pinned.pinned]
    logged, torn = _find(store, experiment, sweep_id, pinned=pinned)
    with reported(f"sweep {sweep_id[:8]} cannot be logged"):
        for run_id in torn:  # what a process left behind that died while it logged
            store.client.delete_run(run_id)
    missing = [variant for variant in results.variants if variant not in logged]
    if missing:
        page = Page.of(results, entry.decision)
        common = {**_common_tags(results), **entry.origin, "goal_metric": page.goal}
        with reported(f"experiment {experiment!r} cannot be written to"):
            store.client.set_experiment_tag(store.experiment_id(experiment), VIEW_TAG, view())
        notebook = _notebook_page(store, entry.origin.get("llmlab.notebook_run_id", ""))
        for variant in missing:
            tags = {**common, DESCRIPTION: page.note(variant, experiment=experiment, notebook=notebook)}
            logged[variant] = _log_variant(store, experiment, variant, page, tags)
    run_ids = {variant: logged[variant] for variant in results.variants}
    with reported(f"decision and figures of sweep {sweep_id[:8]} cannot be logged"):
        log_figures(store, run_ids.values(), entry.figures)
        _log_decision(store, run_ids, entry.decision)
        if notebook_run := entry.origin.get("llmlab.notebook_run_id"):
            store.client.set_tag(notebook_run, f"sweep_id.{sweep_id[:8]}", sweep_id)
    url = store.url(store.experiment_id(experiment), query=f"tags.sweep_id = '{sweep_id}'")
    return LoggedSweep(sweep_id=sweep_id, experiment=experiment, run_ids=run_ids, url=url, was_there=not missing)


def load(sweep_id: str, *, experiment: str, root: Path | None = None) -> Results:
    """The results that `log` logged, read back from the cases of every variant.

    Raises:
        DataError: no whole sweep with this id is in the experiment.
    """
    store = open_store(root)
    logged, _ = _find(store, experiment, sweep_id)
    if not logged:
        raise DataError(f"no sweep {sweep_id!r} was logged whole in experiment {experiment!r}")
    with reported(f"sweep {sweep_id[:8]} cannot be read"):
        parts = [cases_of(store, run_id) for run_id in logged.values()]
    *others, last = sorted(parts, key=lambda part: part.provenance.sweep_variants.index(part.variants[0]))
    return replace(last.joined(*others), provenance=replace(last.provenance, sweep_variants=()))


def sweep_of(run: Any, *, root: Path | None) -> Results:
    """The results that an MLflow run is a variant of, with all of their variants."""
    with reported(f"the experiment of run {run.info.run_id} cannot be read"):
        experiment = open_store(root).client.get_experiment(run.info.experiment_id).name
    return load(run.data.tags["sweep_id"], experiment=experiment, root=root)


def newest_of_sweeps(runs: Iterable[Any]) -> dict[str, Any]:
    """Of runs, the newest first, the first of each sweep by its id: a sweep may be logged twice, whole or redacted."""
    newest: dict[str, Any] = {}
    for run in runs:
        if sweep_id := run.data.tags.get("sweep_id", ""):
            newest.setdefault(sweep_id, run)
    return newest


def last_logged(bundle: Bundle, golden: GoldenSet, *, root: Path | None = None) -> Results | None:
    """The newest results of this bundle on these cases that were logged whole; None where none were."""
    store = open_store(root)
    with reported(f"the runs of {bundle.name} cannot be searched"):
        runs = store.whole_runs("bundle_digest", bundle.digest)
        same = (run.info.run_id for run in runs if run.data.tags.get("golden_digest") == golden.digest)
        newest = next(same, None)
        return None if newest is None else cases_of(store, newest)


def bundle_json(bundle: Bundle) -> str:
    """The file that the registry serves from: everything of the bundle, defaults too."""
    return json.dumps(bundle.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def _notebook_page(store: Store, run_id: str) -> str:
    """The page of a notebook's run, whose artifacts hold the executed notebook and its HTML; "" outside of one."""
    if not re.fullmatch("[0-9a-f]{32}", run_id):
        return ""
    with reported(f"the run {run_id} of the notebook cannot be read"):
        return f"#/experiments/{store.client.get_run(run_id).info.experiment_id}/runs/{run_id}/artifacts"


def _log_variant(store: Store, experiment: str, variant: str, page: Page, common: Mapping[str, str]) -> str:
    """The id of the variant's run, whole and closed."""
    from mlflow.entities import Metric, Param

    results = page.results
    tags = {key: text for key, text in {**common, **_variant_tags(variant, results)}.items() if text}
    what, status = f"variant {variant!r}", _STATUS[results.state]
    with (
        store.run(experiment, name=variant, tags=tags, what=what, status=status) as run_id,
        tempfile.TemporaryDirectory(prefix="llmlab-") as folder,
    ):
        metrics = [Metric(name, value, 0, 0) for name, value in _metrics(variant, page).items()]
        params = [Param(name, value) for name, value in _params(results.bundles[variant]).items()]
        store.client.log_batch(run_id, metrics=metrics, params=params)
        if results.golden is not None:
            store.client.log_inputs(run_id, [_dataset(results.golden, results.golden_digest)])
        _write_artifacts(Path(folder), variant, page)
        store.bulk.log_artifacts(run_id, folder)
    return run_id


def _metrics(variant: str, page: Page) -> dict[str, float]:
    """The goal's figures under `goal/`, means under `mean/`, intervals under `mean_ci/`, counts under `n/`.

    MLflow makes each a section of charts, in the order of the alphabet, and names without a slash come after them all.
    A mean corrected by people's labels stands beside the raw one. What is undefined is left out and counted: MLflow
    breaks on NaN and inf.
    """
    results, summary, figures = page.results, page.summary, page.figures(variant)
    figures |= {"n/rows": results.n_answers(variant), "n/errors": results.n_answers(variant, status="error")}
    fixed = {f"{metric}_corrected": mean for (of, metric), mean in summary.corrected.items() if of == variant}
    estimates = {**fixed, **{metric: summary.estimate(variant, metric) for metric in summary.metrics}}
    for metric, estimate in estimates.items():
        name = mlflow_name(metric)
        names = (f"mean/{name}", f"mean_ci/{name}.low", f"mean_ci/{name}.high")
        figures |= dict(zip(names, page.mean(estimate), strict=True))
        if metric in summary.metrics:
            scored, attempted = summary.rows[variant, metric]
            figures |= {f"n/{name}.scored": scored, f"n/{name}.attempted": attempted}
    for total in ("cost_usd", "input_tokens", "output_tokens"):
        figures[f"total/{total}"] = results.total(total, variants=[variant])  # unknown is not zero
    defined = {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}
    return {**defined, "n/undefined": float(len(figures) - len(defined))}


def mlflow_name(name: str) -> str:
    """The name with what MLflow takes in names of metrics and params."""
    return re.sub(r"[^\w. /-]", "_", name, flags=re.ASCII)


def _params(bundle: Bundle) -> dict[str, str]:
    params = {}
    for name, value in flat(bundle.behaviour).items():
        text = value if isinstance(value, str) else json.dumps(value)
        cut = text if len(text) <= LONGEST_PARAM_CHARS else f"{text[: LONGEST_PARAM_CHARS - 1]}…"
        params[mlflow_name(name)[:200]] = cut
    return params


def _write_artifacts(folder: Path, variant: str, page: Page) -> None:
    results, bundle = page.results, page.results.bundles[variant]
    (folder / "bundle").mkdir()
    (folder / "bundle" / "bundle.json").write_text(bundle_json(bundle), encoding="utf-8")
    short = bundle.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    (folder / "bundle" / "bundle.yaml").write_text(to_yaml(short), encoding="utf-8")
    part = results.only(variants=[variant])
    provenance = replace(results.provenance, sweep_variants=results.variants)
    part = replace(part, frame=scrub_frame(part.frame), provenance=provenance)
    part.to_parquet(folder / CASES_FILE)
    (folder / TABLE_FILE).write_text(_case_table(part), encoding="utf-8")
    if page.comparison is not None:
        (folder / _COMPARISON_FILE).write_text(scrub(page.comparison._repr_html_()), encoding="utf-8")


def _case_table(part: Results) -> str:
    """The rows in the form of MLflow's own tables, texts cut; the Parquet file has all of it."""
    import pandas as pd  # heavy; whoever logs nothing does without

    columns = ["case_id", "repeat", "status", "text", *part.metrics, "retrieved", "latency_s", "cost_usd", "error"]
    rows = pd.DataFrame(list(islice(part.answers(*columns), _MOST_TABLE_ROWS)), columns=columns)
    shown = rows.assign(text=rows["text"].str.slice(0, _LONGEST_CELL_CHARS), retrieved=rows["retrieved"].map(" ".join))
    if part.golden is not None:
        inputs = {case.id: short_media(json.dumps(dict(case.inputs), ensure_ascii=False)) for case in part.golden}
        shown.insert(1, "inputs", scrub_frame(shown["case_id"].map(inputs).to_frame("inputs"))["inputs"])
    split = json.loads(shown.to_json(orient="split", index=False))
    return json.dumps({"columns": split["columns"], "data": split["data"]}, ensure_ascii=False)


def _dataset(golden: GoldenSet, digest: str) -> Any:
    """The cases, redacted or not, under the digest of what was asked."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    facts = json.dumps({"sha256": digest, "n_cases": len(golden), "parent": golden.parent})
    short = digest[:36]  # MLflow has room for no more; the tag golden_digest has it all
    dataset = Dataset(name=golden.name, digest=short, source_type="llmlab", source=facts, profile=facts)
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "evaluation")])


def _origin(results: Results, root: Path) -> dict[str, str]:
    """Where and by which code the results were made, as tags: the run's own commit, else the one there is now."""
    git, notebook, run = git_state(root), os.environ.get(NOTEBOOK, ""), results.provenance
    return {
        "llmlab.notebook_run_id": os.environ.get(NOTEBOOK_RUN_ID, ""),
        "notebook": notebook,
        "git_dirty": str(run.dirty if run.commit else git.dirty).lower(),
        "mlflow.source.git.commit": run.commit or git.commit,
        "mlflow.source.name": notebook or "llmlab",
        "mlflow.source.type": "NOTEBOOK" if notebook else "LOCAL",
    }


def measured_by(results: Results, variant: str) -> str:
    """A digest of what made the scores of a variant, beside its answers: scorers, judges, how true its index was."""
    scorers = {name: results.scorers_of(name)[variant] for name in results.metrics}
    judges = {name: metric.judge for name, metric in results.metrics.items() if metric.judge}
    judges |= {name: record.digest for name, record in results.provenance.judges.items()}
    facts = [scorers, judges, dict(results.provenance.index_freshness.get(variant, {}))]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def origin_tag(receipt: Receipt) -> str:
    """The tag that says where the decision of a receipt was made."""
    return ORIGIN_TAG + re.sub(r"\D", "", receipt.created_at)


def signed_text(receipt: Receipt) -> str:
    """What of a decision CI signs: what was judged by what, where, how it ended, and how true the index was."""
    decided = (receipt.verdict, receipt.bundle_digest, receipt.results_digest, receipt.policy_digest)
    index = [receipt.index_freshness] if receipt.index_freshness else []
    return json.dumps([*decided, origin(receipt), *index], sort_keys=True)


def origin(receipt: Receipt) -> dict[str, Any]:
    """What a receipt says of where it was made, as the run keeps it."""
    return {name: getattr(receipt, name) for name in ("created_at", "commit", "dirty", "author", "ci")}


def _common_tags(results: Results) -> dict[str, str]:
    return {
        "sweep_id": results.digest,
        "llmlab.kind": "variant",
        "llmlab.version": version("llmlab"),
        "golden_digest": results.golden_digest,
        "state": results.state,
        "complete": str(results.complete).lower(),
        "created_at": results.created_at,
        "mlflow.loggedArtifacts": json.dumps([{"path": TABLE_FILE, "type": "table"}]),
    }


def _variant_tags(variant: str, results: Results) -> dict[str, str]:
    bundle = results.bundles[variant]
    return {
        "variant": variant,
        "bundle_name": bundle.name,
        "bundle_version": bundle.version,
        "bundle_digest": bundle.digest,
        "index_digest": results.index_digests.get(variant, ""),
        MEASURED_TAG: measured_by(results, variant),
        "model": str(bundle.model),
        "model_pinned": str(bundle.model.pinned.pinned).lower(),
    }


def _find(
    store: Store, experiment: str, sweep_id: str, *, pinned: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Runs of this sweep that were logged whole, by variant; and those that were torn.

    Who vouches for a floating model is in no digest: a run from before stands for none of the variants that are
    `pinned` now, and goes behind one from after.
    """
    with reported(f"experiment {experiment!r} cannot be searched"):
        holder = store.client.get_experiment_by_name(experiment)
        query = f"tags.sweep_id = '{re.sub(r'[^0-9a-f]', '', sweep_id)}'"
        runs = store.client.search_runs([holder.experiment_id], query, max_results=1000) if holder else []
    floating_first = sorted(runs, key=lambda run: run.data.tags.get("model_pinned") != "false")
    whole = {
        run.data.tags["variant"]: run.info.run_id
        for run in floating_first
        if run.data.tags.get(COMPLETION_TAG) == "whole"
        and not (run.data.tags["variant"] in pinned and run.data.tags.get("model_pinned") == "false")
    }
    torn = [r.info.run_id for r in runs if r.data.tags.get(COMPLETION_TAG) != "whole" and r.info.status != "RUNNING"]
    return whole, torn


def log_figures(store: Store, run_ids: Iterable[str], figures: Mapping[str, bytes]) -> None:
    """Keep figures (name -> PNG) with these runs."""
    if not figures:
        return
    with tempfile.TemporaryDirectory(prefix="llmlab-") as folder:
        for name, figure in figures.items():
            (Path(folder) / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.png").write_bytes(figure)
        for run_id in run_ids:
            store.bulk.log_artifacts(run_id, folder, "figures")


def _log_decision(store: Store, run_ids: Mapping[str, str], decision: Decided | None) -> None:
    if decision is None:
        return
    receipt = decision.receipt
    note = markdown(scrub(f"Gate: {receipt.verdict}. {receipt.sentence}"), LONGEST_NOTE_CHARS)
    candidate = run_ids.get(receipt.candidate)
    for run_id in [candidate] if candidate else run_ids.values():
        store.client.set_tag(run_id, "gate", receipt.verdict)
        before = store.client.get_run(run_id).data.tags.get(DESCRIPTION, "")
        if note not in before:
            store.client.set_tag(run_id, DESCRIPTION, f"{before}\n\n{note}".strip())
        store.client.log_text(run_id, scrub(decision.text), "gate/decision.txt")
    if candidate:
        store.client.log_text(candidate, scrub(receipt.to_json()), "gate/receipt.json")
        for name, text in decision.documents.items():
            store.client.log_text(candidate, scrub(text), f"gate/{name}")
        signed = {**origin(receipt), "signature": signature(signed_text(receipt))}
        store.client.set_tag(candidate, origin_tag(receipt), json.dumps(signed))
        keep_look(store, candidate, decision.look)
