"""`judge.calibrate(labels)` and `judge.check_anchors(...)`: the judge asks for what it has not judged yet."""

import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.golden.labels import Label, Labels, text_digest
from tests.judge.judged import answered, blocks, grade
from tests.judge.test_labels import MODEL, by_digit, judged, label, many


@pytest.fixture
def judge():
    return ll.judge.Judge.pointwise("correctness", model=MODEL)


def means(tmp_path, replies=by_digit):
    return {"client": ll.FakeClient(replies), "store": tmp_path / "c.sqlite", "progress": False}


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
    people = [
        Label(
            rubric="relevance",
            case_id=f"q{i // 2}",
            question=text_digest("Why?"),
            answer=text_digest(f"{i % 5 + 1} so {i}"),
            value=i % 5 + 1,
            asked="Why?",
            text=f"{i % 5 + 1} so {i}",
        )
        for i in range(10)
    ]
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
    people = tuple(
        Label(
            rubric="correctness",
            case_id=f"q{i}",
            question=text_digest(f"Question {i}?"),
            answer_1=text_digest(texts["v3"][i]),
            answer_2=text_digest(texts["v1"][i]),
            value=1 + i % 2,
        )
        for i in range(n)
    )
    asked = means(
        tmp_path, lambda request: '{"winner": "A"}' if "v3" in blocks(request)["Answer A"] else '{"winner": "B"}'
    )
    found = chooser.calibrate(Labels(people), answered(texts), **asked)
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


def test_labels_that_fit_nothing_cost_nothing(judge, tmp_path):
    """Nobody is asked about answers that nobody labelled."""
    asked = means(tmp_path)
    with pytest.raises(DataError, match="none of the 1 labels fits"):
        judge.calibrate(Labels((label("q0", "gone", 3),)), answered({"v1": ["3 here"]}), **asked)
    assert asked["client"].requests == []


def test_a_steady_judge_keeps_its_anchors_and_a_changed_one_is_found(judge, tmp_path):
    """`judge.check_anchors` asks again; what is stored is not used."""
    texts, labels = many()
    anchors = judged({"v1": texts}, judge, tmp_path)
    same = judge.check_anchors(anchors, labels=labels, client=ll.FakeClient(by_digit), progress=False)
    assert same
    assert same.p_mcnemar == 1.0
    moved = judge.check_anchors(
        anchors, client=ll.FakeClient(lambda r: grade(max(1, int(blocks(r)["Answer"][0]) - 1))), progress=False
    )
    assert not moved
    assert "its scores moved by" in moved.drifted
