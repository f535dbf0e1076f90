"""What a later version must still say of the files that version 0.1 wrote: plain values, by the public paths alone.

They were written once, by 0.1.0, and lie as JSON beside the files; `tests/test_frozen.py` computes them again. A fact
that is changed on purpose is changed there by hand, with its line in CHANGELOG. Frozen are digests,
call keys, names, means, differences with their standard errors and degrees of freedom, kappa and retrieval metrics.
Sentences, intervals, p values, margins' verdicts and planned sizes are not.
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pandas as pd

import llmlab as ll

HERE = Path(__file__).parent
GIVEN = HERE / "given"  # written by people: bundles, policies, corpora
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
ROOMS = ("gate", "judge", "notebook", "plots", "registry", "retrieval", "scorers", "simulate", "tracking", "widgets")
VALUES = ("Bundle", "Case", "GatePolicy", "Generation", "GoldenSet", "ModelRef", "Request", "Results", "Score", "Usage")
MODEL = "openai/gpt-4o-2024-08-06"
MADE: dict[str, Any] = {"commit": "0" * 40, "dirty": False, "author": "somebody", "ci": {"system": "CI"}}
MEASURES = ("P@2", "R@2", "HitRate@2", "RR", "AP", "nDCG@3", "nDCG_exp@3")
UNFROZEN = ("_ci", "_p", "notes")  # ends of a calibration's keys


@cache
def bundles() -> dict[str, ll.Bundle]:
    """The bundles in files, and variants made of them."""
    loaded = ll.load_bundles(GIVEN / "bundles")
    pair = {name: loaded[name] for name in ("plain", "retrieval")}
    models = [MODEL, "anthropic/claude-3-5-sonnet-20241022"]
    return {
        **loaded,
        **{  # as a grid of models was named then
            f"{name}@temperature={temperature},model={model}": bundle.with_(temperature=temperature, model=model)
            for name, bundle in pair.items()
            for temperature in (0.0, 0.7)
            for model in models
        },
        **ll.grid({"retrieval": loaded["retrieval"]}, k=[1, 5]),
        "changed": loaded["sampling"].with_(seed=8, stop=()),
        "from_prompt": ll.Bundle.from_prompt("{{ question }}", model=MODEL, name="desk", max_tokens=9),
    }


def digests() -> dict[str, Any]:
    """Of everything that has one: bundles, cases, policies, judges, labels, corpora, indexes, results."""
    golden = ll.GoldenSet.load(HERE / "golden.jsonl")
    labels = ll.judge.Labels.load(HERE / "labels.jsonl")
    judges = {name: ll.judge.Judge.pointwise(name, model=MODEL) for name in sorted(ll.judge.RUBRICS)}
    pairs = {name: ll.judge.Judge.pairwise(name, model=MODEL) for name in ("correctness", "relevance")}
    index = {name: bundle.retrieval for name, bundle in bundles().items() if name in ("retrieval", "chunked")}
    return {
        "bundles": {
            name: [bundle.version, bundle.digest, bundle.model.pinned.pinned] for name, bundle in bundles().items()
        },
        "golden": {
            "all": golden.digest,
            "tagged": golden.only(tag="odd").digest,
            "parent": golden.only(first=3).parent,
            "grown": golden.grown([ll.Case(id="new", inputs={"n": 1, "deep": {"a": [1.5, None, True]}})]).digest,
        },
        "policies": {path.stem: ll.GatePolicy.load(path).digest for path in sorted(GIVEN.glob("gate*.yaml"))},
        "judges": {name: judge.digest for name, judge in judges.items()},
        "pairwise judges": {name: judge.digest for name, judge in pairs.items()},
        "judge in a file": ll.judge.Judge.load(HERE / "judge.yaml").digest,
        "labels": [labels.digest, labels.rubric, len(labels)],
        "corpora": {name: corpus(name).digest for name in ("corpus", "corpus-later")},
        "indexes": {
            name: ll.retrieval.build_index(config, base=GIVEN).digest for name, config in index.items() if config
        },
        "results": {path.stem: results(path.stem).digest for path in sorted(HERE.glob("*.parquet"))},
        "receipts": {path.stem: receipt(path.stem).digest for path in sorted(HERE.glob("receipt-*.json"))},
        "passport": passport().digest,
    }


@cache
def results(name: str) -> ll.Results:
    """Results as they are in a Parquet file."""
    return ll.Results.from_parquet(HERE / f"{name}.parquet")


def arm(variant: str) -> ll.Results:
    """One variant of the scored results, as if it had been run alone."""
    both = results("scored")
    rows = both.frame[both.frame["variant"] == variant].reset_index(drop=True)
    return replace(both, frame=rows, bundles={variant: both.bundles[variant]})


@cache
def judged() -> ll.Results:
    """The judged results with the labels of people, and an index of which something is known."""
    labelled = ll.judge.with_labels(results("judged"), ll.judge.Labels.load(HERE / "labels.jsonl"))
    return freshness().recorded_in(labelled, "v2")


def corpus(name: str) -> Any:
    """A corpus in a file."""
    return ll.retrieval.Corpus.from_jsonl(GIVEN / f"{name}.jsonl")


def freshness() -> Any:
    """An index of the earlier corpus against the later one."""
    golden = ll.GoldenSet.load(HERE / "golden.jsonl")
    manifest = ll.retrieval.load_manifest(HERE / "manifest.json")
    return ll.retrieval.check(manifest, corpus("corpus-later"), golden=golden, now=NOW)


def receipt(name: str) -> Any:
    """A receipt in a file."""
    from llmlab.gate import Receipt

    return Receipt.load(HERE / f"{name}.json")


@cache
def calibration() -> Any:
    """The judge of the judged results against people's labels."""
    return ll.judge.calibrate(ll.judge.Labels.load(HERE / "labels.jsonl"), results("judged"))


@cache
def passport() -> Any:
    """The passport in a file, read by the class of those that are made today."""
    return type(ll.judge.passport(calibration(), now=NOW)).load(HERE / "passport.json")


def decisions() -> dict[str, Any]:
    """The decisions that the receipts are of, made again."""
    everything = results("scored")
    policy = ll.GatePolicy.load(GIVEN / "gate.yaml")
    judging = ll.GatePolicy.load(GIVEN / "gate-judged.yaml")
    return {
        "receipt-pass": policy.decide(everything, baseline="old", candidate="new", now=NOW),
        "receipt-fail": policy.decide(everything, baseline="new", candidate="old", now=NOW),
        "receipt-borrowed": policy.decide(
            arm("new"), baseline="old", candidate="new", baseline_results=arm("old"), now=NOW
        ),
        "receipt-judged": judging.decide(judged(), baseline="v1", candidate="v2", passports=[passport()], now=NOW),
    }


def receipt_facts(document: Any) -> dict[str, Any]:
    """What of a receipt, in a file or of today, does not depend on how a verdict is computed."""
    kept = document.model_dump(mode="json")
    fields = ("verdict", "candidate", "baseline", "anchor", "bundle_name", "bundle_version", "bundle_digest")
    fields += ("baseline_digest", "anchor_digest", "golden_digest", "golden_parent", "index_digest", "policy_digest")
    fields += ("results_digest", "results_created_at", "judges", "passports", "labels", "n_cases", "endpoint")
    fields += ("earlier_baseline", "served_model", "look", "candidates_tried", "created_at")
    numbers = ("kind", "metric", "rule", "category", "value", "bound", "relative", "n_cases", "n_clusters", "estimate")
    fresh = {name: kept["index_freshness"].get(name) for name in ("fresh", "index_of", "corpus", "stale_share")}
    return {
        **{name: kept[name] for name in fields},
        "conditions": [{name: condition[name] for name in numbers} for condition in kept["conditions"]],
        "index_freshness": fresh,
    }


def numbers() -> dict[str, Any]:
    """Means, differences, kappa and retrieval metrics, at full precision."""
    return {
        "answers": _answers(results("answers")),
        "scored": _measured(results("scored"), "old"),
        "judged": _judged(judged()),
        "calibrations": _calibrations(),
        "retrieval": _retrieval(results("answers")),
        "freshness": _freshness(),
    }


def _answers(found: ll.Results) -> dict[str, Any]:
    summary = found.summary()
    frame = found.frame
    first = {
        status: frame[frame["status"] == status].iloc[0][["variant", "case_id", "text", "error"]].tolist()
        for status in sorted(set(frame["status"]))
    }
    return {
        "variants": list(found.variants),
        "metrics": {name: [m.low, m.high, m.higher_is_better] for name, m in found.metrics.items()},
        "rows": len(frame),
        "statuses": frame["status"].value_counts().sort_index().to_dict(),
        "first of each": first,
        "tool calls": sorted(set(frame["tool_calls"])),
        "retrieved": [list(ids) for ids in frame["retrieved"][:12]],
        "tokens and cost": frame[["input_tokens", "output_tokens", "cost_usd"]].sum().tolist(),
        "scored of attempted": {f"{v} {m}": list(n) for (v, m), n in summary.rows.items() if m in found.metrics},
        "errors": dict(summary.errors),
        "generations": [answer.text for answer in found.generations()][:6],
    }


def _measured(found: ll.Results, baseline: str) -> dict[str, Any]:
    summary = found.summary()
    metrics = list(found.metrics)
    return {
        "means": {f"{v} {m}": summary.estimate(v, m).value for v in found.variants for m in metrics},
        "cases": {f"{v} {m}": summary.estimate(v, m).n for v in found.variants for m in metrics},
        "compare": [_row(row) for row in found.compare(baseline, metrics=metrics).rows],
        "by tag": [_row(row) for row in found.compare(baseline, metrics=metrics[:1], by="tags").rows],
        "best": found.best(metrics[0]),
        "cost per success": {v: found.cost_per_success("right").estimate(v).value for v in found.variants},
        "consistency": {v: found.consistency("right").estimate(v).value for v in found.variants},
    }


def _judged(found: ll.Results) -> dict[str, Any]:
    fixed = ll.judge.corrected(found, "correctness")
    summary = found.summary()
    gap = ll.judge.corrected_difference(found, "correctness", baseline="v1", candidate="v2")
    return {
        "raw": {v: fixed[v].raw.value for v in found.variants},
        "corrected": {v: fixed[v].corrected.value for v in found.variants},
        "in the summary": {v: summary.corrected[v, "correctness"].value for v in found.variants},
        "labelled": {v: fixed[v].n_labelled for v in found.variants},
        "judge's weight": {v: fixed[v].lam for v in found.variants},
        "difference": [gap.raw.value, gap.corrected.value],
        "compare": [_row(row) for row in found.compare("v1").rows],
    }


def _row(row: Any) -> dict[str, Any]:
    kept = row.record()
    names = ("metric", "baseline", "candidate", "category", "difference", "se", "df", "n_pairs", "n_clusters")
    return {name: kept[name] for name in names}


def _calibrations() -> dict[str, Any]:
    verdicts, grades = (pd.read_csv(HERE / f"{name}.csv") for name in ("verdicts", "grades"))
    columns = {"length1": "words_1", "length2": "words_2", "author1": "author_1", "author2": "author_2"}
    found = {
        "verdicts": ll.judge.calibrate_verdicts(verdicts, **columns, judge="judge", resamples=50),
        "grades": ll.judge.calibrate_scores(grades, scale=range(1, 6), length="words", resamples=50),
        "labels": calibration(),
    }
    kept = {
        name: [{key: value for key, value in record.items() if not key.endswith(UNFROZEN)} for record in one.records()]
        for name, one in found.items()
    }
    figures = {name: [figure.value, figure.n] for name, figure in passport().metrics.items()}
    return {**kept, "passport": figures, "judge": passport().judge_digest, "its labels": passport().labels_digest}


def _retrieval(found: ll.Results) -> dict[str, Any]:
    golden = ll.GoldenSet.load(HERE / "golden.jsonl")
    measured = ll.retrieval.of_results(found, ("P@2", "R@2", "nDCG@3", "RR"))
    one, other = (ll.retrieval.evaluate(HERE / "qrels.txt", HERE / f"run-{n}.txt", measures=MEASURES) for n in "ab")
    base = ll.Bundle.load(GIVEN / "bundles" / "retrieval.yaml")
    config = type(base.retrieval).model_validate
    searches = {
        name: config({"corpus": {"jsonl": "corpus.jsonl"}, "retriever": name, "k": 3}) for name in ("bm25", "tfidf")
    }
    depths = ll.retrieval.by_k(searches, golden, k=3, base=GIVEN)
    attributed = ll.retrieval.attribute(found, metric="mentions_expected")
    return {
        "of results": {
            f"{v} {m}": measured.estimate(v, str(m)).value for v in measured.variants for m in measured.measures
        },
        "compared": [_row(row) for row in measured.compare("plain").rows],
        "evaluated": {str(m): one.column(m).tolist() for m in one.measures},
        "means": {str(m): one.mean(m) for m in one.measures},
        "counts": [one.counts(), other.counts()],
        "runs compared": [_row(row) for row in ll.retrieval.compare_runs(other, one).rows],
        "by k": {f"{v} {m}": depths.estimate(v, str(m)).value for v in depths.variants for m in depths.measures},
        "attributed": without_intervals(attributed.to_frame().to_dict("records")),
    }


def without_intervals(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Shares as counts and percentages: their intervals are read at the effective size since, and are not frozen."""
    return [{name: re.sub(r" \[[^]]*\]", "", str(cell)) for name, cell in row.items()} for row in rows]


def _freshness() -> dict[str, Any]:
    found = freshness()
    return {
        "added": list(found.added),
        "changed": list(found.changed),
        "deleted": list(found.deleted),
        "renamed": [list(pair) for pair in found.renamed],
        "unchanged": found.n_unchanged,
        "lag_s": found.lag_s,
        "stale": {case_id: list(ids) for case_id, ids in found.stale.items()},
        "share": found.stale_share.value,
    }


def answer(request: ll.Request) -> ll.Generation:
    """A scripted answer by the number in the question: every status, tool calls, prices."""
    asked = str(request.messages[-1]["content"])
    digits = "".join(char for char in asked.split("?")[0] if char.isdigit())
    number = int(digits or 0) + request.repeat
    usage = ll.Usage(input_tokens=len(asked), output_tokens=5 + number, cached_input_tokens=number % 3)
    common: dict[str, Any] = {"usage": usage, "latency_s": 0.25 * (1 + number % 5), "first_token_s": 0.125}
    if request.tools:
        call = {"name": "look_up", "arguments": {"name": f"f{number % 2}", "depth": 1}}
        return ll.Generation(text="", tool_calls=(call,), served_model="claude", **common)
    status = {3: "refused", 5: "truncated", 7: "empty", 9: "timeout", 11: "error"}.get(number % 12, "ok")
    if status in ("timeout", "error"):
        return ll.Generation(status=status, error=f"{status} of a test", attempts=3)  # type: ignore[arg-type]
    text = "" if status == "empty" else f"Use f{number % 4}, that is what it is for. ünï 🐼"
    return ll.Generation(
        status=status,
        text=text,
        served_model="gpt-4o-2024-08-06",
        system_fingerprint="fp_1",
        **common,  # type: ignore[arg-type]
    )


def calls(store: Path) -> dict[str, Any]:
    """Call keys by variant, one per repeat, and the requests that are kept beside the answers, judges' too."""
    shapes = {n: b for n, b in bundles().items() if n != "embedded" and not n.startswith("retrieval@")}
    golden = ll.GoldenSet.load(HERE / "golden.jsonl").only(first=1)
    client = ll.FakeClient(lambda request: "looked up" if request.tools else "yes", fingerprint="frozen/endpoint")
    found = ll.run(shapes, golden, client=client, store=store, repeats=2, base=GIVEN, progress=False)
    keys: dict[str, list[str]] = {}
    for variant, key in zip(found.frame["variant"], found.frame["call_key"], strict=True):
        keys.setdefault(variant, []).append(key)
    grader, chooser = ll.FakeClient('{"score": 4}'), ll.FakeClient('{"winner": "A"}')
    two = replace(found, frame=found.frame[found.frame["variant"].isin(["plain", "tools"])], complete=True)
    two = replace(two, bundles={name: found.bundles[name] for name in ("plain", "tools")})
    means: dict[str, Any] = {"store": store, "progress": False}
    other = "mistral/mistral-large-2411"  # of another family than the answers
    ll.judge.score(two, ll.judge.Judge.pointwise("correctness", model=other), client=grader, **means)
    ll.judge.prefer(two, "plain", "tools", ll.judge.Judge.pairwise("relevance", model=other), client=chooser, **means)
    return {
        "keys": keys,
        "requests": sorted({request.to_json() for request in client.requests}),
        "judging": sorted({request.to_json() for request in [*grader.requests, *chooser.requests]}),
        "fingerprints": fingerprints(),
    }


def fingerprints() -> dict[str, str]:
    """What stands for an endpoint in a call key."""
    here = "http://127.0.0.1:8000/v1"
    return {
        "openai": ll.OpenAIClient(here).fingerprint,
        "anthropic": ll.AnthropicClient("http://127.0.0.1:8000").fingerprint,
        "fake": ll.FakeClient("yes").fingerprint,
    }


def replayed(store: Path, client: ll.FakeClient) -> ll.Results:
    """The run that filled the store, again."""
    pair = {name: bundle for name, bundle in bundles().items() if name in ("plain", "retrieval", "tools")}
    golden = ll.GoldenSet.load(HERE / "golden.jsonl").only(ids=["q1", "q2", "q3", "q5", "q7"])
    return ll.run(pair, golden, client=client, store=store, base=GIVEN, progress=False, scorers=[ll.scorers.not_empty])


def tracked(root: Path) -> dict[str, Any]:
    """What MLflow is told in an empty project, as MLflow tells it: a sweep, two versions, four moves, one export."""
    results, folder = _experiment(root)
    decision = ll.GatePolicy.load(folder / "gate.yaml").decide(results, baseline="old", candidate="new")
    receipt = decision.receipt(**MADE)
    sweep = ll.tracking.log(results, decision, root=root)
    old = ll.registry.register(results.bundles["old"], root=root)
    new = ll.registry.register(results.bundles["new"], receipt=receipt, root=root)
    ll.registry.promote(old, reason="the first", force=True, experiment=folder, root=root)
    ll.registry.promote(new, alias="staging", reason="to look at", experiment=folder, root=root)
    ll.registry.promote(new, reason="more of it is right", experiment=folder, root=root)
    ll.registry.export("frozen@production", root / "exported.json", root=root)
    ll.registry.rollback("frozen", reason="complaints", root=root)

    client = mlflow_client(root)
    runs = {variant: client.get_run(run_id) for variant, run_id in sweep.run_ids.items()}
    of = {name: client.search_model_versions(f"name = '{name}'") for name in ("frozen", "frozen__history")}
    return {
        "experiment": sweep.experiment,
        "metrics": {variant: dict(run.data.metrics) for variant, run in runs.items()},
        "params": {variant: dict(run.data.params) for variant, run in runs.items()},
        "tags": {variant: _of_no_process(run.data.tags) for variant, run in runs.items()},
        "artifacts": {variant: _files(run.info.artifact_uri) for variant, run in runs.items()},
        "versions": {
            name: {str(one.version): dict(one.tags) for one in sorted(found, key=lambda one: int(one.version))}
            for name, found in of.items()
        },
        "aliases": dict(client.get_registered_model("frozen").aliases),
        "receipt": receipt.to_json(),
        "bundles": {name: ll.tracking.bundle_json(results.bundles[name]) for name in ("old", "new")},
    }


def mlflow_client(root: Path) -> Any:
    """MLflow's own client on a project's store."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{root / 'mlruns' / 'mlflow.db'}")


def _experiment(root: Path) -> tuple[ll.Results, Path]:
    """The scored results, and a folder with what a promotion reads again."""
    found, folder = results("scored"), root / "experiment"
    folder.mkdir()
    shutil.copy(GIVEN / "gate.yaml", folder / "gate.yaml")
    assert found.golden is not None
    found.golden.save(folder / "golden.jsonl")
    return found, folder


def _of_no_process(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags, without what the process was that logged them."""
    of_process = ("llmlab.host", "llmlab.pid", "llmlab.process_started", "mlflow.source.git.commit")
    return {name: "" if name in of_process else text for name, text in tags.items()}


def _files(address: str) -> list[str]:
    folder = Path(address.removeprefix("file://"))
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def names() -> dict[str, Any]:
    """Every public name: of llmlab and its rooms, of the values that notebooks hold, and of the command line."""
    rooms = {room: sorted(_named(room).__all__) for room in ROOMS}
    values = {name: sorted(_attributes(getattr(ll, name))) for name in VALUES}
    command = next(iter(entry_points(group="console_scripts", name="llmlab"))).load()
    with click.Context(command) as context:
        commands = {name: command.get_command(context, name) for name in command.list_commands(context)}
    options = {
        name: sorted(o for p in found.params for o in (*p.opts, *p.secondary_opts)) for name, found in commands.items()
    }
    return {"llmlab": sorted({*ll.__all__, *ROOMS}), "rooms": rooms, "values": values, "commands": options}


def _named(room: str) -> Any:
    return importlib.import_module(f"llmlab.{room}")


def _attributes(value: type) -> set[str]:
    """Its own methods and fields: not what every pydantic model has."""
    own = {name for one in value.__mro__ if one.__module__.startswith("llmlab") for name in vars(one)}
    fields = {name for one in value.__mro__ for name in vars(one).get("__annotations__", {})}
    return {name for name in own | fields if not name.startswith("_") and name not in ("model_config", "model_copy")}


def exported() -> Any:
    """The exported bundle, as a service reads it; version 0.1 had the reader in `llmlab.exported`."""
    from llmlab.bundle import Exported

    return Exported.load(HERE / "exported.json")
