"""One case in full: what was wanted, how the answers differ, why each score is what it is."""

import asyncio
import json
import re
import shlex
from dataclasses import replace

import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import Generation, Request
from llmlab.clients.call_store import CallStore, call_key
from llmlab.display.diff import both_sides, diffed
from tests.made_results import made


def asked_once(*rows, scorers, **case):
    """Results of these answers to one case."""
    golden = ll.GoldenSet((ll.Case(id="q", **case),))
    bundles = {row.variant: ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1") for row in rows}
    return ll.Results.from_generations(rows, golden=golden, bundles=bundles, scorers=scorers)


def retrieved():
    """One case, two variants: the first fetched nothing relevant, the second did."""
    return asked_once(
        ll.Generation(variant="v1", case_id="q", text="Use fillna for all gaps.", retrieved=("x", "c")),
        ll.Generation(variant="v2", case_id="q", text="Use dropna for all gaps.", retrieved=("b",)),
        scorers=[ll.scorers.mentions_expected],
        inputs={"question": "Gaps?"},
        expected=("dropna|drop",),
        relevant={"a": 1, "b": 2, "c": 0},
    )


def test_a_thought_is_folded_and_no_part_of_the_answer():
    """In the view, the frame and the file; scorers and lengths see the answer."""
    row = ll.Generation(variant="v1", case_id="q", text="4", thought="Not 5: <b>two</b> twice.")
    scorers = [ll.scorers.exact, ll.scorers.word_count]
    results = asked_once(row, scorers=scorers, inputs={"question": "2 + 2?"}, expected=("4",))
    page = results.view("q")._repr_html_()
    assert "<details><summary>24 characters</summary>" in page
    assert "&lt;b&gt;two" in page
    assert results.frame[["exact", "word_count"]].iloc[0].tolist() == [1.0, 1.0]
    assert next(results.generations()).thought == row.thought
    without = results.with_columns(thought=[""])
    assert without.digest != results.digest
    assert without.digest == replace(results, frame=results.frame.drop(columns="thought")).digest
    assert "details" not in without.view("q")._repr_html_()


def test_it_says_what_was_wanted_what_was_fetched_and_what_differs():
    """Expected facts, relevant documents by grade, those fetched marked, those missing named."""
    results = retrieved()
    page = results.view("q", outcomes=ll.retrieval.attribute(results).outcomes)._repr_html_()
    for part in ("dropna or drop", "b (2) · a (1)", "✓ b", "not retrieved: a, b", "retrieval failure", "v1 (baseline)"):
        assert part in page
    assert "fillna</del>" in page
    assert "dropna</ins>" in page


def test_a_metric_may_be_called_as_a_row_is():
    """A scorer named `answer` stands beside the answer, not instead of it."""

    @ll.scorer(low=0, high=1, name="answer")
    def graded(_case, _generation):
        return 0.25

    rows = retrieved().scored_by([graded]).view("q")._beside_each_other()
    assert [row[""] for row in rows].count("answer") == 2


def test_the_baseline_comes_first_and_variants_can_be_chosen():
    assert list(retrieved().view("q", baseline="v2").answers) == ["v2", "v1"]
    assert list(retrieved().view("q", variants=["v2"]).answers) == ["v1", "v2"]
    assert list(retrieved().view("q", baseline="v2", variants=[]).answers) == ["v2"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("not mentioned: dropna", "not mentioned: dropna"),
        ('{"reason": "too short", "score": 2}', "too short"),
        ('unscored (no level): {"reason": 1', "unscored (no level)"),
        ("[1, 2]", "[1, 2]"),
        (json.dumps({"order1": 1, "order2": 2, "settled": "", "raw": ['{"reason": "first"}', "B"]}), "first; B"),
        (json.dumps({"order1": None, "order2": None, "settled": "they are the same"}), "they are the same"),
    ],
)
def test_a_judges_reason_is_read_out_of_its_reply(said, shown):
    results = made({"v1": [0.5]})
    results = replace(results, frame=results.frame.assign(explanations=json.dumps({"right": said})))
    assert shown in results.view("q000")._repr_html_()


def test_texts_with_little_in_common_are_not_marked_word_by_word():
    before, after = "one two three four five six seven", "eight nine ten eleven twelve thirteen fourteen"
    assert diffed(before, after).pieces == (("(little in common)\n", "quiet"), (after, ""))
    assert str(diffed("the same text", "the  same\ntext")) == "the  same\ntext"
    assert [str(side) for side in both_sides(before, after)] == [before, after]


def test_a_case_is_shown_with_question_expectation_answers_and_reasons():
    page = made({"v1": [0.4, 0.6], "v2": [0.2, 0.9]}).show("q001")
    text = str(page)
    for part in ("question 1?", "Expected: yes", "right: read 0.6", "0.9"):
        assert part in text
    html = page._repr_html_()
    assert "<del" in html
    assert "<ins" in html
    with pytest.raises(ValueError, match="'q9'"):
        made({"v1": [0.4]}).show("q9")
    with pytest.raises(DataError, match="store="):
        page.curl("v1")


def pasted(folder, endpoint):
    """The second of two variants whose requests to this endpoint are in a call store, as its case shows it."""
    results, keys = made({"v1": [0.4], "v2": [0.2]}), {}
    with CallStore(folder / "calls.sqlite") as store:
        for variant in results.variants:
            request = Request(
                model=ModelRef.parse("openai/gpt-4o-2024-08-06"),
                messages=({"role": "user", "content": f"it's {variant} `$(rm -rf /)`"},),
                sampling=Sampling(temperature=0.0),
            )
            keys[variant] = call_key(endpoint, request)
            asyncio.run(store.put(keys[variant], request, Generation(text="x")))
    results = results.with_columns(call_key=[keys[variant] for variant in results.frame["variant"]])
    results = replace(results, provenance={"endpoints": dict.fromkeys(results.variants, endpoint)})
    page = results.show("q000", store=folder / "calls.sqlite")
    assert "request" in page._repr_html_()
    return page.curl("v2")


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("https://api.openai.com/v1", ["${OPENAI_API_KEY}"]),
        ("https://api.groq.com/openai/v1", ["${GROQ_API_KEY}"]),
        ("http://127.0.0.1:11434/v1", []),
        ("https://llm.example/v1", ["${API_KEY}"]),  # whose address that is nobody knows
    ],
)
def test_the_exact_request_can_be_pasted_as_curl(tmp_path, address, variables):
    """One shell command; texts are quoted, the key is a variable's name: that of the address, of no other provider."""
    command = pasted(tmp_path, address)
    words = shlex.split(command)
    assert words[:2] == ["curl", f"{address}/chat/completions"]
    assert any("it's v2 `$(rm -rf /)`" in word for word in words)
    assert re.findall(r"\$\{\w+\}", command) == variables
    assert [word for word in words if "Bearer" in word] == [f"Authorization: Bearer {name}" for name in variables]


def test_a_request_that_went_to_no_url_is_shown_as_json(tmp_path):
    assert json.loads(pasted(tmp_path, "offline/extractive-1"))["model"]["id"] == "gpt-4o-2024-08-06"
