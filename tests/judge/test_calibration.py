"""Calibration: oracles, clusters, and honest answers where little is known; real judges: `cli/test_calibrate`."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.judge import calibrate_scores, calibrate_verdicts
from llmlab.judge.calibrating import RESAMPLES
from llmlab.simulate import judged_grades
from tests.judge.judged import MODEL, answered, blocks, means, preferences


def verdicts(**columns):
    return pd.DataFrame(columns)


def test_a_tie_or_a_missing_verdict_is_not_right_and_stays_in_n():
    """Four pairs: right twice, a tie, a missing one."""
    table = verdicts(label=[1, 1, 2, 2], order1=[1, 1, "tie", None], order2=[1, 2, 2, 2])
    record = calibrate_verdicts(table, resamples=0).only.record()
    assert (record["n"], record["missing"]) == (4, 1)
    assert record["accuracy_order1"] == 0.5
    assert record["accuracy_order2"] == 0.75
    assert record["accuracy_both"] == 0.25
    assert record["consistency"] == 0.25
    assert (record["sensitivity"], record["specificity"]) == (1.0, 0.0)


@pytest.mark.parametrize("empty", [None, float("nan"), "", "NA", " null "])
def test_every_way_to_write_nothing_is_missing(empty):
    table = verdicts(label=[1, 2, 1], order1=["1", "2", empty], order2=["1.0", " TIE ", "2"])
    assert calibrate_verdicts(table, resamples=0).only.missing == 1


def test_rows_without_a_label_and_human_ties_are_left_out_and_counted():
    """A human tie counts in the kappa of three labels only."""
    table = verdicts(label=[1, 2, None, "tie"], order1=[1, 2, 1, 1], order2=[1, 2, 1, 2])
    group = calibrate_verdicts(table, resamples=0).only
    assert (group.n, group.unlabelled, group.human_ties) == (2, 1, 1)
    assert group.kappa_both.value == 1.0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (verdicts(label=[1], order1=[3], order2=[1]), "must be 1, 2, tie or empty"),
        (verdicts(label=[1], order1=["A"], order2=[1]), "must be 1, 2, tie or empty"),
        (verdicts(label=[None], order1=[1], order2=[1]), "no row has a human verdict"),
        (verdicts(label=[1], order1=[1]), "no column 'order2'"),
        (verdicts(label=[], order1=[], order2=[]), "no rows"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_with_the_reason(table, message):
    with pytest.raises(DataError, match=message):
        calibrate_verdicts(table)


def test_few_labels_or_one_class_give_no_kappa_and_say_so():
    table = verdicts(label=[1, 1, 1], order1=[1, 2, 1], order2=[1, 1, 1])
    record = calibrate_verdicts(table).only.record()
    assert record["kappa"] is None
    assert "same label" in " ".join(record["notes"])
    assert calibrate_verdicts(table.head(1)).only.record()["kappa"] is None


def test_a_judge_with_one_grade_for_everything_is_said_to_know_nothing():
    """Not that it is lenient or strict: what differs is only what people said."""
    table = pd.DataFrame({"human": [1, 5, 2, 4] * 10, "judge": [1] * 40, "length": range(40)})
    (said,) = calibrate_scores(table, scale=range(1, 6), length="length", resamples=50).only.sentences
    assert "grade 1" in said
    knows = table.assign(judge=[1, 5, 1, 5] * 10)
    assert not any("chance" in one for one in calibrate_scores(knows, scale=range(1, 6), resamples=50).only.sentences)


@pytest.mark.parametrize("place", [1, 2])
def test_a_chooser_that_names_one_place_alone_compares_nothing(place):
    """Its slope of length has a standard error of zero, which is no proof of anything."""
    words = [5, 9, 7, 3] * 5
    orders = {"label": [1, 2] * 10, "order1": [place] * 20, "order2": [3 - place] * 20}
    table = pd.DataFrame({**orders, "a": words, "b": words[::-1], "cluster": [n // 2 for n in range(20)]})
    found = calibrate_verdicts(table, length1="a", length2="b", cluster="cluster", resamples=50).only
    assert (found.position.first, found.position.second) == ((20, 0) if place == 1 else (0, 20))
    assert (found.length.value, found.length.p_value) == (None, None)
    assert ("first", "second")[place - 1] in found.sentences[0]


def test_a_slope_whose_noise_is_rounding_is_undefined_and_never_nan():
    """Three pairs of two documents: the clusters' variance is -1e-49, whose root was NaN."""
    authors = {"author1": ["own"] * 3, "author2": ["other", "other", "own"], "judge": ["own"] * 3}
    table = verdicts(label=[2, 2, 2], order1=[2, 2, 1], order2=[1, 1, 2], doc=[0, 1, 1], **authors)
    own = calibrate_verdicts(table, cluster="doc", resamples=0, **{name: name for name in authors}).only.own
    assert (own.value, own.se, own.p_value) == (None, None, None)
    assert own.note


def test_pointwise_figures_agree_with_scikit_learn():
    """Quadratic and unweighted kappa over a scale of five."""
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    human = rng.integers(1, 6, 200)
    judge = np.clip(human + rng.integers(-1, 3, 200), 1, 5)
    group = calibrate_scores(verdicts(human=human, judge=judge), scale=range(1, 6), resamples=RESAMPLES).only
    assert group.kappa.value == pytest.approx(cohen_kappa_score(human, judge, weights="quadratic"))
    assert group.kappa_unweighted.value == pytest.approx(cohen_kappa_score(human, judge))
    assert group.kappa.low < group.kappa.value < group.kappa.high
    assert group.leaning.value == pytest.approx(float((judge - human).mean()))
    assert group.leaning.low > 0
    assert "more lenient" in group.sentences[0]


def test_a_judge_that_follows_length_is_found_among_grades():
    """judge - human grows with the number of words."""
    rng = np.random.default_rng(1)
    human, words = rng.integers(1, 5, 300), rng.integers(5, 100, 300)
    judge = human + (words > 60)
    found = calibrate_scores(
        verdicts(human=human, judge=judge, words=words), scale=range(1, 6), length="words", resamples=0
    )
    assert found.only.length.low > 0
    assert "long answers" in " ".join(found.only.sentences)


@pytest.mark.parametrize("cluster", [{}, {"cluster": "part"}])
def test_one_answer_of_another_length_shows_nothing_of_length(cluster):
    """Its residual is zero whatever the judge says, so the standard error knows nothing of it."""
    rng = np.random.default_rng(0)
    grades = pd.DataFrame(rng.integers(1, 6, (40, 2)), columns=["human", "judge"])
    table = grades.assign(words=[0] + [1] * 39, part=np.arange(40) // 3)
    slope = calibrate_scores(table, scale=range(1, 6), length="words", resamples=0, **cluster).only.length
    assert slope.value is not None
    assert (slope.low, slope.high) == (None, None)


def test_named_labels_have_agreement_and_kappa_without_an_order():
    """Pass and fail: sensitivity and specificity too."""
    table = verdicts(human=["fail", "pass", "pass", "fail"], judge=["fail", "pass", "fail", None])
    record = calibrate_scores(table, resamples=0).only.record()
    assert (record["n"], record["missing"]) == (4, 1)
    assert record["labels"] == ["fail", "pass"]
    assert record["sensitivity"] == 0.5
    assert record["leaning"] is None


def test_what_is_said_about_how_many_labels_are_enough_is_near_the_width_found():
    """The needed number shrinks the half-width to about 0.1."""
    rng = np.random.default_rng(2)
    human = rng.integers(1, 3, 150)
    judge = np.where(rng.random(150) < 0.85, human, 3 - human)
    found = calibrate_scores(verdicts(human=human, judge=judge), scale=[1, 2])
    half = (found.only.kappa.high - found.only.kappa.low) / 2
    assert found.labels_needed.labels == pytest.approx(150 * (half / 0.1) ** 2, rel=0.35)


def test_self_preference_is_looked_for_where_the_judges_family_wrote_some_answers(tmp_path):
    """A judge of OpenAI's family that always names the answer of OpenAI's model, whatever people say."""
    n, judge = 60, ll.judge.Judge.pairwise("correctness", model=MODEL)
    texts = {"own": [f"own says {i}" for i in range(n)], "other": [f"other says {i}" for i in range(n)]}
    texts = {"own": [*texts["own"][:30], *texts["other"][30:]], "other": [*texts["other"][:30], *texts["own"][30:]]}
    results = answered(texts)
    models = {"own": "azure/gpt-4.1-2025-04-14", "other": "anthropic/claude-sonnet-4-20250514"}
    bundles = {name: ll.Bundle.from_prompt("{{ question }}", model=model) for name, model in models.items()}
    results = replace(results, bundles=bundles)

    def own_one(request):
        """The answer of its family's variant, but for one case in seven."""
        number = int(blocks(request)["Answer A"].split()[-1])
        first = ("own" in blocks(request)["Answer A"]) == (number < 30)
        return '{"winner": "A"}' if first != (number % 7 == 0) else '{"winner": "B"}'

    people, asked = preferences(texts, "own", "other"), means(tmp_path, own_one)
    with pytest.warns(UserWarning, match="same family"):
        found = judge.calibrate(people, results, **asked)
    assert found.only.own.low > 0
    neutral = replace(results, bundles={**bundles, "own": bundles["other"]})
    assert judge.calibrate(people, neutral, **asked).only.own is None


def test_fewer_than_ten_independent_items_have_a_kappa_without_an_interval():
    """Nine items, or forty in nine clusters: a bootstrap has too little to draw from, and it is said."""
    human = [1, 2, 3] * 15
    few = calibrate_scores(verdicts(human=human[:9], judge=[1, 2, 2] * 3), scale=[1, 2, 3]).only
    assert few.kappa.value is not None
    assert few.kappa.low is None
    assert "9 independent items: there is no honest interval" in few.kappa.notes
    table = verdicts(human=human, judge=[1, 2, 2] * 15, doc=[i % 9 for i in range(45)])
    assert calibrate_scores(table, scale=[1, 2, 3], cluster="doc").only.kappa.low is None
    enough = verdicts(human=human, judge=[1, 2, 2] * 15)
    assert calibrate_scores(enough, scale=[1, 2, 3]).only.kappa.low is not None


def test_every_figure_of_a_calibration_counts_clusters_and_not_copies():
    """Each of 60 pairs ten times over: with the cluster named, each figure is that of the 60 pairs alone."""
    rng = np.random.default_rng(3)
    label, order1, order2 = (rng.integers(1, 3, 60) for _ in range(3))
    human = rng.integers(0, 2, 60)
    judge = np.where(rng.random(60) < 0.8, human, 1 - human)
    copies = np.repeat(np.arange(60), 10)
    once = verdicts(label=label, order1=order1, order2=order2, human=human, judge=judge)
    often = once.iloc[copies].assign(item=copies)
    alone, found = calibrate_verdicts(once).only, calibrate_verdicts(often, cluster="item").only
    assert found.position.p_value == pytest.approx(alone.position.p_value, rel=1e-9)
    for name in ("accuracy_order1", "accuracy_order2", "accuracy_both", "consistency"):
        assert _width(getattr(found.position, name)) == pytest.approx(_width(getattr(alone.position, name)), rel=0.05)
    grades, many = calibrate_scores(once).only, calibrate_scores(often, cluster="item").only
    assert _width(many.agreement) == pytest.approx(_width(grades.agreement), rel=0.05)
    assert _width(many.rates.youden) == pytest.approx(_width(grades.rates.youden), rel=0.1)
    needed = [calibrate_scores(once).labels_needed.labels, calibrate_scores(often, cluster="item").labels_needed.labels]
    assert needed[1] == pytest.approx(10 * needed[0], rel=0.25)
    assert "60" in str(calibrate_scores(often, cluster="item"))


def test_as_many_labels_as_are_asked_for_give_the_interval_that_was_asked_for():
    labels = calibrate_scores(judged_grades(300, seed=1), scale=range(1, 6)).labels_for(0.05).labels
    again = [calibrate_scores(judged_grades(labels, seed=seed), scale=range(1, 6)).only for seed in range(20)]
    widths = [_width(one.kappa) for one in again]
    assert np.mean(widths) / 2 == pytest.approx(0.05, rel=0.25)


def _width(estimate):
    return estimate.high - estimate.low


def test_an_interval_of_leniency_that_leaves_the_scale_is_not_shown():
    """Two items that differ by 4 and by -3 levels: the t interval would reach beyond any two grades."""
    table = verdicts(human=[1, 5, 3], judge=[5, 2, 3])
    lean = calibrate_scores(table, scale=range(1, 6), resamples=0).only.leaning
    assert (round(lean.value, 2), lean.low) == (0.33, None)
    assert "no honest interval" in lean.notes[0]


@pytest.mark.parametrize(
    ("cell", "said"), [("", "is empty"), (None, "is empty"), ("long", "holds long"), ("inf", "inf")]
)
def test_a_length_that_is_no_number_is_refused_with_its_row(cell, said):
    """Not "SVD did not converge"; rows are counted in the whole table, also in a part of it."""
    table = {"human": [1, 0, 1], "judge": [1, 0, 0], "size": ["10", "2.5", cell], "part": ["a", "b", "b"]}
    with pytest.raises(DataError, match=rf"row 3: column 'size' .*{said}"):
        calibrate_scores(pd.DataFrame(table), length="size", by=["part"], resamples=0)


def test_a_row_without_a_human_label_needs_no_length():
    table = pd.DataFrame({"human": [1, 0, 1, 0, 1, None], "judge": [1, 0, 0, 1, 1, 1], "size": [3, 1, 2, 5, 4, None]})
    assert calibrate_scores(table, length="size", resamples=50).only.length is not None


def test_a_verdict_on_a_pair_that_three_people_labelled_counts_once(tmp_path):
    """40 pairs, each labelled by three: a judge that names the first answer in 8 of them followed the place 8 times."""
    texts = {"a": [f"a says {i}" for i in range(40)], "b": [f"b says {i}" for i in range(40)]}
    labels = ll.judge.Labels(
        tuple(
            label.model_copy(update={"labeller": name})
            for label in preferences(texts, "a", "b")
            for name in ("anna", "ben", "eva")
        )
    )

    def first_or_better(request):
        shown = blocks(request)["Answer A"].split()
        number = int(shown[-1])
        return f'{{"winner": "{"A" if number < 8 or (shown[0] == "a") == (number % 2 == 0) else "B"}"}}'

    judge = ll.judge.Judge.pairwise("correctness", model=MODEL)
    calibration = judge.calibrate(labels, answered(texts), **means(tmp_path, first_or_better))
    group = calibration.only
    assert (group.n, group.position.n, group.position.first) == (120, 40, 8)
    assert group.position.consistency.value == 0.8
    assert "Of 8 verdicts" in str(calibration)


def test_a_judge_without_a_verdict_in_both_orders_is_not_said_to_be_free_of_the_position():
    found = calibrate_verdicts(verdicts(label=[1, 2, 1], order1=[1, None, None], order2=[None, 2, None]), resamples=0)
    assert "No pair has a verdict of the judge in both orders" in str(found)
    assert "followed the position" not in str(found)


@pytest.mark.parametrize("human", [["good", "bad"] * 20, [1, None] * 20])
def test_nothing_is_said_of_leniency_where_it_was_not_measured(human):
    judge = ["good", "bad"] * 20 if human[0] == "good" else [None, 2] * 20
    assert "lenient" not in str(calibrate_scores(verdicts(human=human, judge=judge), resamples=0))


def test_levels_between_those_that_occur_keep_their_distance():
    """Weights by what lies between two grades, by hand: half levels that nobody gave count as well."""
    human, judge = np.array([1, 1.5, 4, 4, 1, 3.5] * 5), np.array([1, 1, 4, 1.5, 1.5, 4] * 5)
    apart = np.subtract.outer(human, judge) ** 2
    by_hand = 1 - np.mean((human - judge) ** 2) / apart.mean()
    assert calibrate_scores(verdicts(human=human, judge=judge), resamples=0).only.kappa.value == pytest.approx(by_hand)


def test_labels_in_other_words_than_the_judges_are_refused():
    with pytest.raises(DataError, match="'human' holds ja, nein and 'judge' 0, 1: nothing in common"):
        calibrate_scores(verdicts(human=["ja", "nein"], judge=[1, 0]))


def test_a_grade_without_an_end_is_refused():
    with pytest.raises(DataError, match="'inf' is no level"):
        calibrate_scores(verdicts(human=[1, 2], judge=[1, float("inf")]))


def test_rows_are_named_by_their_place_whatever_the_index():
    table = verdicts(
        label=[1, 2, "unsure"], order1=[1, 2, 1], order2=[1, 2, 1], size=[3, None, 1], part=["a", "b", "b"]
    )
    named = table.set_axis(["x", "y", "z"])
    with pytest.raises(DataError, match="row 3: column 'label' holds 'unsure', must be 1, 2, tie or empty"):
        calibrate_verdicts(named, by=["part"])
    with pytest.raises(DataError, match="row 2: column 'size' is empty"):
        calibrate_verdicts(named.assign(label=1), length1="size", length2="size")


def test_a_passport_counts_no_more_labels_than_there_are(tmp_path):
    """A slope of length is read off both orders of a pair; people labelled the pair once."""
    texts = {"a": [f"a says {i}" + " so" * (i % 3) for i in range(40)], "b": [f"b says {i}" for i in range(40)]}
    judge = ll.judge.Judge.pairwise("correctness", model=ll.ModelRef.parse("openai/gpt-4o-2024-08-06"))

    def by_number(request):
        shown = blocks(request)["Answer A"].split()
        return f'{{"winner": "{"A" if (shown[0] == "a") == (int(shown[2]) % 3 != 1) else "B"}"}}'

    found = judge.calibrate(preferences(texts, "a", "b"), answered(texts), **means(tmp_path, by_number))
    figures = ll.judge.passport(found, now=datetime(2026, 1, 1, tzinfo=UTC)).metrics
    assert figures["length_slope"].n == 40
