"""Figures of a judge state the finding in their title, draw intervals, and carry alt text."""

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab import plots
from llmlab.simulate import judged_verdicts
from tests.judge.judged import MODEL, answered, by_digit, judged, label, many


@pytest.fixture
def graded(tmp_path):
    """Forty answers, their labels and a judge's grades."""
    texts, labels = many()
    judge = ll.judge.Judge.pointwise("correctness", model="openai/gpt-4o-2024-08-06")
    texts = [f"{text}{' more' * (i % 9)}" for i, text in enumerate(texts)]
    labels = ll.judge.Labels(
        tuple(label(f"q{i}", text, one.value) for i, (text, one) in enumerate(zip(texts, labels, strict=True)))
    )
    results = answered({"v1": texts})
    client = ll.FakeClient(by_digit)
    return labels, ll.judge.score(results, judge, client=client, store=tmp_path / "c.sqlite", progress=False)


def title(picture):
    return picture._suptitle.get_text().replace("\n", " ")


def test_the_agreement_matrix_counts_and_says_the_share(graded):
    """Alt text holds every count."""
    labels, results = graded
    picture = plots.agreement_matrix(ll.judge.calibrate(labels, results))
    assert "same label in" in title(picture)
    assert "people 5:" in picture.alt
    assert picture.png().startswith(b"\x89PNG")


def test_swap_consistency_names_the_favoured_place():
    """A judge with a planted leaning to the first answer."""
    found = ll.judge.calibrate_verdicts(judged_verdicts(300, seed=1, position=1.0), resamples=0)
    picture = plots.swap_consistency(found)
    assert "favours the first answer" in title(picture)
    assert "the first answer, twice" in picture.alt


def test_swap_consistency_is_for_preferences():
    """Grades have no order."""
    grades = ll.judge.calibrate_scores(pd.DataFrame({"human": [1, 2, 2], "judge": [1, 2, 1]}), resamples=0)
    with pytest.raises(ValueError, match="grades"):
        plots.swap_consistency(grades)


def test_score_against_length_has_a_mean_with_its_interval_per_quarter(graded):
    """Read off the alt text."""
    picture = plots.score_against_length(*graded)
    assert picture.alt.count("words") >= 3
    assert "length" in title(picture)


def test_raw_and_corrected_stand_side_by_side(graded):
    """Each with its interval."""
    labels, results = graded
    some = ll.judge.Labels(labels.labels[:30])
    picture = plots.raw_and_corrected(ll.judge.corrected(results, "correctness", some))
    assert all(name in picture.alt for name in ("judge alone", "labels alone", "corrected"))
    assert np.isfinite(len(picture.png()))


@pytest.mark.parametrize("n", [1, 5])
def test_few_labels_have_figures_that_say_so(graded, n):
    """Notebook 03 goes on to its verdict; and what could not be corrected is not said to have moved."""
    labels, results = graded
    few = ll.judge.Labels(labels.labels[:n])
    assert "too few to show what length adds" in title(plots.score_against_length(few, results))
    alone = plots.raw_and_corrected(ll.judge.corrected(results, "correctness", ll.judge.Labels(labels.labels[:1])))
    assert title(alone) == "Too few labels to correct the judge's score"


def test_a_variant_without_labels_moves_nothing_and_hides_no_name(tmp_path):
    """v1 has no label: the gap is v2's, and the legend still names the corrected score."""
    texts, judge = [f"{i % 5 + 1} answer {i}" for i in range(40)], ll.judge.Judge.pointwise("correctness", model=MODEL)
    results = judged({"v1": [f"{text}!" for text in texts], "v2": texts}, judge, tmp_path)
    labels = ll.judge.Labels(tuple(label(f"q{i}", text, max(1, int(text[0]) - i % 2)) for i, text in enumerate(texts)))
    picture = plots.raw_and_corrected(ll.judge.corrected(results, "correctness", labels))
    assert "most for v2" in title(picture)
    assert "corrected" in {text.get_text() for text in picture.legends[0].get_texts()}
