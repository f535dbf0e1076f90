"""The way of a request: assigned, answered, recorded, read, decided; with a truth that is known."""

from datetime import UTC, datetime

import pytest

import llmlab as ll
from llmlab.base.errors import PromptError
from llmlab.experiment import Truth, simulate
from tests.production.made import policy

QUESTIONS = [f"question {i}?" for i in range(5)]
START = datetime(2026, 1, 5, tzinfo=UTC)


def rollout(**changes):
    v1, v2 = (ll.Bundle.from_prompt(f"{{{{ question }}}} {n}", model="openai/gpt-4o-2024-08-06") for n in "12")
    return ll.Rollout(policy=policy(**changes), baseline=v1, candidate=v2)


def served(rules, *, units_a_day=150, **truth):
    about = {"questions": QUESTIONS, "start": START, "days": 4, "seed": 3, "baseline": Truth()}
    return simulate(rules, ll.FakeClient("an answer"), units_a_day=units_a_day, **about, **truth)


def test_what_is_planted_in_the_candidate_is_reverted(project):
    """One error in three, through the real assignment, client, recorder and reader."""
    rules = rollout(planned_units=500)
    requests = served(rules, candidate=Truth(errors=0.3))
    decision = rules.decide(requests, now=datetime(2026, 1, 9, tzinfo=UTC))
    assert decision.action == "REVERT"
    assert decision.readings[0].difference[1] < 0.29 < decision.readings[0].difference[2]
    assert decision.n_requests == len(requests)


def test_prompts_of_other_inputs_are_served_too(project):
    v1, v2 = (ll.Bundle.from_prompt(f"{{{{ bericht }}}} {n}", model="openai/gpt-4o-2024-08-06") for n in "12")
    rules = ll.Rollout(policy=policy(), baseline=v1, candidate=v2)
    asked = [{"bericht": "Waar is mijn pakket?"}]
    given = {"seed": 3, "days": 1, "units_a_day": 20, "baseline": Truth(), "candidate": Truth()}
    requests = simulate(rules, ll.FakeClient("x"), questions=asked, **given)
    assert len(requests) > 10
    assert {trace.inputs["bericht"] for trace in requests} == {"Waar is mijn pakket?"}


def test_bundles_of_a_folder_find_their_corpus_from_there(project):
    """As a run of the experiment does; a service's own paths start where it was started, and it is told where."""
    docs, bundles = project / "tickets" / "docs", project / "tickets" / "bundles"
    docs.mkdir(parents=True)
    bundles.mkdir()
    (docs / "returns.md").write_text("Parcels come back within 14 days.")
    prompt, retrieval = "{{ passages }} {{ question }}", {"corpus": {"folder": "../docs"}, "retriever": "bm25"}
    v1, v2 = (
        ll.Bundle.from_prompt(f"{prompt} {n}", model="openai/gpt-4o-2024-08-06", retrieval=retrieval) for n in "12"
    )
    rules = ll.Rollout(policy=policy(), baseline=v1, candidate=v2)
    given = {"seed": 3, "days": 1, "units_a_day": 20, "baseline": Truth(), "candidate": Truth()}
    requests = simulate(rules, ll.FakeClient("x"), questions=["How long do parcels take?"], base=bundles, **given)
    assert {name.partition("#")[0] for trace in requests for name in trace.answer.retrieved} == {"returns.md"}
    with pytest.raises(PromptError, match=f"start from {project}"):
        v1.request(question="How long?")


def test_only_enrolled_users_are_analysed_and_their_arm_is_that_of_their_name(project):
    """A fifth is enrolled; the recorder writes no arm for the others, and pseudonyms for all."""
    rules = rollout(enrol=[{"share": 0.2}])
    rows = served(rules, candidate=Truth()).to_frame()
    arms = rows.groupby("unit_id")["arm"].first().value_counts(normalize=True)
    assert 0.7 < arms[""] < 0.9
    assert not rows["unit_id"].str.startswith("user-").any()
    inside = rows[rows["arm"] != ""]
    digests = {"baseline": rules.baseline.digest, "candidate": rules.candidate.digest}
    assert (inside["bundle"] == inside["arm"].map(digests)).all()
    assert set(rows.loc[rows["arm"] == "", "bundle"]) == {rules.baseline.digest}
    assert rows.groupby("unit_id")["arm"].nunique().max() == 1
