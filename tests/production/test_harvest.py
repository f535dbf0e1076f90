"""Requests of production become cases: drawn with known probabilities, and only once somebody said what is right."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.base.errors import DataError
from llmlab.production.harvest import inclusion_probabilities
from llmlab.stats.estimate import mean_estimate


def traffic(n=400, *, down=0.04, seed=0, questions=None):
    """n requests of which some have a thumb down; an answer is good unless it has."""
    rng = np.random.default_rng(seed)
    unhappy = rng.random(n) < down
    asked = questions or [f"question number {i}?" for i in range(n)]
    return ll.Traces.from_frame(
        pd.DataFrame(
            {
                "request_id": [f"r{i}" for i in range(n)],
                "time": pd.Timestamp("2026-03-02T10:00:00Z") + pd.to_timedelta(np.arange(n), unit="min"),
                "unit_id": [f"u{i % 97}" for i in range(n)],
                "inputs": [f'{{"question": "{text}"}}' for text in asked],
                "text": ["bad" if one else "good" for one in unhappy],
                "status": np.where(rng.random(n) < 0.05, "refused", "ok"),
                "signals.thumbs": np.where(unhappy, 0.0, 1.0),
            }
        )
    )


def test_what_is_wanted_more_of_is_drawn_so_many_times_as_often(project):
    harvest = traffic(4000).harvest(n=200, more_of={"thumbs_down": 10, "refused": 5}, seed=1)
    assert 160 < len(harvest) < 240
    chances = {case.tags: harvest.inclusion[case.id] for case in harvest.results.golden}
    assert chances["thumbs_down",] == pytest.approx(10 * chances[()])
    assert chances["refused",] == pytest.approx(5 * chances[()])
    assert chances["thumbs_down", "refused"] == pytest.approx(10 * chances[()])
    assert all(case.weight == pytest.approx(1 / harvest.inclusion[case.id]) for case in harvest.results.golden)
    weight = round(sum(case.weight for case in harvest.results.golden))
    assert f"in a golden set they count as much as {weight:,} cases by hand" in str(harvest)
    again = traffic(4000).harvest(n=200, more_of={"thumbs_down": 10, "refused": 5}, seed=1)
    assert again.inclusion == harvest.inclusion


def estimated(seed, *, trials):
    """Weighted means of `good` over harvests of one traffic, with the truth and how often the interval holds it."""
    traces = traffic(1200, down=0.12, seed=seed)
    truth = float((traces.frame["text"] == "good").mean())
    weighted, held, plain = [], 0, []
    for draw in range(trials):
        harvest = traces.harvest(n=120, more_of={"thumbs_down": 10}, seed=draw)
        good = np.array([float(text == "good") for text in harvest.results.frame["text"]])
        weights = np.array([case.weight for case in harvest.results.golden])
        estimate = mean_estimate(good, weights=weights)
        assert estimate.value == pytest.approx(np.sum(weights * good) / np.sum(weights))  # Hajek's
        weighted.append(estimate.value)
        plain.append(good.mean())
        held += estimate.low <= truth <= estimate.high
    return truth, np.array(weighted), np.array(plain), held / trials


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("seed", "trials", "covered"),
    [pytest.param(3, 30, 0.85, marks=pytest.mark.slow), pytest.param(4, 1000, 0.92, marks=pytest.mark.nightly)],
)
def test_weighted_means_of_a_harvest_are_those_of_production(project, seed, trials, covered):
    """Not the plain ones, which the complaints pull down."""
    truth, weighted, plain, held = estimated(seed=seed, trials=trials)
    print(f"truth {truth:.4f}, weighted {weighted.mean():.4f} (sd {weighted.std():.4f}), plain {plain.mean():.4f}")
    print(f"cover {held:.1%}")
    assert abs(weighted.mean() - truth) < 4 * weighted.std() / np.sqrt(trials) + 0.002 * (trials > 30)
    assert plain.mean() < truth - 0.2
    assert held >= covered


@pytest.mark.slow
def test_horvitz_and_thompsons_total_is_the_number_of_requests(project):
    some = traffic(300)
    totals = [sum(c.weight for c in some.harvest(n=60, seed=s).results.golden) for s in range(30)]
    assert np.mean(totals) == pytest.approx(300, abs=4 * np.std(totals) / np.sqrt(30))


@pytest.mark.parametrize("sizes", [[10, 1, 1], [1] * 50, [1000, 900, 1, 1, 1], [5, 4, 3, 2, 1]])
@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_probabilities_add_up_and_are_none_above_one(sizes, n):
    probabilities = inclusion_probabilities(np.array(sizes, float), n=n)
    assert probabilities.sum() == pytest.approx(min(n, len(sizes)))
    assert ((probabilities > 0) & (probabilities <= 1)).all()
    open_ = probabilities < 1
    ratios = probabilities[open_] / np.array(sizes, float)[open_]
    assert ratios.size == 0 or ratios == pytest.approx(ratios[0])


def test_a_question_that_many_ask_is_drawn_once_and_stands_for_all_of_them(project):
    traces = traffic(90, questions=["How do I drop rows?", "how do i  drop rows", "HOW DO I DROP ROWS!"] * 30)
    harvest = traces.harvest(n=10)
    (case,) = harvest.results.golden
    assert case.weight == pytest.approx(90, rel=0.5)


def test_what_is_asked_already_or_shown_in_a_prompt_is_left_out_and_counted(project):
    asked = [f"question number {i}?" for i in range(20)]
    golden = ll.GoldenSet((ll.Case(id="q1", inputs={"question": "Question number 3"}),))
    prompt = {"template": "{{ question }}", "examples": [{"inputs": {"question": asked[5]}, "output": "x"}]}
    bundle = ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1", prompt=prompt)
    harvest = traffic(20, questions=asked).harvest(n=100, golden=golden, bundles=[bundle])
    assert len(harvest) == 18
    left_out = {"asked in the golden set already": 1, "an example of a prompt": 1, "no inputs were recorded": 0}
    assert harvest.left_out == left_out


def test_personal_data_is_replaced_before_anything_is_kept(project):
    """In questions, tool calls and the name of a unit, which stays one cluster."""
    calls = '[{"name": "mail", "arguments": {"to": "jo.smith@firma.de"}}]'
    asked = traffic(3, questions=["Write to jo.smith@firma.de", "What is 2?", "What is 3?"])
    traces = ll.Traces.from_frame(asked.frame.assign(tool_calls=["", calls, ""]))
    harvest = traces.harvest(n=10)
    (kept,) = filter(None, harvest.results.frame["tool_calls"])
    assert "mail" in kept
    assert "jo.smith" not in str(harvest.results.golden.cases) + str(harvest) + kept
    assert all(f"r{place} (email address)" in harvest.redacted for place in (0, 1))
    (trace, *_) = traces
    assert "jo.smith" not in str(trace.to_case(expected="a reply"))
    named, again = (replace(trace, unit_id="jo.smith@firma.de").to_case() for _ in range(2))
    assert "jo.smith" not in str(named.to_row())
    assert named.cluster == again.cluster


def test_a_case_enters_the_golden_set_with_an_expectation_or_a_label(project, tmp_path):
    harvest = traffic(30).harvest(n=30)
    first, second, *_ = harvest.results.golden
    form = ll.widgets.Labeller(harvest, labeller="anna")
    form.press("4")
    labels = ll.judge.Labels.load(form.session.path)
    assert all(label.inclusion == 1.0 for label in labels)
    (graded,) = harvest.ready(labels=labels)
    ready = harvest.ready(expected={first.id: "dropna", second.id: "fillna"})
    assert [case.expected for case in ready] == [("dropna",), ("fillna",)]
    golden = ll.GoldenSet((ll.Case(id="q1", inputs={"question": "?"}),))
    grown = golden.grown(ready)
    assert (len(grown), grown.parent) == (3, golden.digest)
    assert graded.id in harvest.inclusion
    with pytest.raises(ValueError, match="nobody"):
        harvest.ready(expected={"nobody": "x"})


def test_a_bad_request_becomes_a_permanent_case_that_names_its_post_mortem():
    trace = next(iter(traffic(1)))
    case = trace.to_case(expected="dropna", postmortem="2026-03-02-outage.md")
    assert (case.id, case.tags, case.source) == ("r0", ("incident",), "post-mortem 2026-03-02-outage.md")
    assert (case.expected, case.cluster) == (("dropna",), "u0")


def test_why_nothing_can_be_drawn_is_told_before(project):
    requests, asked = traffic(1, questions=["q?"]), ll.GoldenSet((ll.Case(id="a", inputs={"question": "q"}),))
    assert requests.nothing_to_harvest() == ""
    assert "1 asked in the golden set already" in requests.nothing_to_harvest(golden=asked)


@pytest.mark.parametrize(
    ("wish", "kind", "told"),
    [
        ({"more_of": {"thumbs_dwon": 10}}, ValueError, "thumbs_down"),
        ({"more_of": {"thumbs_down": 0}}, ValueError, "ten times"),
        ({"n": 0}, ValueError, "n == 0"),
        ({"golden": ll.GoldenSet((ll.Case(id="a", inputs={"question": "q"}),))}, DataError, "no request is left"),
    ],
)
def test_wrong_wishes_are_refused(project, wish, kind, told):
    with pytest.raises(kind, match=told):
        traffic(1, questions=["q?"]).harvest(**wish)
