"""`llmlab calls`: what is stored and what it cost, and forgetting by variant, model and time."""

from pathlib import Path

import pytest

import llmlab as ll
from tests.cli.calling import llmlab


@pytest.fixture
def asked(project, help_desk):
    """A project whose demo was asked ten questions."""
    exp = ll.Experiment.load("experiments/pandas_help", first=10)
    exp.run(repeats=1, progress=False)
    return project


def says(*arguments):
    done = llmlab("calls", *arguments)
    return done.exit_code, done.output


def test_answers_that_only_the_gate_reads_are_forgotten_too(asked):
    with Path("experiments/pandas_help/gate.yaml").open("a", encoding="utf-8") as gate:
        gate.write("holdout: 0.5\n")
    exp = ll.Experiment.load("experiments/pandas_help")
    assert 0 < len(exp.held_out) < len(exp.golden)
    exp.run({"v2": exp.bundles["v2"]}, exp.held_out, repeats=1, progress=False)
    assert says("forget", "experiments/pandas_help", "--variant", "v2")[0] == 0
    again = exp.dry_run({"v2": exp.bundles["v2"]}, exp.held_out, repeats=1)
    assert sum(again.stored) == 0


def test_what_is_stored_is_shown_and_forgotten_by_what_it_was_of(asked):
    assert "60 answers" in says()[1]
    unsaid = ((), ("--variant", "v2"), ("experiments/pandas_help", "--variant", "v9"), ("experiments/pandas_help",))
    assert [says("forget", *arguments)[0] for arguments in unsaid] == [2, 2, 2, 2]
    assert "60 answers" in says()[1]
    assert says("forget", "experiments/pandas_help", "--variant", "v2")[1].startswith("20 answers")
    assert "40 answers" in says()[1]
    assert says("forget", "--since", "2100-01-01")[1].startswith("0 answers")
    assert says("forget", "--model", "offline/extractive-1", "--since", "2020-01-01")[1].startswith("40 answers")


def test_what_is_not_known_of_the_cost_is_told_with_its_reason(project):
    """A model without a price is one thing, an answer without usage another; both are counted in the last line."""
    usages = {"a": ll.Usage(), "b": ll.Usage(input_tokens=1, output_tokens=1), "c": ll.Usage()}

    class Odd:
        fingerprint = "odd"

        async def complete(self, request):
            word = request.messages[-1]["content"]
            return ll.Generation(text=word, usage=usages[word], cost_usd=0.25 if word == "c" else None)

    bundle = ll.Bundle.from_prompt("{{ question }}", model="acme/m-1")
    golden = ll.GoldenSet([ll.Case(id=word, inputs={"question": word}) for word in usages])
    ll.run(bundle, golden, client=Odd(), progress=False)
    _, told = says()
    assert "0.2500 and 1 without a price and 1 without usage" in told
    assert "3 answers, of which 1 cost $0.2500 and 2 have an unknown cost" in told


def test_a_store_that_is_named_and_not_there_is_refused_and_not_made(project):
    for arguments in (("--store", "typo.sqlite"), ("--store", "typo.sqlite", "forget", "--model", "a/b")):
        code, told = says(*arguments)
        assert code == 2
        assert "typo.sqlite" in told
    assert not Path("typo.sqlite").exists()
