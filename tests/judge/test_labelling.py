"""A labeller's session: blind, shuffled, saved at every key, resumed, undone, shared by people and processes."""

import json
import multiprocessing
import os
import signal
import time

import pandas as pd
import pytest

import llmlab as ll
from llmlab.base.errors import DataError, FileRuleError
from llmlab.golden.labels import Worklist, read_labels, text_digest
from llmlab.judge import Labels, Rubric, rubric
from llmlab.judge.labelling import between_labellers, label_grades, label_preferences
from tests.judge.judged import answered

TONE = rubric("tone")
ANSWERS = {"v1": ["a0", "a1", "a2", "a3"], "v2": ["b0", "a1", "b2", "b3"]}


def grading(path, *, labeller="anna", results=None, **options):
    """A session over the seven distinct answers above."""
    return label_grades(results or answered(ANSWERS), rubric=TONE, path=path, labeller=labeller, **options)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_label_is_on_disk_before_the_next_item_is_shown(tmp_path):
    """One line per click, bound to question and answer by digest."""
    session = grading(tmp_path / "labels.jsonl")
    for done in range(1, 8):
        item = session.current
        session.give(3, date="2026-11-21")
        assert len(lines(tmp_path / "labels.jsonl")) == done
        last = lines(tmp_path / "labels.jsonl")[-1]
        assert (last["case_id"], last["question"], last["answer"]) == item.key
    assert (session.current, session.progress) == (None, "7 of 7")
    assert len(Labels.load(tmp_path / "labels.jsonl")) == 7
    with pytest.raises(DataError, match="all items are labelled"):
        session.give(3)


def test_it_resumes_where_it_stopped_and_can_still_undo(tmp_path):
    """A new session of the same person finds the labels, the order and the last label."""
    first = grading(tmp_path / "labels.jsonl")
    first.give(2)
    first.give(4)
    shown = first.current
    again = grading(tmp_path / "labels.jsonl")
    assert (again.current, again.progress) == (shown, "2 of 7")
    assert again.undo()
    assert again.progress == "1 of 7"
    assert [line["value"] for line in lines(tmp_path / "labels.jsonl")] == [2]


def test_undo_gives_an_earlier_value_back(tmp_path):
    """Going back, changing a grade and undoing leaves the first grade."""
    session = grading(tmp_path / "labels.jsonl")
    session.give(2, note="hm")
    session.back()
    assert (session.value, session.note) == (2, "hm")
    session.give(5)
    assert [line["value"] for line in lines(tmp_path / "labels.jsonl")] == [5]
    session.undo()
    assert (session.value, session.note) == (2, "hm")
    assert [line["value"] for line in lines(tmp_path / "labels.jsonl")] == [2]
    session.undo()
    assert not session.undo()
    assert lines(tmp_path / "labels.jsonl") == []


def test_what_is_skipped_comes_again_at_the_end(tmp_path):
    session = grading(tmp_path / "labels.jsonl")
    skipped = session.current
    session.skip()
    for _ in range(6):
        assert session.current != skipped
        session.give(1)
    assert session.current == skipped
    session.skip()
    assert session.current == skipped


def test_the_order_is_shuffled_and_only_the_seed_changes_it(tmp_path):
    orders = [[item.key for item in grading(tmp_path / "x.jsonl", seed=seed).items] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_what_the_rubric_needs_is_shown_beside_the_answer(tmp_path):
    """The reference for correctness, as a judge is shown it."""
    session = label_grades(answered(ANSWERS), rubric=rubric("correctness"), path=tmp_path / "x.jsonl", labeller="a")
    assert session.current.beside == (("Reference", "- dropna"),)


def test_a_worklist_gives_its_answers_and_their_probability(tmp_path):
    results = answered(ANSWERS).scored_by([ll.scorers.mentions_expected])
    chosen = ll.judge.to_label(results, 2, metric="mentions_expected")
    session = label_grades(results, chosen, rubric=TONE, path=tmp_path / "x.jsonl", labeller="a")
    assert len(session.items) == len(chosen)
    session.give(1)
    assert lines(tmp_path / "x.jsonl")[0]["inclusion"] == pytest.approx(0.5)


def test_a_saved_worklist_can_be_the_file_that_is_labelled(tmp_path):
    """A line that waits gives way to the label; the others wait on."""
    results = answered(ANSWERS).scored_by([ll.scorers.mentions_expected])
    chosen = ll.judge.to_label(results, 4, metric="mentions_expected")
    path = Worklist(rubric="tone", items=chosen.items).save(tmp_path / "x.jsonl")
    session = label_grades(results, chosen, rubric=TONE, path=path, labeller="anna")
    session.give(1)
    assert (len(Labels.load(path)), Labels.load(path).waiting) == (1, len(chosen) - 1)


def test_stale_labels_are_counted_and_not_used(tmp_path):
    path = tmp_path / "labels.jsonl"
    session = grading(path)
    for _ in range(7):
        session.give(3)
    changed = answered({"v1": ["a0", "a1", "new", "a3"], "v2": ["b0", "a1", "b2", "b3"]})
    again = grading(path, results=changed)
    assert (again.progress, again.n_stale) == ("6 of 7", 1)
    again.give(4)
    assert len(lines(path)) == 8


def test_the_file_of_another_rubric_or_kind_is_refused(tmp_path):
    """Labels are one kind per file, and nothing is written into the wrong one."""
    path = tmp_path / "labels.jsonl"
    grading(path).give(3)
    with pytest.raises(DataError, match="holds grades of 'tone'"):
        label_grades(answered(ANSWERS), rubric=rubric("safety"), path=path, labeller="a")
    with pytest.raises(DataError, match="one file for each"):
        label_preferences(answered(ANSWERS), rubric=TONE, path=path, labeller="a")
    path.write_text("{]\n")
    with pytest.raises(FileRuleError, match=r"labels\.jsonl"):
        grading(path)


def test_bad_calls_are_told(tmp_path):
    """A name is needed; a grade is on the scale; cases and worklists are of these results."""
    path = tmp_path / "x.jsonl"
    with pytest.raises(ValueError, match="must be a name"):
        grading(path, labeller=" ")
    with pytest.raises(ValueError, match="value == 6"):
        grading(path).give(6)
    with pytest.raises(DataError, match="'q9'"):
        grading(path, chosen=["q9"])
    with pytest.raises(DataError, match="1 of 1 answers on the worklist"):
        grading(path, chosen=Worklist(rubric="tone", items=(("q0", "Question 0?", "changed", 0.5),)))
    with pytest.raises(DataError, match="nothing to label"):
        grading(path, chosen=[])


def test_pairs_are_shown_on_shuffled_sides_and_stored_by_answer(tmp_path):
    """Left and right are chance; the label names the answer. A case whose two answers are equal has no pair."""
    path, n = tmp_path / "pairs.jsonl", 40
    results = answered({"v1": [f"long {i}" for i in range(n)], "v2": [f"short {i}" for i in range(n)]})
    session = label_preferences(results, rubric=TONE, path=path, labeller="anna")
    sides = []
    while session.current is not None:
        sides.append("left" if session.current.answers[0].startswith("long") else "right")
        session.give(sides[-1])
    assert 8 < sides.count("left") < 32
    texts = {text_digest(f"long {i}") for i in range(n)}
    assert all({1: label.answer_1, 2: label.answer_2}[label.value] in texts for label in Labels.load(path))
    session.back()
    assert session.value == sides[-1]
    assert len(label_preferences(answered(ANSWERS), rubric=TONE, path=tmp_path / "x", labeller="a").items) == 3


def test_a_preference_stored_the_other_way_round_is_the_same_pair(tmp_path):
    """Files of other tools list the two answers in their own order."""
    path, results = tmp_path / "pairs.jsonl", answered({"v1": ["one"], "v2": ["two"]})
    session = label_preferences(results, rubric=TONE, path=path, labeller="anna")
    session.give("left")
    (row,) = lines(path)
    turned = {**row, "answer_1": row["answer_2"], "answer_2": row["answer_1"], "value": 3 - row["value"]}
    path.write_text(json.dumps(turned) + "\n")
    again = label_preferences(results, rubric=TONE, path=path, labeller="anna")
    again.back()
    assert again.value == "left"


def test_keys_label_and_move(tmp_path):
    """Digits are the scale's own; u, s and b are said to do what they do; others do nothing and say so."""
    session = grading(tmp_path / "x.jsonl")
    assert list(session.keys) == ["1", "2", "3", "4", "5"]
    assert session.press("4") == "Saved: 4."
    assert session.press("s").startswith("Skipped")
    assert session.press("b").startswith("One back")
    assert session.press("u").startswith("Taken back")
    assert session.press("u").startswith("There is nothing")
    assert "does nothing" in session.press("9")
    assert session.progress == "0 of 7"
    far = Rubric(name="far", question="?", anchors=((-1, "bad"), (0, "so"), (1, "good")))
    other = label_grades(answered(ANSWERS), rubric=far, path=tmp_path / "y.jsonl", labeller="a")
    assert other.keys == {"1": -1, "2": 0, "3": 1}


def _label_all(path, labeller, ready):
    session = grading(path, labeller=labeller, results=answered({"v1": [f"a{i}" for i in range(25)]}))
    ready.wait(30)
    while session.current is not None:
        session.give(3)


@pytest.mark.slow
def test_two_people_at_once_lose_nothing(tmp_path):
    """Two processes write the same file at the same time; every line of both is there."""
    fork = multiprocessing.get_context("spawn")
    ready = fork.Barrier(2)
    people = [fork.Process(target=_label_all, args=(tmp_path / "x.jsonl", name, ready)) for name in ("anna", "ben")]
    for person in people:
        person.start()
    for person in people:
        person.join(60)
        assert person.exitcode == 0
    who = [label.labeller for label in read_labels(tmp_path / "x.jsonl")]
    assert (who.count("anna"), who.count("ben")) == (25, 25)


def test_a_kill_leaves_a_whole_file(tmp_path):
    """What was said before SIGKILL is there, and no half a line."""
    fork = multiprocessing.get_context("spawn")
    ready = fork.Barrier(1)
    person = fork.Process(target=_label_all, args=(tmp_path / "x.jsonl", "anna", ready))
    person.start()
    while not (tmp_path / "x.jsonl").exists():
        assert person.is_alive() or person.exitcode == 0
        time.sleep(0.005)
    os.kill(person.pid, signal.SIGKILL)
    person.join(10)
    kept = list(read_labels(tmp_path / "x.jsonl"))
    assert 1 <= len(kept) <= 25
    grading(tmp_path / "x.jsonl", results=answered({"v1": [f"a{i}" for i in range(25)]})).undo()


def test_a_note_with_odd_line_ends_stays_one_line(tmp_path):
    """U+2028 and U+0085 end lines for some readers, not for JSONL."""
    session = grading(tmp_path / "x.jsonl")
    session.give(3, note="one\u2028two\u0085three")
    session.give(4)
    assert len(Labels.load(tmp_path / "x.jsonl")) == 2


def test_two_labellers_agreement_has_kappa_and_the_cases_they_differ_on(tmp_path):
    """One of forty differs, from 1 to 5; kappa is scikit-learn's, with quadratic weights as for a judge."""
    from sklearn.metrics import cohen_kappa_score

    results = answered({"v1": [f"a{i}" for i in range(40)]}, clusters=[f"c{i // 2}" for i in range(40)])
    for name in ("anna", "ben"):
        session = grading(tmp_path / "x.jsonl", labeller=name, results=results)
        while (item := session.current) is not None:
            level = int(item.key[0][1:]) % 5 + 1
            session.give(5 if name == "ben" and item.key[0] == "q0" else level, note=f"{name} says")
    labels = Labels.load(tmp_path / "x.jsonl")
    found = between_labellers(labels, results, rubric=TONE)
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.kappa.n) == ("anna", "ben", 40)
    assert pair.same.value == pytest.approx(39 / 40)
    assert pair.kappa.low < pair.kappa.value < 1
    (row,) = found.disagreements
    assert (row["case"], row["anna"], row["ben"]) == ("q0", "1", "5")
    assert "1 label differ" in str(found)
    assert "a0" in found._repr_html_()
    said = pd.DataFrame([(label.case_id, label.labeller, label.value) for label in labels]).pivot(index=0, columns=1)[2]
    expected = cohen_kappa_score(said["anna"], said["ben"], weights="quadratic")
    assert pair.kappa.value == pytest.approx(expected)


def test_agreement_without_two_labellers_is_a_sentence(tmp_path):
    session = grading(tmp_path / "x.jsonl")
    session.give(3)
    found = between_labellers(Labels.load(tmp_path / "x.jsonl"), answered(ANSWERS), rubric=TONE)
    assert "No two people" in str(found)
    assert "No two people" in found._repr_html_()
    grading(tmp_path / "x.jsonl", labeller="ben").give(3)
    changed = answered({"v1": ["other"] * 4})
    assert "No two people" in str(between_labellers(Labels.load(tmp_path / "x.jsonl"), changed, rubric=TONE))


def test_preferences_of_two_labellers_are_compared_by_answer(tmp_path):
    """A tie against a side counts as less apart than the two sides; sides of the screen do not matter."""
    path, results = tmp_path / "p.jsonl", answered({"v1": ["one", "two"], "v2": ["uno", "due"]})
    for name, seed, choice in (("anna", 1, "one"), ("ben", 2, "uno")):
        session = label_preferences(results, rubric=TONE, path=path, labeller=name, seed=seed)
        while (item := session.current) is not None:
            first = choice if choice in item.answers else None
            session.give(("left", "right")[item.answers.index(first)] if first else "tie")
    found = between_labellers(Labels.load(path), results, rubric=TONE)
    assert [row["case"] for row in found.disagreements] == ["q0"]
    assert found.pairs[0].same.value == 0.5


def test_labels_by_another_rubric_are_told_apart_before_they_are_compared(tmp_path):
    """Not "3 is not on the scale": notebook 03 asks this before a judge is paid for."""
    session = grading(tmp_path / "x.jsonl")
    session.give(3)
    with pytest.raises(DataError, match="by the rubric 'tone', not by 'correctness'"):
        between_labellers(Labels.load(tmp_path / "x.jsonl"), answered(ANSWERS), rubric=rubric("correctness"))
