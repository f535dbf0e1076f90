"""`judge.calibrate(labels)`: the judge asks for what it has not judged yet."""

import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.golden.labels import Labels, text_digest
from tests.judge.judged import MODEL, answered, blocks, grade, judged, label, many, means, preferences


@pytest.fixture
def judge():
    return ll.judge.Judge.pointwise("correctness", model=MODEL)


def test_judged_results_are_measured_without_a_call(judge, tmp_path):
    """The same figures as `ll.judge.calibrate`."""
    texts, labels = many()
    results = judged({"v1": texts}, judge, tmp_path)
    found = judge.calibrate(labels, results, client=ll.FakeClient([]), store=tmp_path / "none.sqlite")
    assert found.records() == ll.judge.calibrate(labels, results).records()
    assert (found.judge_digest, found.labels_digest) == (judge.digest, labels.digest)


def test_only_what_was_labelled_is_judged(judge, tmp_path):
    """Ten labels of forty answers: ten calls."""
    texts, labels = many()
    some = Labels(labels.labels[:10])
    asked = means(tmp_path)
    found = judge.calibrate(some, answered({"v1": texts}), **asked)
    assert found.only.n == 10
    assert len(asked["client"].requests) == 10


def test_another_judges_scores_are_not_taken_for_its_own(judge, tmp_path):
    """A column of that name by another judge is judged anew."""
    texts, labels = many(12)
    other = ll.judge.Judge.pointwise("correctness", model=MODEL, temperature=0.5)
    results = judged({"v1": texts}, other, tmp_path, lambda _request: grade(1))
    found = judge.calibrate(labels, results, **means(tmp_path))
    assert found.judge_digest == judge.digest
    assert found.only.agreement.value > 0.4


def test_labels_that_hold_their_texts_need_no_results(tmp_path):
    """As `Worklist.save` writes them; the judge is asked what people were asked."""
    judge = ll.judge.Judge.pointwise("relevance", model=MODEL)
    about = {"rubric": "relevance", "question": text_digest("Why?"), "asked": "Why?"}
    texts = [f"{i % 5 + 1} so {i}" for i in range(10)]
    people = [label(f"q{i // 2}", text, int(text[0]), text=text, **about) for i, text in enumerate(texts)]
    found = judge.calibrate(Labels(tuple(people)), **means(tmp_path))
    assert (found.only.n, found.only.agreement.value) == (10, 1.0)
    changed = [people[0].model_copy(update={"text": "something else"}), *people[1:]]
    with pytest.raises(DataError, match="1 of 10 labels do not hold the text"):
        judge.calibrate(Labels(tuple(changed)), **means(tmp_path))


def test_labels_without_texts_need_the_results(judge):
    _, labels = many(4)
    with pytest.raises(DataError, match=r"judge.calibrate\(labels, results\)"):
        judge.calibrate(labels)


def test_a_chooser_is_measured_on_preferences_of_every_pair_that_has_labels(tmp_path):
    """Three variants, labels on one pair: two calls per labelled case."""
    chooser = ll.judge.Judge.pairwise("correctness", model=MODEL)
    n = 8
    texts = {name: [f"{name} says {i}" for i in range(n)] for name in ("v1", "v2", "v3")}
    asked = means(
        tmp_path, lambda request: '{"winner": "A"}' if "v3" in blocks(request)["Answer A"] else '{"winner": "B"}'
    )
    found = chooser.calibrate(preferences(texts, "v3", "v1"), answered(texts), **asked)
    assert len(asked["client"].requests) == 2 * n
    assert found.only.n == n
    assert found.only.position.accuracy_both.value == 0.5


@pytest.mark.parametrize(
    ("kind", "rubric", "message"),
    [("pairwise", "correctness", "give preferences"), ("pointwise", "completeness", "by the rubric 'correctness'")],
)
def test_labels_of_another_kind_or_rubric_are_refused(kind, rubric, message):
    made = ll.judge.Judge.pointwise if kind == "pointwise" else ll.judge.Judge.pairwise
    _, labels = many(4)
    with pytest.raises(DataError, match=message):
        made(rubric, model=MODEL).calibrate(labels, answered({"v1": ["1"]}))


def test_of_several_results_those_without_a_labelled_answer_are_left_out(judge, tmp_path):
    texts, labels = many()
    both = judge.calibrate(labels, [answered({"v1": texts}), answered({"v2": ["nobody read 3"]})], **means(tmp_path))
    assert both.only.n == 40


def test_labels_that_fit_nothing_cost_nothing(judge, tmp_path):
    """Nobody is asked about answers that nobody labelled."""
    asked = means(tmp_path)
    with pytest.raises(DataError, match="none of the 1 labels fits"):
        judge.calibrate(Labels((label("q0", "gone", 3),)), answered({"v1": ["3 here"]}), **asked)
    assert asked["client"].requests == []
