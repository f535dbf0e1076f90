"""A judge against people's labels, bound to what was read: figures, passports, corrections, anchors, what is next."""

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import llmlab as ll
from llmlab.base.errors import DataError, FileRuleError
from llmlab.gate.passport import Limit
from llmlab.golden.labels import Labels, text_digest
from llmlab.simulate import judged_results, judged_verdicts
from tests.judge.judged import MODEL, answered, blocks, by_digit, grade, judged, label, many, means, preferences

FOLDER = Path(__file__).parents[2] / "experiments/pandas_help"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def judge():
    return ll.judge.Judge.pointwise("correctness", model=MODEL)


def test_labels_survive_the_file(tmp_path):
    """Written, read, same digest; a line without a value waits."""
    _, labels = many(4)
    again = ll.judge.Labels.load(labels.save(tmp_path / "l.jsonl"))
    assert again.digest == labels.digest
    rows = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    rows[0]["value"] = None
    assert ll.judge.Labels.load(written(tmp_path / "w.jsonl", rows)).waiting == 1


GRADE = {"rubric": "tone", "case_id": "q1", "question": "a", "answer": "b", "value": 3}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"value": "good"}, "value"),
        ({"value": 3.5}, "value"),
        ({"value": "tie"}, "whole number"),
        ({"answer": None}, "give `answer`"),
        ({"answer_1": "x"}, "give `answer`"),
        ({"stars": 5}, "stars"),
        ({"inclusion": 0}, "inclusion"),
    ],
)
def test_a_line_that_is_no_label_is_refused_with_its_number(tmp_path, change, rule):
    with pytest.raises(FileRuleError, match=rule) as refused:
        ll.judge.Labels.load(written(tmp_path / "l.jsonl", [GRADE, {**GRADE, **change}]))
    assert refused.value.line == 2


def test_grades_and_preferences_do_not_mix(tmp_path):
    pair = {"rubric": "tone", "case_id": "q1", "question": "a", "answer_1": "b", "answer_2": "c", "value": "tie"}
    with pytest.raises(FileRuleError, match="several rubrics or kinds"):
        ll.judge.Labels.load(written(tmp_path / "l.jsonl", [GRADE, pair]))


def test_a_calibration_is_bound_to_judge_and_labels(judge, tmp_path):
    """Both digests, and the share of equal levels."""
    texts, labels = many()
    found = ll.judge.calibrate(labels, judged({"v1": texts}, judge, tmp_path))
    assert (found.judge_digest, found.labels_digest, found.pinned) == (judge.digest, labels.digest, True)
    assert found.only.n == 40
    assert found.only.leaning.value == pytest.approx(16 / 40)


def test_stale_labels_are_counted_and_not_used(judge, tmp_path):
    texts, labels = many()
    found = ll.judge.calibrate(labels, judged({"v1": ["3 new", *texts[1:]]}, judge, tmp_path))
    assert found.only.n == 39
    assert "1 of 40 labels fit no answer here" in found.notes[0]
    with pytest.raises(DataError, match="none of the 40 labels fits"):
        ll.judge.calibrate(labels, judged({"v1": [f"{text}!" for text in texts]}, judge, tmp_path))


@pytest.mark.parametrize(("chance", "told"), [(None, "30 of 40 answers labelled"), (0.2, "")])
def test_labels_of_which_some_do_not_say_their_chance_are_read_as_even_and_it_is_told(judge, tmp_path, chance, told):
    texts, labels = many()
    chances = [0.5] * 10 + [chance] * 30
    mixed = [label.model_copy(update={"inclusion": p}) for label, p in zip(labels.labels, chances, strict=True)]
    notes = judged({"v1": texts}, judge, tmp_path).with_labels(Labels(tuple(mixed))).notes
    assert told in " ".join(notes)
    assert ("by what chance" in " ".join(notes)) == bool(told)


def test_per_tag_every_tag_has_its_group(judge, tmp_path):
    texts, labels = many()
    found = ll.judge.calibrate(labels, judged({"v1": texts}, judge, tmp_path), by="tags")
    assert {group.group["tags"]: group.n for group in found} == {"even": 20, "odd": 20}


def test_a_rule_is_not_calibrated_as_a_judge(tmp_path):
    texts, labels = many()
    results = answered({"v1": texts}).scored_by([ll.scorers.mentions_expected])
    with pytest.raises(DataError, match="not given by one judge"):
        ll.judge.calibrate(labels, results, metric="mentions_expected")


def test_a_passport_says_each_limit_that_it_fails(judge, tmp_path):
    """Bound to the judge; valid for it alone, and until it expires."""
    texts, labels = many()
    found = ll.judge.calibrate(labels, judged({"v1": texts}, judge, tmp_path))
    limits = {"kappa": Limit(at_least=0.99), "agreement": Limit(at_least=0.5)}
    passport = ll.judge.passport(found, now=NOW, limits=limits)
    check = passport.valid(NOW, judge.digest)
    assert len(check.failures) == 1
    assert "must be at least 0.99" in check.failures[0]
    loose = ll.judge.passport(found, now=NOW, limits={"kappa": Limit(at_least=0.1)}, good_for_days=30)
    assert loose.valid(NOW, judge.digest)
    assert not loose.valid(NOW, "f" * 64)
    assert not loose.valid(datetime(2026, 12, 22, tzinfo=UTC), judge.digest)
    assert loose.labels_digest == labels.digest


def test_a_floating_judge_gets_no_passport(tmp_path):
    floating = ll.judge.Judge.pointwise("correctness", model="openai/gpt-4o")
    texts, labels = many()
    found = ll.judge.calibrate(labels, judged({"v1": texts}, floating, tmp_path))
    with pytest.raises(ValueError, match="not pinned"):
        ll.judge.passport(found, now=NOW)
    with pytest.raises(DataError, match="one judge"):
        ll.judge.passport(ll.judge.calibrate_verdicts(judged_verdicts(50, seed=1), resamples=0), now=NOW)


def test_the_corrected_score_is_what_people_say_when_all_is_labelled(judge, tmp_path):
    texts, labels = many()
    found = ll.judge.corrected(judged({"v1": texts}, judge, tmp_path), "correctness", labels)["v1"]
    assert found.corrected.value == pytest.approx(np.mean([one.value for one in labels]))
    assert found.raw.value == pytest.approx(3.0)


def test_rogan_gladen_is_refused_for_a_judge_that_knows_nothing(judge, tmp_path):
    """Where Youden's J reaches 0 there is no corrected rate, and the reason is said."""
    texts = [f"{i % 5 + 1} answer {i}" for i in range(80)]
    labels = ll.judge.Labels(tuple(label(f"q{i}", texts[i], 1 + 4 * (i // 5 % 2)) for i in range(40)))
    results = judged({"v1": texts}, judge, tmp_path)
    found = ll.judge.corrected_rate(results, "correctness", labels, variant="v1", passes_from=4)
    assert found.corrected.value is None
    assert "Youden" in found.corrected.notes[0]


def test_anchors_tell_a_steady_judge_from_one_that_changed(judge, tmp_path):
    """The same answers judged again, without the call store: a provider's silent change is found."""
    texts, labels = many(60)
    anchors = judged({"v1": texts}, judge, tmp_path)
    steady = judge.check_anchors(anchors, labels=labels, client=ll.FakeClient(by_digit), progress=False)
    assert steady
    assert (steady.n, steady.changed, steady.p_mcnemar) == (60, 0, 1.0)
    kinder = ll.FakeClient(lambda request: grade(min(5, int(blocks(request)["Answer"][0]) + 1)))
    changed = ll.judge.check_anchors(anchors, judge, labels=labels, client=kinder, progress=False)
    assert not changed
    assert changed.shift.value == pytest.approx(0.8)
    assert "its scores moved by" in changed.drifted
    assert "Calibrate it again" in str(changed)
    other = ll.judge.Judge.pointwise("tone", model=MODEL)
    with pytest.raises(DataError, match="another judge"):
        ll.judge.check_anchors(anchors, other, metric="correctness")


def test_what_to_label_next_is_chosen_with_known_probabilities(judge, tmp_path):
    """Over many draws each case comes as often as its stored probability says."""
    texts, _ = many(20)
    results = judged({"v1": texts, "v2": [f"{t}." for t in texts]}, judge, tmp_path)
    counts, stored = dict.fromkeys((f"q{i}" for i in range(20)), 0), {}
    for seed in range(400):
        work = ll.judge.to_label(results, 5, metric="correctness", threshold=3, seed=seed)
        chosen = {case: chance for case, _, _, chance in work.items}
        assert len(chosen) == 5
        assert len(work) == 10
        stored |= chosen
        for case in chosen:
            counts[case] += 1
    assert sum(stored.values()) == pytest.approx(5)
    assert max(stored.values()) > 1.5 * min(stored.values())
    for case, chance in stored.items():
        assert counts[case] / 400 == pytest.approx(chance, abs=0.1)


def test_a_worklist_becomes_labels_when_its_values_are_filled_in(judge, tmp_path):
    """No answer says which variant it is of; the file is read back as labels of these answers."""
    texts, _ = many(20)
    results = judged({"v1": texts}, judge, tmp_path)
    todo = ll.judge.to_label(results, 20, metric="correctness")
    path = todo.save(tmp_path / "w.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all("variant" not in row for row in rows)
    labels = ll.judge.Labels.load(
        written(tmp_path / "l.jsonl", [{**row, "value": 1 + i % 5} for i, row in enumerate(rows)])
    )
    assert ll.judge.calibrate(labels, results).only.n == 20
    assert todo.save(path) == path  # nothing is filled in there yet
    with pytest.raises(DataError, match="holds 20 labels with a value, which would be lost"):
        todo.save(tmp_path / "l.jsonl")


def test_a_worklist_is_by_the_rubric_that_the_metric_was_judged_by():
    """Whatever the metric is called: its labels must be labels of the judge's rubric."""
    results = ll.simulate.judged_results(20, labelled=4, seed=1).results
    record = results.provenance["judges"]["correctness"]
    renamed = replace(
        results,
        frame=results.frame.rename(columns={"correctness": "helped"}),
        metrics={"helped": replace(results.metrics["correctness"], name="helped")},
        provenance={"judges": {"helped": record}},
    )
    assert ll.judge.to_label(renamed, 5, metric="helped").rubric == "correctness"


def test_the_maintainers_labels_are_whole():
    """At least 150 grades and 100 preferences, each bound to its texts, of questions that the set holds."""
    golden = ll.GoldenSet.load(FOLDER / "golden.jsonl")
    questions = {case.id: text_digest(case.inputs["question"]) for case in golden}
    for name, least in (("labels_pointwise.jsonl", 150), ("labels_pairwise.jsonl", 100)):
        labels = ll.judge.Labels.load(FOLDER / name)
        assert len(labels) >= least
        assert all(questions[one.case_id] == one.question and one.labeller and one.date for one in labels)
        assert len(labels.by_key) == len(labels)


@pytest.mark.slow
def test_the_offline_judge_is_found_out_by_the_maintainers_labels(tmp_path):
    """It favours the first of two and long answers, as it is built to do."""
    bundles = ll.load_bundles(FOLDER / "bundles")
    golden = ll.GoldenSet.load(FOLDER / "golden.jsonl")
    store = tmp_path / "c.sqlite"
    results = ll.run(bundles, golden, store=store, progress=False)
    judge = ll.judge.Judge.pairwise("correctness", model="offline/overlap-judge-1")
    pairs = [ll.judge.prefer(results, *two, judge, store=store, progress=False) for two in (("v1", "v2"), ("v2", "v3"))]
    labels = ll.judge.Labels.load(FOLDER / "labels_pairwise.jsonl")
    group = None
    with contextlib.suppress(DataError):
        group = ll.judge.calibrate(labels, pairs).only
    if group is None or group.n < 30:
        pytest.skip("another pandas is installed than the labels were made with")
    assert group.position.first > group.position.second == 0
    assert group.length.value > 0


def test_what_is_labelled_already_is_not_asked_for_again():
    """New cases only; stored chances of random draws are those of the earlier round, so both rounds weigh alike."""
    planted = judged_results(200, labelled=50, seed=1)
    done = {one.case_id for one in planted.labels}
    more = ll.judge.to_label(planted.results, 20, metric="correctness", labels=planted.labels, random_share=1.0)
    assert not {case_id for case_id, *_ in more.items} & done
    assert {round(chance, 9) for *_, chance in more.items} == {50 / 200}
    with pytest.raises(ValueError, match="between 1 and 150"):
        ll.judge.to_label(planted.results, 151, metric="correctness", labels=planted.labels)


def test_where_every_case_has_a_label_nothing_is_on_the_list():
    planted = judged_results(30, labelled=30, seed=1)
    done = ll.judge.to_label(planted.results, 5, metric="correctness", labels=planted.labels)
    assert (len(done), done.verdict().word) == (0, "PASS")


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


def test_error_rates_are_left_out_where_people_disagree(tmp_path):
    """A pass and a fail of one answer are no fail: the column would count what all passed, the others the mean."""
    yes_no = ll.judge.Rubric(name="right", question="Is it right?", anchors=((0, "no"), (1, "yes")))
    judge = ll.judge.Judge.pointwise(yes_no, model="openai/gpt-4o-2024-08-06")
    texts = [f"{i % 2} answer {i}" for i in range(60)]
    results = judged({"v1": texts}, judge, tmp_path)
    alike = [label(f"q{i}", text, int(text[0]), rubric="right") for i, text in enumerate(texts[:40])]
    assert "v1" in ll.judge.corrected(results, "right", Labels(tuple(alike))).by_rates
    split = [label(f"q{i}", texts[i], 0, rubric="right", labeller="ben") for i in range(1, 40, 4)]
    found = ll.judge.corrected(results, "right", Labels((*alike, *split)))
    assert not found.by_rates
    assert "people disagree on 10 answers" in str(found)


def test_five_labels_that_agree_are_no_passport(tmp_path):
    """Kappa is 1 and has no honest interval: nothing may be decided on it."""
    texts, labels = many(9)
    exact = Labels(
        tuple(one.model_copy(update={"value": int(text[0])}) for one, text in zip(labels, texts, strict=True))
    )
    judge = ll.judge.Judge.pointwise("correctness", model=MODEL)
    results = judged({"v1": texts}, judge, tmp_path)
    found = ll.judge.passport(judge.calibrate(exact, results), now=NOW)
    check = found.valid(NOW, judge.digest)
    assert check.failures == ("kappa is undefined (9 independent items: there is no honest interval)",)
