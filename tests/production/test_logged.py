"""MLflow gets one run per decision with all that it rests on, and feedback on its own traces."""

import json
from pathlib import Path

import pytest

from llmlab import production, registry, tracking
from llmlab.base.errors import RegistryError
from llmlab.bundle.bundle import Bundle
from llmlab.production.rollout import decide
from llmlab.tracking.store import open_store
from tests.production.made import DIGESTS, on_day, policy, traffic


def decided(**given):
    return decide(policy(), traffic(seed=1, days=8, **given), digests=DIGESTS, now=on_day(8))


def test_a_decision_is_one_run_with_rules_receipt_table_and_figures(project):
    """Logged twice it is there once."""
    from matplotlib.figure import Figure

    decision = decided()
    logged = production.log(decision, figures={"nothing": Figure()}, root=project)
    again = production.log(decision, root=project)
    assert (again.run_id, again.was_there, logged.was_there) == (logged.run_id, True, False)
    client = open_store(project).client
    run = client.get_run(logged.run_id)
    assert (run.info.status, run.data.tags["action"]) == ("FINISHED", "KEEP_GOING")
    assert run.data.metrics["n/units.baseline"] == decision.n_units[0]
    assert run.data.metrics["difference/error_rate"] == decision.readings[0].difference[0]
    assert {f.path for f in client.list_artifacts(logged.run_id, "figures")} == {"figures/nothing.png"}
    kept = client.download_artifacts(logged.run_id, "rollout/receipt.json", str(project))
    assert production.RolloutReceipt.load(kept) == decision.receipt()
    table = json.loads(Path(client.download_artifacts(logged.run_id, "table.json", str(project))).read_text())
    assert [row[0] for row in table["data"]] == [reading.name for reading in decision.readings]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # of MLflow's own
def test_feedback_reaches_the_traces_that_live_in_mlflow(project):
    """What is about other requests is counted, not guessed."""
    import mlflow

    store = open_store(project)
    mlflow.set_tracking_uri(store.uri)
    span = mlflow.start_span_no_context("chat", experiment_id=store.experiment_id("served"))
    span.end()
    mlflow.flush_trace_async_logging()
    feedback = [(span.trace_id, "thumbs", 0.0), ("ours-1", "thumbs", 1.0)]
    assert tracking.log_feedback(feedback, root=project) == (1, 1)
    (kept,) = mlflow.get_trace(span.trace_id).info.assessments
    assert (kept.name, kept.value, kept.source.source_type) == ("thumbs", 0.0, "HUMAN")


def test_a_revert_can_take_the_alias_back(project):
    """Only where it serves the candidate, whose own file is not needed for it, and only after a REVERT."""
    v1, v2 = (Bundle.from_prompt(f"{{{{ question }}}} {n}", model="openai/gpt-4o-2024-08-06", name="qa") for n in "12")
    rollout = production.Rollout(policy=policy(), baseline=v1, candidate=v2)
    for bundle in (v1, v2):
        version = registry.register(bundle, root=project)
        registry.promote(version, experiment="x", reason="a test", force=True, root=project)
    v1.save(project / "v1.yaml")
    (project / "rollout.yaml").write_text(policy(baseline="production", candidate="v1.yaml").to_yaml())
    assert production.Rollout.load(project / "rollout.yaml", root=project).baseline == v2  # what the alias serves
    bad = decided(errors=(0.01, 0.05))
    with pytest.raises(ValueError, match="must be REVERT"):
        rollout.roll_back(decided(), root=project)
    for file in (project / "mlruns" / "artifacts").rglob("bundle.json"):
        if v2.digest == Bundle.model_validate_json(file.read_text()).digest:
            file.write_text("damaged")
    move = rollout.roll_back(bad, root=project)
    assert (move.kind, move.digest, move.reason[:6]) == ("rollback", v1.digest, "REVERT")
    with pytest.raises(RegistryError, match="not the candidate"):
        rollout.roll_back(bad, root=project)
