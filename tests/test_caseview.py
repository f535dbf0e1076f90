"""One case in full: what was wanted, how the answers differ, why each score is what it is."""

import json
from dataclasses import replace

import pytest

import llmlab as ll
from llmlab.caseview import view
from llmlab.marked import both_sides, diffed
from tests.made_results import made


def retrieved():
    """One case, two variants: the first fetched nothing relevant, the second did."""
    case = ll.Case(id="q", inputs={"question": "Gaps?"}, expected=("dropna|drop",), relevant={"a": 1, "b": 2, "c": 0})
    rows = [
        ll.Generation(variant="v1", case_id="q", text="Use fillna for all gaps.", retrieved=("x", "c")),
        ll.Generation(variant="v2", case_id="q", text="Use dropna for all gaps.", retrieved=("b",)),
    ]
    bundles = {name: ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1") for name in ("v1", "v2")}
    results = ll.Results.from_generations(rows, golden=ll.GoldenSet((case,)), bundles=bundles)
    return results.scored_by([ll.scorers.mentions_expected])


def test_it_says_what_was_wanted_what_was_fetched_and_what_differs():
    """Expected facts, relevant documents by grade, those fetched marked, those missing named."""
    results = retrieved()
    page = view(results, "q", attribution=ll.retrieval.attribute(results))._repr_html_()
    for part in ("dropna or drop", "b (2) · a (1)", "✓ b", "not retrieved: a, b", "retrieval failure", "v1 (baseline)"):
        assert part in page
    assert "fillna</del>" in page
    assert "dropna</ins>" in page


def test_the_baseline_comes_first_and_variants_can_be_chosen():
    """The second variant against the first, or the other way round."""
    assert list(view(retrieved(), "q", baseline="v2").answers) == ["v2", "v1"]
    assert list(view(retrieved(), "q", variants=["v2"]).answers) == ["v1", "v2"]
    assert list(view(retrieved(), "q", baseline="v2", variants=[]).answers) == ["v2"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("not mentioned: dropna", "not mentioned: dropna"),
        ('{"reason": "too short", "score": 2}', "too short"),
        ('unscored (no level): {"reason": 1', "unscored (no level)"),
        ("[1, 2]", "[1, 2]"),
        (json.dumps({"order1": 1, "order2": 2, "settled": "", "raw": ['{"reason": "first"}', "B"]}), "first; B"),
        (
            json.dumps({"order1": None, "order2": None, "settled": "the answers are the same"}),
            "the answers are the same",
        ),
    ],
)
def test_a_judges_reason_is_read_out_of_its_reply(said, shown):
    """Pointwise, in pairs, or what it was instead of JSON."""
    results = made({"v1": [0.5]})
    results = replace(results, frame=results.frame.assign(explanations=json.dumps({"right": said})))
    assert shown in view(results, "q000")._repr_html_()


def test_texts_with_little_in_common_are_not_marked_word_by_word():
    """Marks everywhere would hide both texts."""
    before, after = "one two three four five six seven", "eight nine ten eleven twelve thirteen fourteen"
    assert diffed(before, after).pieces == (("(little in common)\n", "quiet"), (after, ""))
    assert str(diffed("the same text", "the  same\ntext")) == "the  same\ntext"
    assert [str(side) for side in both_sides(before, after)] == [before, after]
