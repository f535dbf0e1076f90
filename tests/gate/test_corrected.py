"""A judge that is kinder to one arm: its own numbers would let a candidate through, the corrected ones do not."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

import llmlab as ll
from llmlab.gate.corrected import LabelledMetric, more_labels
from llmlab.golden.labels import text_digest
from llmlab.simulate import judged_results
from llmlab.stats.correction import ppi_difference
from llmlab.stats.power import Need, Spread
from tests.gate import gating
from tests.made_results import with_cases

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NAME = "correctness"


superior = partial(gating.superior, 0.05, metric=NAME)
non_inferior = partial(gating.non_inferior, metric=NAME)
decided = partial(gating.decided, now=NOW)


def policy(*, judge=(), **rules):
    """A policy on the judged metric, decided on corrected estimates."""
    return gating.policy(judge={"passport": "not required", "decide_on": "corrected", **dict(judge)}, **rules)


def labelled(planted):
    return ll.judge.with_labels(planted.results, planted.labels)


@pytest.fixture(scope="module")
def kind():
    """People see no difference; the judge is half a level kinder to v2."""
    return judged_results(400, labelled=150, seed=3, kindness=(0.0, 0.5))


def test_what_the_judge_alone_would_pass_is_not_passed_once_corrected(kind):
    """The raw difference is .5 levels, the corrected interval holds 0."""
    raw = decided(policy(goal=superior(), judge={"decide_on": "raw"}), labelled(kind))
    fixed = decided(policy(goal=superior()), labelled(kind))
    assert raw.word == "PASS"
    assert fixed.word != "PASS"
    (condition,) = fixed.conditions
    assert condition.low <= 0 <= condition.high
    assert condition.judge_alone == pytest.approx(0.5, abs=0.15)
    assert (condition.estimate, condition.labelled) == ("corrected", 150)
    assert "the judge alone says 0.5" in str(fixed)


def test_a_judge_that_hides_a_gain_does_not_hold_back_a_better_candidate():
    """People see half a level more, and the judge is half a level harsher on v2."""
    planted = judged_results(400, labelled=150, seed=4, gain=0.5, kindness=(0.0, -0.5))
    assert decided(policy(goal=superior(), judge={"decide_on": "raw"}), labelled(planted)).word != "PASS"
    assert decided(policy(goal=superior()), labelled(planted)).word == "PASS"


def test_a_condition_may_read_the_raw_number_and_another_the_corrected_one(kind):
    rules = policy(goal=superior(estimate="raw"), guards=[non_inferior(0.4)])
    first, second = decided(rules, labelled(kind)).conditions
    assert (first.estimate, second.estimate) == ("raw", "corrected")
    assert second.name == "guard: correctness, corrected"


@pytest.mark.parametrize(
    ("margin", "gain", "word"), [(0.6, 0.0, "PASS"), (0.02, 0.0, "INCONCLUSIVE"), (0.1, -0.6, "FAIL")]
)
def test_non_inferiority_reads_the_corrected_interval(margin, gain, word):
    planted = judged_results(400, labelled=150, seed=5, gain=gain, kindness=(0.0, 0.5))
    decision = decided(policy(goal=non_inferior(margin)), labelled(planted))
    assert decision.word == word
    assert decision.conditions[0].level == pytest.approx(0.9)


@pytest.mark.parametrize(("gain", "word"), [(0.0, "PASS"), (-0.8, "FAIL")])
def test_shown_harm_is_what_people_would_say(gain, word):
    """The judge hides the harm by its kindness."""
    planted = judged_results(400, labelled=150, seed=6, gain=gain, kindness=(0.0, 0.6))
    guard = gating.no_shown_harm(0.1, metric=NAME)
    assert decided(policy(goal=guard), labelled(planted)).word == word


@pytest.mark.parametrize(
    ("at_least", "raw", "word"), [(2.7, "PASS", "PASS"), (3.3, "PASS", "FAIL"), (3.0, "PASS", "INCONCLUSIVE")]
)
def test_a_floor_is_cleared_by_the_corrected_mean(kind, at_least, raw, word):
    """People's mean is 3, the judge says 3.5 of v2."""
    floors = [{"metric": NAME, "at_least": at_least}]
    rules = {"baseline": "none", "floors": floors}
    alone = policy(judge={"decide_on": "raw"}, **rules).decide(labelled(kind), candidate="v2", now=NOW)
    fixed = policy(**rules).decide(labelled(kind), candidate="v2", now=NOW)
    assert (alone.word, fixed.word) == (raw, word)


def test_categories_and_anchor_read_the_corrected_difference_too(kind):
    results = with_cases(labelled(kind), lambda i, case: replace(case, tags=("odd" if i % 2 else "even",)))
    rules = policy(
        goal=superior(),
        categories={"rule": "no_shown_harm", "margin": 0.3},
        anchor={"bundle": "bundles/v1.yaml", "margin": 0.6},
    )
    found = rules.decide(results, baseline="v1", candidate="v2", anchor="v1", now=NOW).conditions
    assert [c.kind for c in found] == ["goal", "category", "category", "anchor"]
    assert {c.estimate for c in found} == {"corrected"}
    assert sum(c.labelled for c in found[1:3]) == 150


@pytest.mark.parametrize(
    ("arms", "why"),
    [
        ((), "carry no labels of it: add them with `judge.with_labels`"),
        (("v1",), "only answers of v1 are labelled, none of v2"),
        (("v2",), "only answers of v2"),
    ],
)
def test_without_labels_of_both_arms_the_gate_is_invalid_and_says_so(kind, arms, why):
    """The judge's error on the other arm stays unknown, however many labels there are."""
    answers = {text_digest(f"{arm} on {i}") for arm in arms for i in range(400)}
    labels = tuple(label for label in kind.labels if label.answer in answers)
    results = ll.judge.with_labels(kind.results, ll.judge.Labels(labels)) if labels else kind.results
    decision = decided(policy(goal=superior()), results)
    assert decision.word == "INVALID"
    assert why in decision.sentence


def test_too_few_labels_are_invalid_with_the_counts():
    planted = judged_results(200, labelled=12, seed=7)
    decision = decided(policy(goal=superior()), labelled(planted))
    assert decision.word == "INVALID"
    assert "12 cases labelled in both arms (v1 12, v2 12), the policy wants 30" in decision.sentence
    assert decided(policy(goal=superior(), judge={"labels_at_least": 12}), labelled(planted)).word != "INVALID"


def test_labels_of_changed_answers_are_counted_and_not_used(kind):
    """An answer that changed since loses its label; too few are left, and the reason counts the stale ones."""
    frame = kind.results.frame
    texts = [f"{text}!" if i < 700 else text for i, text in enumerate(frame["text"])]
    changed = replace(kind.results, frame=frame.assign(text=texts))
    results = ll.judge.with_labels(changed, kind.labels)
    decision = decided(policy(goal=superior()), results)
    assert decision.word == "INVALID"
    assert "256 labels fit no answer here" in decision.sentence
    stale = results.provenance["labels"][NAME]["stale"]
    assert stale > 200
    assert any(f"{stale} of 300 labels" in note for note in results.notes)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"goal": superior(), "aggregation": "majority"}, "not for majority"),
        ({"goal": non_inferior("10%")}, "in percent"),
    ],
)
def test_what_cannot_be_corrected_is_invalid_and_says_why(kind, rules, why):
    decision = decided(policy(**rules), labelled(kind))
    assert decision.word == "INVALID"
    assert why in decision.sentence


def test_what_rules_scored_has_nothing_to_correct(kind):
    results = replace(kind.results, frame=kind.results.frame.assign(right=1.0))
    results = replace(results, metrics={**results.metrics, "right": ll.results.Metric(name="right", low=0, high=1)})
    goal = gating.no_shown_harm(estimate="corrected")
    assert "no judge gave it" in decided(policy(goal=goal), results).sentence


def test_where_people_see_no_difference_anywhere_harm_is_ruled_out_by_their_number():
    """As for raw scores that all tie: 150 pairs without a loss rule out 0.4 of a 4-level scale, and 12 do not."""
    planted = judged_results(400, labelled=150, seed=3, kindness=(0.0, 0.5), differ=0.0)
    assert decided(policy(goal=non_inferior(0.4)), labelled(planted)).word == "PASS"
    few = policy(goal=non_inferior(0.4), judge={"labels_at_least": 12})
    assert decided(few, labelled(judged_results(400, labelled=12, seed=3, differ=0.0))).word == "INCONCLUSIVE"


@pytest.mark.parametrize(("labels", "word"), [(30, "INCONCLUSIVE"), (150, "PASS")])
def test_few_labels_that_all_agree_with_the_judge_do_not_rule_out_what_it_may_have_missed(labels, word):
    """Nobody has seen it err: of 30 cases a level in ten may be missing all the same."""
    agreeing = judged_results(400, labelled=labels, seed=3, noise=0.0)
    decision = decided(policy(goal=non_inferior(0.4), judge={"labels_at_least": 30}), labelled(agreeing))
    (condition,) = decision.conditions
    assert decision.word == word
    assert (condition.p_value < 0.05) == (condition.low > -0.4) == (word == "PASS")


def test_open_conditions_say_how_many_labels_would_settle_them():
    """Planned at the margin; with that many labels the same truth is settled."""
    few = judged_results(2000, labelled=60, seed=8)
    open_ = decided(policy(goal=non_inferior(0.12)), labelled(few))
    assert open_.word == "INCONCLUSIVE"
    assert open_.needed_labels.cases is None
    assert "more labels would settle it" in open_.sentence
    more = 60 + open_.needed_labels.labels // 2
    settled = [
        decided(policy(goal=non_inferior(0.12)), labelled(judged_results(2000, labelled=more, seed=seed))).word
        for seed in range(8)
    ]
    assert settled.count("PASS") >= 5  # planned for 80%


def test_where_labelling_every_case_would_not_do_more_cases_are_asked_for():
    planted = judged_results(60, labelled=40, seed=9)
    decision = decided(policy(goal=non_inferior(0.05)), labelled(planted))
    assert decision.needed_labels.cases > 60
    assert "labels alone would not do" in decision.sentence


def test_what_is_settled_needs_no_labels():
    found = ppi_difference([0.0] * 50 + [1.0] * 50, [1.0] * 100, human_baseline=[0, 1] * 50, human_candidate=[1] * 100)
    need = Need(name="goal", distance=10.0, spread=Spread(sd=1.0), tail=0.05)
    assert more_labels(found, need=need, n_cases=100) is None


def test_unscored_answers_are_taken_at_their_worst(kind):
    """A share u without a score widens what is claimed by u times the scale's whole width."""
    frame = kind.results.frame
    scores = [None if i in (0, 2, 4, 6) else value for i, value in enumerate(frame[NAME])]
    holed = replace(kind.results, frame=frame.assign(**{NAME: [float("nan") if s is None else s for s in scores]}))
    whole = decided(policy(goal=non_inferior(0.6)), labelled(kind)).conditions[0]
    worse = decided(policy(goal=non_inferior(0.6)), ll.judge.with_labels(holed, kind.labels)).conditions[0]
    assert worse.unscored == 4
    assert worse.value == pytest.approx(whole.value - 4 / 400 * 4, abs=0.02)
    nothing_left = decided(policy(goal=non_inferior(0.03)), ll.judge.with_labels(holed, kind.labels))
    assert (nothing_left.word, nothing_left.needed_labels) == ("INCONCLUSIVE", None)


def test_the_receipt_names_labels_and_method(kind):
    """And a decision made again confirms it; with other labels it does not. Labels that were not read are no part."""
    decision = decided(policy(goal=superior()), labelled(kind))
    receipt = decision.receipt()
    assert receipt.labels == {NAME: kind.labels.digest}
    assert receipt.conditions[0].method.startswith("PPI++ difference")
    assert receipt.differences(decided(policy(goal=superior()), labelled(kind))) == ()
    fewer = ll.judge.with_labels(kind.results, ll.judge.Labels(kind.labels.labels[:200]))
    assert "labels" in receipt.differences(decided(policy(goal=superior()), fewer))
    assert decided(policy(goal=superior(), judge={"decide_on": "raw"}), labelled(kind)).receipt().labels == {}


def test_more_labels_are_another_look(kind):
    rules = policy(goal=superior())
    some = ll.judge.with_labels(kind.results, ll.judge.Labels(kind.labels.labels[:200]))
    first = decided(rules, some)
    second = rules.decide(labelled(kind), baseline="v1", candidate="v2", looks=[first.look])
    assert second.price.look == 2
    assert rules.decide(some, baseline="v1", candidate="v2", looks=[first.look]).price.look == 1


def test_labels_travel_with_the_cases(kind, tmp_path):
    path = labelled(kind).to_parquet(tmp_path / "r.parquet")
    again = decided(policy(goal=superior()), ll.Results.from_parquet(path))
    assert decided(policy(goal=superior()), labelled(kind)).receipt().differences(again) == ()


def test_the_policy_names_its_files_of_labels(kind, tmp_path):
    kind.labels.save(tmp_path / "labels.jsonl")
    rules = policy(goal=superior(), judge={"labels": "labels.jsonl"})
    assert rules.judge.labels == ("labels.jsonl",)
    assert decided(rules, rules.labelled(kind.results, tmp_path)).word != "INVALID"
    assert policy(goal=superior()).labelled(kind.results, tmp_path) is kind.results


def test_summary_and_comparison_show_the_corrected_estimate_beside_the_raw_one(kind):
    results = labelled(kind)
    (row, *_) = [r for r in results.summary().to_frame().to_dict("records") if r["variant"] == "v2"]
    assert "correctness, corrected" in row
    fixed = results.summary().corrected["v2", NAME]
    assert fixed.value == pytest.approx(3.0, abs=0.2)
    assert results.summary().estimate("v2", NAME).value == pytest.approx(3.5, abs=0.15)
    said = " ".join(results.compare("v1").lines())
    assert "Corrected by people's labels of 150 cases, v2 - v1 on correctness is" in said
    assert not kind.results.summary().corrected


def weighted(planted, *, even):
    """The planted results in which every even case stands for so many cases of production."""
    return with_cases(labelled(planted), lambda i, case: replace(case, weight=1.0 if i % 2 else even))


def test_weighted_cases_weigh_in_raw_and_corrected_estimates_alike(kind):
    """Summary, comparison and gate show the weighted correction; with a huge weight it is that of the even cases."""
    results = weighted(kind, even=1000.0)
    even = [case.id for i, case in enumerate(results.golden) if i % 2 == 0]
    arms = {"baseline": "v1", "candidate": "v2"}
    half = ll.judge.corrected_difference(labelled(kind), NAME, case_ids=even, **arms)
    whole = ll.judge.corrected_difference(results, NAME, **arms)
    assert whole.raw.value == pytest.approx(half.raw.value, abs=0.01)
    assert whole.labels_only.value == pytest.approx(half.labels_only.value, abs=0.01)
    assert whole.corrected.value == pytest.approx(half.corrected.value, abs=0.05)
    assert whole.raw.value == pytest.approx(results.compare("v1").row(NAME).difference.value)
    assert results.summary().corrected["v2", NAME] == ll.judge.corrected(results, NAME)["v2"].corrected
    assert ll.judge.corrected(results, NAME)["v2"].raw.value == pytest.approx(
        results.summary().estimate("v2", NAME).value
    )
    (condition,) = decided(policy(goal=superior()), results).conditions
    assert condition.value == pytest.approx(whole.corrected.value)


def test_unscored_answers_at_their_worst_count_as_their_cases_weigh(kind):
    """One unscored case of 400 that stands for half of production moves the worst case by half the scale."""
    results = weighted(kind, even=1.0)
    frame = results.frame.copy()
    frame.loc[frame["case_id"] == "q0", NAME] = None
    light = replace(results, frame=frame)
    heavy = with_cases(light, lambda i, case: replace(case, weight=399.0 if i == 0 else 1.0))
    ends = []
    for one in (light, heavy):
        seen = LabelledMetric(results=one, metric=NAME).difference(
            baseline="v1", candidate="v2", case_ids=[case.id for case in results.golden]
        )
        ends.append(seen.differences[1].value - seen.differences[2].value)
    assert ends == pytest.approx([8 / 400, 8 * 399 / 798])
