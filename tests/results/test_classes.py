"""Classification: each class against scikit-learn's figures, and a scorer that fails everywhere."""

import json
import random

import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.clients.base import Generation
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results import Results
from llmlab.results.summary import FEWEST_FAILING
from llmlab.stats.bounded import share_estimate

NAMES = ("Billing", "Technical", "Shipping")


def results_of(truth, said, *, scorers=(ll.scorers.label,), repeats=1):
    """Answers of each variant to cases that expect these; None = the call failed."""
    cases = tuple(Case(id=f"q{i}", inputs={"question": f"{i}?"}, expected=one) for i, one in enumerate(truth))
    generations = [
        Generation(variant=name, case_id=f"q{i}", repeat=r, text=text or "", status="error" if text is None else "ok")
        for name, texts in said.items()
        for i, text in enumerate(texts)
        for r in range(repeats)
    ]
    bundles = {name: ll.Bundle.from_prompt(name, model="openai/gpt-4o-2024-08-06") for name in said}
    return Results.from_generations(generations, golden=GoldenSet(cases), bundles=bundles, scorers=scorers)


@pytest.fixture(scope="module")
def drawn():
    """Classes of uneven size, and answers that are right in seven of ten."""
    draw = random.Random(7)
    truth = draw.choices(NAMES, weights=[5, 3, 1], k=120)
    said = [one if draw.random() < 0.7 else draw.choice([*NAMES, "I do not know"]) for one in truth]
    return truth, said


def test_precision_recall_f1_and_the_matrix_are_those_of_scikit_learn(drawn):
    truth, said = drawn
    typed = [f"**{text.lower()}**." for text in said]
    found = ll.results.classes(results_of(truth, {"v1": typed}))
    names = list(found.names)
    about = {"labels": names, "average": None, "zero_division": 0}
    for shares, oracle in ((found.precisions, precision_score), (found.recalls, recall_score)):
        assert [shares["v1", name].value for name in names] == pytest.approx(oracle(truth, said, **about))
    assert [found.f1("v1", name) for name in names] == pytest.approx(f1_score(truth, said, **about))
    assert found.macro_f1("v1") == pytest.approx(f1_score(truth, said, labels=names, average="macro"))
    every = confusion_matrix(truth, said, labels=[*names, "I do not know"])[:3]
    assert found.counts["v1"].tolist() == every.tolist()
    right = [s == t for t, s in zip(truth, said, strict=True) if t == names[0]]
    assert found.recalls["v1", names[0]] == share_estimate([float(one) for one in right])


def test_the_matrix_says_what_is_taken_for_what_and_lost_answers_are_counted():
    found = ll.results.classes(
        results_of(["a", "a", "a", "b", "b"], {"v1": ["b", "b", "a", "b", "a b"], "v2": ["a", "a", "a", "b", None]})
    )
    assert "a is answered with b: 2 of 3 answers" in str(found.confusion("v1"))
    assert "No class is mistaken" in str(found.confusion("v2"))
    assert found.counts["v1"].tolist() == [[1, 2, 0], [0, 1, 1]]
    assert found.lost == {"v1": 0, "v2": 1}
    assert "left out: 1 of v2" in str(found)
    assert found.precisions["v1", "a"].value == 1.0


def test_repeats_are_no_further_cases():
    """The share is the same, and its interval that of the cases."""
    truth, said = list("aaaabbbb"), list("aaabbbba")
    once, thrice = (ll.results.classes(results_of(truth, {"v": said}, repeats=n)) for n in (1, 3))
    one, three = once.recalls["v", "a"], thrice.recalls["v", "a"]
    assert (one.value, three.value) == (0.75, 0.75)
    assert three.high - three.low >= one.high - one.low


def test_a_class_that_is_never_said_has_no_precision_and_shows_no_nan():
    found = ll.results.classes(results_of(["a", "b"], {"v": ["a", "a"]}))
    assert found.precisions["v", "b"].value is None
    assert found.f1("v", "b") == 0.0
    assert found.macro_f1("v") == pytest.approx(1 / 3)
    assert "nan" not in str(found).lower() + found._repr_html_().lower()


def test_classes_may_be_a_field_of_json():
    truth = [{"team": {"name": "a"}}, {"team": {"name": "b"}}, {"other": 1}]
    said = ['{"team": {"name": "A"}}', '{"team": {}}', "{}"]
    found = ll.results.classes(results_of(truth, {"v": said}), "team.name")
    assert found.counts["v"].tolist() == [[1, 0, 0], [0, 0, 1]]
    with pytest.raises(DataError, match="field 'absent'"):
        ll.results.classes(results_of(truth, {"v": said}), "absent")


def test_a_summary_with_labels_names_the_table_of_classes():
    assert "ll.results.classes(results)" in str(results_of(["a", "b"], {"v": ["a", "b"]}))


def broken(case, generation):
    """A scorer with a fault of its own."""
    return float(json.loads(generation.text)["score"])


def test_a_scorer_that_fails_everywhere_says_so_with_its_commonest_error():
    said = {"v1": ["x", "x", "{", "x"], "v2": ["a", "x", "a", "x"]}
    summary = str(results_of(["a"] * 4, said, scorers=(broken, ll.scorers.label)))
    assert "broken scores no answer of v1, v2; most often (7 of 8): the scorer raised JSONDecodeError" in summary
    assert 'label is 0 for every answer of v1; most often (3 of 4): said "x", expected "a".' in summary
    assert "label is 0 for every answer of v1, v2" not in summary


@pytest.mark.parametrize(("text", "n"), [("x", FEWEST_FAILING - 1), ("a", 5), (None, 5)])
def test_few_answers_right_ones_and_lost_ones_are_no_failing_scorer(text, n):
    assert "for every answer" not in str(results_of(["a"] * n, {"v1": [text] * n}))
