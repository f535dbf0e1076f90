"""What a guard catches is counted with intervals, clusters respected, on texts that somebody else labelled."""

import asyncio

import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.guards import LabelledText, guard, injections, measure
from llmlab.stats.estimate import wilson_rate

MARKS = guard(ll.scorers.no_injection_markers)


def texts(*counts, cluster=lambda place: ""):
    """So many bad texts that are found, bad ones that are missed, false alarms, and others."""
    kinds = [("tax", True), ("x", True), ("tax", False), ("x", False)]
    listed = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    return [LabelledText(text=text, bad=bad, cluster=cluster(place)) for place, (text, bad) in enumerate(listed)]


def test_recall_precision_and_false_alarms_are_shares_with_wilson_s_interval():
    """Worked by hand: 6 of 8 bad texts found, 6 of 9 alarms right, 3 of 12 others alarmed."""
    found = measure(texts(6, 2, 3, 9), [guard(ll.scorers.no_terms("tax"))]).of("no_terms")
    for share, hits, n in ((found.recall, 6, 8), (found.precision, 6, 9), (found.false_alarms, 3, 12)):
        assert share.interval() == wilson_rate(hits, n).interval()
    assert (found.n, found.n_bad, found.n_unscored) == (20, 8, 0)


def test_texts_that_stem_from_one_another_tell_less():
    """Ten copies of each text: the same shares, and intervals as of the few there are."""
    alone = measure(texts(60, 20, 30, 90), [guard(ll.scorers.no_terms("tax"))]).of("no_terms")
    copies = texts(60, 20, 30, 90, cluster=lambda place: str(place // 10))
    together = measure(copies, [guard(ll.scorers.no_terms("tax"))]).of("no_terms")
    assert together.recall.value == alone.recall.value
    assert together.recall.high - together.recall.low > 2 * (alone.recall.high - alone.recall.low)


def test_a_text_without_a_verdict_is_counted_and_is_no_miss():
    async def down(case, generation):
        if generation.text == "x":
            raise ll.LlmlabError("nobody answers")
        return 0

    found = measure(texts(6, 2, 3, 9), [guard(ll.scorer(down))]).of("down")
    assert (found.n_unscored, found.recall.value, found.false_alarms.value) == (11, 1.0, 1.0)


def test_several_guards_are_measured_alone_by_group_and_together():
    labelled = [
        LabelledText(text="tax", bad=True, group="user"),
        LabelledText(text="vat", bad=True, group="tool"),
        LabelledText(text="x", bad=False, group="user"),
    ]
    one, two = (guard(ll.scorers.no_terms(word, name=f"no_{word}")) for word in ("tax", "vat"))
    measured = measure(labelled, [one, two])
    assert measured.of("no_tax").recall.value == 0.5
    assert measured.of("no_tax", "user").recall.value == 1.0
    assert measured.of("any of them").recall.value == 1.0
    assert measured.of("no_tax", "tool").false_alarms.value is None  # no such text there
    assert [row["text"] for row in measured.mistakes("no_tax").rows] == ["vat"]
    with pytest.raises(ValueError, match="no_tax on user"):
        measured.of("no_pii")


def test_all_guards_together_have_mistakes_and_an_unknown_one_is_told_with_those_there_are():
    one, two = (guard(ll.scorers.no_terms(word, name=f"no_{word}")) for word in ("tax", "vat"))
    measured = measure(texts(1, 2, 1, 1), [one, two])
    assert [row["mistake"] for row in measured.mistakes("any of them").rows] == ["false alarm", "missed", "missed"]
    with pytest.raises(ValueError, match="no_tax, no_vat, any of them"):
        measured.mistakes("no_pii")


def test_what_is_said_holds_for_one_miss_of_many_and_for_guards_without_a_verdict():
    """Not "misses 0%"; and of a guard that broke on every text no precision is spoken of."""
    many = measure(texts(300, 1, 0, 9), [guard(ll.scorers.no_terms("tax"))])
    assert "misses 1 of 301 bad texts" in str(many)

    def broken(case, generation):
        raise ll.LlmlabError("no model")

    said = str(measure(texts(1, 1, 1, 1), [guard(ll.scorer(broken))]))
    assert "No verdict on any text: broken." in said
    assert "Precision is" not in said


def test_it_works_inside_a_running_loop():
    async def inside():
        return measure(texts(1, 1, 1, 1), [guard(ll.scorers.no_terms("tax"))])

    assert asyncio.run(inside()).of("no_terms").n == 4


@pytest.mark.parametrize(
    ("counts", "guards", "error", "rule"),
    [
        ((3, 1, 0, 0), [MARKS], DataError, "labelled set"),
        ((0, 0, 1, 3), [MARKS], DataError, "labelled set"),
        ((1, 1, 1, 1), [], ValueError, "guards"),
        ((1, 1, 1, 1), [MARKS, MARKS], ValueError, "guards"),
    ],
)
def test_a_set_of_one_kind_measures_nothing_and_guards_need_names_of_their_own(counts, guards, error, rule):
    with pytest.raises(error, match=rule):
        measure(texts(*counts), guards)


def test_marks_find_few_of_the_injections_that_somebody_else_collected():
    """The figure that stands in the README: a quarter of them, none of those that a tool returned."""
    labelled = injections()
    assert (len(labelled), sum(text.bad for text in labelled)) == (181, 118)
    measured = measure(labelled, [MARKS])
    whole, tools = measured.of("no_injection_markers"), measured.of("no_injection_markers", "tool_output")
    assert 0.15 < whole.recall.value < 0.35
    assert whole.precision.value > 0.9
    assert tools.recall.value < 0.1
    assert "misses 89 of 118 bad texts" in str(measured)
    assert "protect" not in str(measured)


def test_marks_are_silent_on_the_demo_s_questions():
    golden = ll.GoldenSet.load("experiments/pandas_help/golden.jsonl")
    scores = [ll.scorers.no_injection_markers(case, ll.Generation(text=case.question)).value for case in golden]
    assert min(scores) == 1.0


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("llmlab.guards.measuring.CORPUS", "no_such_corpus")
    with pytest.raises(DataError, match="pip install no_such_corpus"):
        injections()
