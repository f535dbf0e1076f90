"""`llmlab batch`: where keys go. `llmlab calls`: what is stored and cost, forgotten by variant, model and time."""

import json
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.engine.batch import write_batches
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


@pytest.mark.parametrize("command", ["send", "read"])
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"key_env": "OPENAI_API_KEY"}, "would send the key in OPENAI_API_KEY to http://127.0.0.1:9/v1"),
        ({"headers": {"X-Team": "AWS_SECRET_ACCESS_KEY"}}, "would send the key in AWS_SECRET_ACCESS_KEY"),
        ({"base_url": "file:///etc/passwd"}, "batches.json: base_url: base_url must be an http(s) address"),
        ({"model": "x"}, "batches.json: 'x' names no provider"),
    ],
)
def test_a_batch_of_somebody_else_sends_no_well_known_key_to_an_address_of_theirs(project, command, edit, said):
    """As found: an edited batches.json sent OPENAI_API_KEY anywhere; an experiment's endpoints.yaml never could."""
    bundle = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", max_tokens=20)
    golden = ll.GoldenSet((ll.Case(id="q", inputs={"question": "?"}),))
    client = ll.OpenAIClient("http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    write_batches(bundle, golden, folder="night", client=client)
    listed = Path("night/batches.json")
    content = json.loads(listed.read_text())
    content["batches"][0] |= edit
    listed.write_text(json.dumps(content))
    done = llmlab("batch", command, "night")
    assert done.exit_code == 2
    assert said in done.output
