"""What production serves, asked again: a model that changed under its name is found, and old answers do not hide it."""

from __future__ import annotations

from pathlib import Path

import pytest

import llmlab as ll
from llmlab import tracking
from llmlab.notebook import run_notebook
from tests.made_results import experiment_folder

ROOT = Path(__file__).parents[2]
COMPARE = ROOT / "notebooks" / "01_compare_variants.ipynb"
WORSE = [[["What is fact"], "I would rather talk of something else."]]


@pytest.fixture
def folder(project, loopback, monkeypatch):
    """Two prompts and twenty cases that the server answers rightly, logged once."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    bundles = {
        name: ll.Bundle.from_prompt(text, model="vllm/m-2026-01-15", name="mine", version=name)
        for name, text in (("v1", "{{ question }}"), ("v2", "Briefly: {{ question }}"))
    }
    cases = [ll.Case(id=f"q{i}", inputs={"question": f"What is fact {i}?"}, expected=f"fact {i}") for i in range(20)]
    return experiment_folder(project / "experiments" / "mine", bundles, cases)


def loaded(folder, loopback):
    return ll.Experiment.load(folder, base_url=loopback.base_url)


def test_a_model_that_changed_under_its_name_is_found(folder, loopback):
    """Against the last logged run, case by case; stored answers say that nothing changed."""
    exp = loaded(folder, loopback)
    tracking.log(exp.run(progress=False))
    loopback.set(answers=WORSE)
    replayed = exp.run(progress=False).compare(baseline="v1", metrics=[exp.metric])
    assert replayed.rows[0].difference.value == 0
    again = exp.asked_again(progress=False)
    before, now = again.variants
    assert before == "v1"
    assert now.startswith("v1 asked ")
    found = again.compare(baseline=before, metrics=[exp.metric])
    assert found.verdict(exp.metric).word == "FAIL"
    assert found.rows[0].difference.value == -1


def test_each_time_the_last_run_is_what_it_is_held_against(folder, loopback):
    """Nothing was logged at first: then the stored answers are; later the newest run of the same cases."""
    exp = loaded(folder, loopback)
    first = exp.asked_again(progress=False)
    assert first.variants[0] == "v1 as stored"
    tracking.log(first.only(variants=first.variants[1:]))
    loopback.set(answers=WORSE)
    second = exp.asked_again(progress=False)
    assert second.variants[0] == first.variants[1]
    assert loopback.stats()["requests"] == 20  # the earlier ones are not asked for again


def test_what_is_served_is_what_the_gate_calls_its_baseline(folder, loopback):
    (folder / "gate.yaml").write_text(
        "baseline: bundles/v2.yaml\nguards: [{metric: mentions_expected, rule: no_shown_harm, margin: 0.1}]\n"
    )
    assert loaded(folder, loopback).served.version == "v2"


@pytest.mark.slow
def test_the_job_fails_where_it_is_worse_and_not_where_nothing_differs(folder, loopback):
    """As the weekly workflow runs it: 3 = not shown to differ, then 1."""
    given = {"experiment": str(folder), "base_url": loopback.base_url, "fresh": "true", "require": "pass"}
    assert run_notebook(COMPARE, given).exit_code == 3
    loopback.set(answers=WORSE)
    assert run_notebook(COMPARE, given).exit_code == 1
