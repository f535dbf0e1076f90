"""The price of looking: it stays whatever somebody tidies away in the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmlab import tracking
from llmlab.base.errors import DataError
from llmlab.gate import Decision
from llmlab.registry import audit, ledger, register
from llmlab.tracking.ledger import LOOK_TAG
from llmlab.tracking.store import Store, open_store
from tests.gate.gating import decided, noisy, policy, superior

RULES = policy(goal=superior())


def looked(seed: int) -> tuple[Decision, Any]:
    """The verdict on answers of its own, with what the ledger knows; and the candidate's MLflow run."""
    results = noisy(0.1, n=40, seed=seed)
    decision = decided(RULES, results, looks=ledger(RULES, results.bundles["v2"]))
    logged = tracking.log(results, decision)
    return decision, open_store().client.get_run(logged.run_ids["v2"])


def in_the_trash(store: Store, run: Any) -> None:
    store.client.delete_run(run.info.run_id)


def without_its_tag(store: Store, run: Any) -> None:
    for key in [key for key in run.data.tags if key.startswith("look.")]:
        store.client.delete_tag(run.info.run_id, key)


def without_its_number(store: Store, run: Any) -> None:
    experiment = store.client.get_experiment(run.info.experiment_id)
    for key in [key for key in experiment.tags if key.startswith("look.1.")]:
        store.client.delete_experiment_tag(experiment.experiment_id, key)


def in_the_trash_without_its_tag(store: Store, run: Any) -> None:
    without_its_tag(store, run)
    in_the_trash(store, run)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("tidied", [in_the_trash, without_its_tag, without_its_number, in_the_trash_without_its_tag])
def test_a_look_that_was_tidied_away_in_one_place_still_counts(tidied: Callable[[Store, Any], None]) -> None:
    """The loser's run in MLflow's trash, its tag, its number: the next look is the second."""
    first, run = looked(1)
    assert first.price.look == 1
    tidied(open_store(), run)
    second, _ = looked(2)
    assert (second.price.look, second.price.missing) == (2, 0)
    assert second.price.asked == pytest.approx(1 - 0.05 / 4)


def test_a_look_that_is_gone_from_both_places_counts_by_its_number_and_is_told(project: Path) -> None:
    """In the decision's words, and by the audit."""
    _, run = looked(1)
    _, other = looked(2)
    store = open_store()
    without_its_tag(store, run)
    without_its_number(store, run)
    third, last = looked(3)
    assert (third.price.look, third.price.missing) == (3, 1)
    assert "1 went from the ledger" in str(third)
    results = tracking.load(last.data.tags["sweep_id"], experiment=other.data.tags["bundle_name"])
    register(results.bundles["v2"])
    assert [finding.about for finding in audit("desk").wrong] == ["looks"]


@pytest.mark.parametrize("text", ["{", "5", '["made_at"]', '{"a": 1}', "made_at"])
def test_a_look_that_was_edited_is_told_with_its_place_and_ends_no_audit(project: Path, text: str) -> None:
    """As found: one bad tag of any experiment ended every gate, every promotion and the audit."""
    _, run = looked(1)
    store = open_store()
    experiment = store.client.get_experiment(run.info.experiment_id)
    (tag,) = [key for key in experiment.tags if key.startswith("look.1.")]
    edited = json.dumps(json.loads(experiment.tags[tag]) | {"made_at": "yesterday"}) if text == "made_at" else text
    store.client.set_experiment_tag(experiment.experiment_id, tag, edited)
    with pytest.raises(DataError, match=rf"the tag {LOOK_TAG}1\. .* of the experiment .* delete it"):
        looked(2)
    register(tracking.load(run.data.tags["sweep_id"], experiment=experiment.name).bundles["v2"])
    assert [finding.about for finding in audit("desk").wrong] == ["looks"]
    store.client.delete_experiment_tag(experiment.experiment_id, tag)
    assert looked(2)[0].price.look == 2  # as it was told, the run's tag still counts


@pytest.mark.usefixtures("project")
def test_a_number_that_no_ledger_has_counts_for_nothing() -> None:
    """As found: every number below it counted as a look that is missing, until the memory was full."""
    _, run = looked(1)
    store = open_store()
    store.client.set_experiment_tag(run.info.experiment_id, f"{LOOK_TAG}{10**30}.a.b.c", "{}")
    assert (looked(2)[0].price.look, looked(2)[0].price.missing) == (2, 0)


@pytest.mark.usefixtures("project")
def test_a_look_keeps_its_first_moment_when_its_tag_is_written_again() -> None:
    """Deleting a tag and logging the same decision anew makes it no younger, and no second look."""
    first, run = looked(1)
    without_its_tag(open_store(), run)
    again, _ = looked(1)
    assert again.price.look == 1
    known = tracking.looks(name="desk")
    assert len({(look.results_digest, look.policy_digest, look.bundle_digest) for look in known}) == 1
    assert min(look.made_at for look in known) == first.look.made_at
