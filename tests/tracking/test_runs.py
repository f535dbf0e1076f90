"""What a logged run consists of, that it is logged once, and that nothing in it is a key, a NaN or an open run."""

import json
import math
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from llmlab import tracking
from llmlab.base.errors import DataError
from llmlab.bundle.bundle import Bundle
from llmlab.clients.base import Generation, Usage
from llmlab.display.markdown import markdown
from llmlab.gate import GatePolicy
from llmlab.golden.cases import Case, GoldenSet
from llmlab.judge import Labels, with_labels
from llmlab.results.results import Results
from llmlab.results.scores import Metric
from llmlab.simulate import judged_results
from llmlab.tracking.runs import newest_of_sweeps
from llmlab.tracking.store import COMPLETION_TAG, open_store

CANARY = "canary-4711-do-not-write"


def results_of(n_cases=12, *, seed=0, text="Use dropna.", status="ok", prompt="{{ question }}", **facts):
    """Two variants, one bounded metric, one that was never scored."""
    golden = GoldenSet(
        tuple(Case(id=f"q{i}", inputs={"question": f"why {i}?"}, expected=("dropna",)) for i in range(n_cases)),
        name="qa_golden",
    )
    bundles = {
        f"v{k}": Bundle.from_prompt(prompt + "!" * k, model="openai/gpt-4o-2024-08-06", name="qa") for k in (1, 2)
    }
    usage, cost = Usage(input_tokens=3, output_tokens=4), Decimal("0.001")
    answer = Generation(status=status, text=text, retrieved=("a", "b"), usage=usage, latency_s=0.5, cost_usd=cost)
    generations = [replace(answer, variant=variant, case_id=case.id) for case in golden for variant in bundles]
    results = Results.from_generations(generations, golden=golden, bundles=bundles, **facts)
    scores = np.random.default_rng(seed).random(len(results.frame))
    metrics = {"correct": Metric(name="correct", low=0, high=1), "never": Metric(name="never")}
    return replace(results, frame=results.frame.assign(correct=scores, never=np.nan), metrics=metrics)


@pytest.fixture
def logged(project):
    results = results_of()
    return SimpleNamespace(results=results, sweep=tracking.log(results), client=open_store().client)


def test_every_variant_is_one_flat_run_under_a_common_sweep(logged):
    runs = {variant: logged.client.get_run(run_id) for variant, run_id in logged.sweep.run_ids.items()}
    assert list(runs) == ["v1", "v2"]
    for variant, run in runs.items():
        tags = run.data.tags
        assert (run.info.status, run.info.run_name) == ("FINISHED", variant)
        assert {"variant": variant, "sweep_id": logged.sweep.sweep_id}.items() <= tags.items()
        assert tags["bundle_digest"] == logged.results.bundles[variant].digest
        assert tags["golden_digest"] == logged.results.golden_digest
        assert (tags[COMPLETION_TAG], tags["complete"]) == ("whole", "true")
        assert "mlflow.parentRunId" not in tags


def test_means_carry_their_interval_and_counts(logged):
    metrics = logged.client.get_run(logged.sweep.run_ids["v1"]).data.metrics
    estimate = logged.results.summary().estimate("v1", "correct")
    assert metrics["mean/correct"] == pytest.approx(estimate.value)
    assert (metrics["mean_ci/correct.low"], metrics["mean_ci/correct.high"]) == pytest.approx(
        (estimate.low, estimate.high)
    )
    assert (metrics["n/correct.scored"], metrics["n/correct.attempted"]) == (12, 12)
    assert metrics["total/cost_usd"] == pytest.approx(0.012)


def test_an_undefined_metric_is_absent_and_counted(logged):
    """MLflow stores inf as 1.8e308, and a NaN breaks its pages."""
    metrics = logged.client.get_run(logged.sweep.run_ids["v1"]).data.metrics
    assert "mean/never" not in metrics
    assert metrics["n/never.scored"] == 0
    assert metrics["n/undefined"] == 3  # its mean and both ends
    assert all(math.isfinite(value) and abs(value) < 1e300 for value in metrics.values())


def test_means_corrected_by_labels_stand_beside_the_raw_ones(project):
    """With their intervals; where one label allows no correction they are absent."""
    planted = judged_results(60, labelled=20, seed=1, kindness=(0.0, 0.5))
    results = with_labels(planted.results, planted.labels)
    few = with_labels(planted.results, Labels(planted.labels.labels[:1]))
    metrics, without = (
        open_store().client.get_run(tracking.log(one).run_ids["v2"]).data.metrics for one in (results, few)
    )
    fixed = results.summary().corrected["v2", "correctness"]
    names = ("mean/correctness_corrected", "mean_ci/correctness_corrected.low", "mean_ci/correctness_corrected.high")
    assert [metrics[name] for name in names] == pytest.approx([fixed.value, fixed.low, fixed.high])
    assert metrics["mean/correctness"] == pytest.approx(results.summary().estimate("v2", "correctness").value)
    assert not set(names) & set(without)
    assert "mean/correctness" in without


def test_an_unknown_cost_is_no_cost(project):
    results = results_of()
    frame = results.frame.copy()
    frame.loc[frame.index[0], "cost_usd"] = math.nan
    sweep = tracking.log(replace(results, frame=frame))
    assert "total/cost_usd" not in open_store().client.get_run(sweep.run_ids["v1"]).data.metrics


def test_the_same_results_are_logged_once(logged):
    again = tracking.log(replace(logged.results, frame=logged.results.frame.assign(cached=True), created_at=""))
    assert again.was_there
    assert again.run_ids == logged.sweep.run_ids
    assert len(_runs(logged.client)) == 2


def test_other_scores_or_other_bundles_are_another_sweep(logged):
    assert tracking.log(results_of(seed=1)).sweep_id != logged.sweep.sweep_id
    assert results_of(prompt="{{ question }}?").digest != logged.sweep.sweep_id
    assert len(_runs(logged.client)) == 4


def test_a_run_that_was_torn_by_a_kill_is_replaced(logged):
    torn = logged.sweep.run_ids["v2"]
    logged.client.delete_tag(torn, COMPLETION_TAG)
    again = tracking.log(logged.results)
    assert again.run_ids["v1"] == logged.sweep.run_ids["v1"]
    assert again.run_ids["v2"] != torn
    assert len(_runs(logged.client)) == 2


class Interrupted(Results):
    """Results whose logging is interrupted half way, as by Ctrl+C in a notebook."""

    def to_parquet(self, path):
        raise KeyboardInterrupt


def test_an_interrupted_cell_leaves_no_run_open_and_can_be_run_again(project):
    """MLflow's own way leaves a RUNNING run, and says "already active" the next time."""
    results = results_of()
    facts = {field.name: getattr(results, field.name) for field in fields(results)}
    with pytest.raises(KeyboardInterrupt):
        tracking.log(Interrupted(**facts))
    client = open_store().client
    assert [run.info.status for run in _runs(client)] == ["KILLED"]
    sweep = tracking.log(results)
    assert {run.info.run_id for run in _runs(client)} == set(sweep.run_ids.values())


def test_what_was_logged_can_be_read_back_whole(logged):
    again = tracking.load(logged.sweep.sweep_id, experiment="qa")
    assert again.digest == logged.sweep.sweep_id
    assert again.variants == logged.results.variants
    pd.testing.assert_frame_equal(again.frame, logged.results.frame, check_dtype=False)
    assert again.golden.digest == logged.results.golden_digest


def test_a_sweep_that_was_never_logged_is_reported(project):
    with pytest.raises(DataError, match="no sweep 'abc'"):
        tracking.load("abc", experiment="qa")


def test_a_prompt_longer_than_mlflows_limits_is_kept_whole(project, tmp_path):
    """Params are cut at 6,000 characters and tags at 8,000, with only a warning: the bundle is an artifact."""
    results = results_of(prompt="{{ question }}" + "long " * 4_000)
    sweep = tracking.log(results)
    client = open_store().client
    path = client.download_artifacts(sweep.run_ids["v1"], "bundle/bundle.json", str(tmp_path))
    stored = json.loads(Path(path).read_text(encoding="utf-8"))
    assert Bundle.model_validate(stored).digest == results.bundles["v1"].digest
    yaml = client.download_artifacts(sweep.run_ids["v1"], "bundle/bundle.yaml", str(tmp_path))
    assert Bundle.load(yaml) == results.bundles["v1"]
    assert all(len(value) <= 250 for value in client.get_run(sweep.run_ids["v1"]).data.params.values())


def test_cases_are_a_table_without_nan(logged, tmp_path):
    path = logged.client.download_artifacts(logged.sweep.run_ids["v1"], "cases.json", str(tmp_path))
    table = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=pytest.fail)
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == 12
    assert rows[0] | {"correct": 0} == {
        "case_id": "q0",
        "inputs": '{"question": "why 0?"}',
        "repeat": 0,
        "status": "ok",
        "text": "Use dropna.",
        "correct": 0,
        "never": None,
        "retrieved": "a b",
        "latency_s": 0.5,
        "cost_usd": 0.001,
        "error": "",
    }


def test_the_golden_set_is_an_input_with_its_whole_digest(logged):
    dataset = logged.client.get_run(logged.sweep.run_ids["v1"]).inputs.dataset_inputs[0].dataset
    assert dataset.name == "qa_golden"
    assert json.loads(dataset.source)["sha256"] == logged.results.golden_digest


def test_figures_and_a_decision_are_added_to_what_is_there(logged, tmp_path):
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    policy = GatePolicy.model_validate({"baseline": "none", "floors": [{"metric": "correct", "at_least": 0.99}]})
    decision = policy.decide(logged.results, candidate="v2")
    sweep = tracking.log(logged.results, decision, figures={"cost & quality": figure})
    plt.close(figure)
    assert len(_runs(logged.client)) == 2
    picture = logged.client.download_artifacts(sweep.run_ids["v1"], "figures/cost___quality.png", str(tmp_path))
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert logged.client.get_run(sweep.run_ids["v2"]).data.tags["gate"] == decision.word
    assert "gate" not in logged.client.get_run(sweep.run_ids["v1"]).data.tags
    notes = [logged.client.get_run(run_id).data.tags["mlflow.note.content"] for run_id in sweep.run_ids.values()]
    assert [f"Gate: {decision.word}" in note for note in notes] == [name == "v2" for name in sweep.run_ids]


def test_a_runs_page_says_what_changed_and_by_how_much_and_a_list_begins_with_the_goal(logged, tmp_path):
    """The same words and numbers as `diff`, `compare` and `summary` give."""
    results, (row, *_) = logged.results, logged.results.compare("v1", metrics=["correct"])
    run = logged.client.get_run(logged.sweep.run_ids["v2"])
    note = run.data.tags["mlflow.note.content"]
    assert markdown(results.bundles["v1"].diff(results.bundles["v2"])._sentence(), None) in note
    assert markdown(row.sentence, None) in note
    assert run.data.tags["goal_metric"] == "correct"
    estimate = results.summary().estimate("v2", "correct")
    assert run.data.metrics["goal/mean"] == pytest.approx(estimate.value)
    assert run.data.metrics["goal/mean.low"] == pytest.approx(estimate.low)
    assert run.data.metrics["goal/n"] == results.summary().rows["v2", "correct"][0]
    path = logged.client.download_artifacts(run.info.run_id, "comparison.html", str(tmp_path))
    assert "correct" in Path(path).read_text(encoding="utf-8")
    tags = logged.client.get_experiment(run.info.experiment_id).tags
    shown = json.loads(tags["mlflow.sharedViewState.llmlab"])["selectedColumns"]
    names = {f"metrics.`{name}`" for name in run.data.metrics} | {f"tags.`{name}`" for name in (*run.data.tags, "gate")}
    assert set(shown) <= names


def test_partial_results_say_so(project):
    run = _logged_run(results_of(complete=False))
    assert (run.info.status, run.data.tags["state"], run.data.tags["complete"]) == ("KILLED", "partial", "false")


def test_a_failed_run_has_counts_and_no_mean(project):
    run = _logged_run(results_of(status="error"))
    assert (run.info.status, run.data.tags["state"]) == ("FAILED", "FAILED")
    assert run.data.metrics["n/errors"] == 12
    assert "mean/correct" not in run.data.metrics


def test_a_key_in_an_answer_is_never_written(project, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    sweep = tracking.log(results_of(text=f"my key is {CANARY}"))
    leaks = [path for path in project.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert leaks == []
    texts = tracking.load(sweep.sweep_id, experiment="qa").frame["text"]
    assert set(texts) == {"my key is [OPENAI_API_KEY removed]"}


def test_a_key_in_a_prompt_is_refused_since_cutting_it_out_would_change_the_bundle(project, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with pytest.raises(DataError, match="bundle 'v1' contains the value of OPENAI_API_KEY"):
        tracking.log(results_of(prompt=CANARY + " {{ question }}"))


def test_a_notebooks_runs_name_the_notebook(project, monkeypatch):
    notebook_run = open_store().start_run("notebooks", name="01", tags={})
    monkeypatch.setenv("LLMLAB_NOTEBOOK_RUN_ID", notebook_run)
    monkeypatch.setenv("LLMLAB_NOTEBOOK", "notebooks/01.ipynb")
    run = _logged_run(results_of())
    assert run.data.tags["notebook"] == run.data.tags["mlflow.source.name"] == "notebooks/01.ipynb"
    assert run.data.tags["llmlab.notebook_run_id"] == notebook_run


def _logged_run(results):
    return open_store().client.get_run(tracking.log(results).run_ids["v1"])


def _runs(client):
    return client.search_runs([client.get_experiment_by_name("qa").experiment_id])


def test_of_a_sweep_that_was_logged_twice_the_newest_run_counts():
    runs = [
        SimpleNamespace(n=n, data=SimpleNamespace(tags=tags))
        for n, tags in enumerate([{"sweep_id": "a"}, {}, {"sweep_id": "b"}, {"sweep_id": "a"}])
    ]
    assert [(sweep_id, run.n) for sweep_id, run in newest_of_sweeps(runs).items()] == [("a", 0), ("b", 2)]
