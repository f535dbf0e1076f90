"""A cascade asks the strong bundle where a check fails; what that buys is reckoned without a call, as it would run."""

import asyncio
from decimal import Decimal

import numpy as np
import pytest

import llmlab as ll
from llmlab.base.errors import DataError, RequestRefusedError
from llmlab.guards import cascade, frontier
from llmlab.results.summary import case_mean
from tests.made_results import made, with_numbers

CHEAP = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-mini-2024-07-18", name="cheap")
STRONG = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="strong")


@ll.scorer
def sure(case, generation):
    """Whether the answer sounds sure; unscored where it says nothing of it."""
    return None if "?" in generation.text else "unsure" not in generation.text


@ll.scorer(needs_expected=True)
def right(case, generation):
    return case.facts[0] in generation.text


def priced(results):
    """10 tokens for each answer of the cheap bundle, 50 for the strong one's."""
    tokens = {"cheap": 10, "strong": 50}
    return with_numbers(results, output_tokens=[tokens[variant] for (variant,) in results.answers("variant")])


def checked(results, says, name="check", **options):
    """The results with a check, which knows a case by its number."""
    return results.scored_by([ll.scorer(name=name, **options)(lambda case, generation: says(int(case.id[1:])))])


def worked(times=10):
    """Of each 8 cases the cheap bundle has 4 right, the strong one all; the check fails two of the wrong, one right."""
    results = priced(made({"cheap": [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * times, "strong": [1.0] * 8 * times}))
    return checked(results, lambda number: number % 8 not in (0, 4, 5))


def reckoned(results, **changes):
    return frontier(
        results, **{"cheap": "cheap", "strong": "strong", "check": "check", "cost": "output_tokens", **changes}
    )


def test_a_cascade_s_quality_cost_and_share_are_those_worked_by_hand():
    """Right: 4 and 2 more of 8. Cost: 10, and 50 for 3 of 8. Made up: half of the gap by 3 of 8 answers."""
    found = reckoned(worked())
    assert found.quality.variants == ("cheap", "check < 1", "strong")
    assert [case_mean(found.quality, name).value for name in found.quality.variants] == [0.5, 0.75, 1.0]
    assert [case_mean(found.cost, name).value for name in found.cost.variants] == [10.0, 10 + 50 * 3 / 8, 50.0]
    assert dict(found.shares) == {"cheap": 0.0, "check < 1": 0.375, "strong": 1.0}
    assert dict(found.recovered) == {"cheap": 0.0, "check < 1": 0.5, "strong": 1.0}
    assert found.share_for(0.5) == pytest.approx(0.375)
    assert found.share_for(0.8) == pytest.approx(0.375 + 0.625 * 0.6)
    assert found.differences["check < 1"].reading == "worse"
    assert "38% for 50% of the gap" in str(found)


def test_thresholds_that_round_alike_keep_a_name_each():
    found = reckoned(checked(worked(), lambda number: 0.33331 + 0.00001 * (number % 4), name="sure"), check="sure")
    assert len(found.shares) == 2 + 3  # a threshold between each two of four values


def test_a_check_that_knows_nothing_makes_up_what_chance_would():
    """At any threshold the part of the gap is about the share of answers: 2,000 cases, a check of random numbers."""
    rng = np.random.default_rng(5)
    cheap, strong = (rng.random(2_000) < rate for rate in (0.4, 0.9))
    noise = rng.random(2_000).tolist()
    results = made({"cheap": cheap.astype(float).tolist(), "strong": strong.astype(float).tolist()})
    found = reckoned(checked(with_numbers(results, output_tokens=[10] * 4_000), noise.__getitem__))
    assert len(found.shares) == 8
    assert max(abs(found.recovered[name] - share) for name, share in found.shares.items()) < 0.06


def test_nothing_is_made_up_where_the_strong_bundle_is_not_shown_to_be_better():
    results = with_numbers(made({"cheap": [1.0, 0.0] * 20, "strong": [0.0, 1.0] * 20}), output_tokens=[10] * 80)
    found = reckoned(checked(results, lambda number: number < 20))
    assert (dict(found.recovered), found.share_for(0.5)) == ({}, None)
    assert "not shown to be better" in str(found)


def test_where_low_is_good_the_check_sends_on_what_is_high():
    results = checked(worked(), lambda number: number < 40, name="doubt", higher_is_better=False)
    assert reckoned(results, check="doubt").shares["doubt > 0"] == 0.5


def test_unscored_answers_stay_and_lost_ones_are_no_gain():
    """A lost score is missing in the cascade that would have used it, and an answer without a partner is counted."""
    scores = {"cheap": [1.0] * 20 + [0.0] * 20, "strong": [1.0] * 38 + [None, 1.0]}
    results = checked(priced(made(scores)), lambda number: None if number < 10 else number < 20)
    found = reckoned(results)
    assert found.shares["check < 1"] == 0.5
    assert np.isnan(found.quality.values[:, 1]).sum() == 1
    some = results.rows_where([cell != ("strong", "q000") for cell in results.answers("variant", "case_id")])
    assert reckoned(some).left_out == 1


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"check": "right", "metric": "right"}, ValueError, "quality itself"),
        ({"cheap": "weak"}, ValueError, "weak"),
        ({"cost": "cost_usd"}, DataError, "output_tokens"),
        ({"check": "same"}, DataError, "same of every"),
    ],
)
def test_what_cannot_be_reckoned_is_refused(changes, error, told):
    with pytest.raises(error, match=told):
        reckoned(checked(worked(times=1), lambda number: 1, name="same"), **changes)


# -- as an application -----------------------------------------------------------------------------


class Service:
    """Two models: the cheap one is right on even questions, unsure on every third, and costs a tenth."""

    fingerprint = "service"

    def __init__(self):
        self.asked = []

    async def complete(self, request):
        number = int(request.messages[-1]["content"].split()[-1])
        strong = request.model.id == STRONG.model.id
        self.asked.append((number, strong))
        text = f"yes {number}" if strong or number % 2 == 0 else f"no {number}"
        text += " unsure" if not strong and number % 3 == 0 else ""
        cost, usage = Decimal("0.10" if strong else "0.01"), ll.Usage(input_tokens=3, output_tokens=4)
        return ll.Generation(text=text, cost_usd=cost, latency_s=0.2, usage=usage)


GOLDEN = ll.GoldenSet([ll.Case(id=f"q{i:02}", inputs={"question": f"number {i}"}, expected="yes") for i in range(60)])


def run(tmp_path, variants, **options):
    return ll.run(variants, GOLDEN, scorers=[right, sure], store=tmp_path / "calls.sqlite", progress=False, **options)


def test_an_application_s_answers_and_costs_are_those_that_were_reckoned(tmp_path):
    """The same cascade twice: from the two arms without a call, and as it ran."""
    service = Service()
    arms = run(tmp_path, {"cheap": CHEAP, "strong": STRONG}, client=service)
    service.asked.clear()
    app = cascade(STRONG, check=sure, through=lambda client: service)
    ran = run(tmp_path, {"cascade": CHEAP}, app=app)
    assert service.asked == []  # each of its calls was stored by the plain run
    assert all(answer.cached for answer in ran.generations())
    found = reckoned(arms.joined(ran), check="sure", cost="cost_usd", measured=["cascade"])
    assert found.shares["cascade"] == found.shares["sure < 1"] == pytest.approx(1 / 3)
    for table in (found.quality, found.cost):
        assert table.values[:, table.column("cascade")] == pytest.approx(table.values[:, table.column("sure < 1")])


def test_a_sent_on_answer_adds_up_what_both_took():
    service = Service()
    app = cascade(STRONG, check=sure, through=lambda client: service)
    first, second = (asyncio.run(app(GOLDEN.by_id[name], CHEAP)) for name in ("q01", "q03"))
    assert (first.text, first.steps, first.cost_usd) == ("no 1", ("cheap",), Decimal("0.01"))
    assert (second.text, second.cost_usd) == ("yes 3", Decimal("0.11"))
    assert second.steps == ("cheap: no 3 unsure", "strong")
    assert (second.usage.input_tokens, second.latency_s, second.attempts) == (6, 0.4, 2)


def test_another_strong_bundle_or_check_is_another_application(tmp_path):
    """Whole answers of one cascade are never replayed for another; single calls that both make are."""
    service, other = Service(), STRONG.with_(temperature=0.5)

    class Through:
        def __call__(self, client):
            return service

    asked = []
    for strong, check in ((STRONG, sure), (STRONG, sure), (other, sure), (STRONG, ll.scorers.not_empty)):
        service.asked.clear()
        run(tmp_path, {"cascade": CHEAP}, app=cascade(strong, check=check, through=Through()))
        asked.append(len(service.asked))
    assert asked == [80, 0, 20, 0]


def test_a_cheap_answer_is_paid_for_once_and_told_where_the_strong_bundle_refuses(tmp_path):
    """As found: a strong model that answers 400 lost 60 paid answers, with their cost, in every run."""

    class Refusing(Service):
        async def complete(self, request):
            if request.model.id == STRONG.model.id:
                raise RequestRefusedError("no such parameter", status_code=400, attempts=1)
            return await super().complete(request)

    service = Refusing()
    app = cascade(STRONG, check=sure, through=lambda client: service)
    for asked in (60, 0):
        service.asked.clear()
        ran = run(tmp_path, {"cascade": CHEAP}, app=app, failed_share_allowed=1.0)
        assert len(service.asked) == asked
        lost = [answer for answer in ran.generations() if answer.status == "error"]
        assert len(lost) == 20
        for answer in lost:
            assert (answer.cost_usd, answer.usage.input_tokens, answer.attempts) == (Decimal("0.01"), 3, 2)
            assert answer.steps[-1] == "strong"
            assert answer.text == ""
    service.asked.clear()
    run(tmp_path, {"cheap": CHEAP}, client=service)
    assert service.asked == []


def test_each_repeat_of_a_cascade_has_calls_of_its_own_and_fresh_ones_are_new(tmp_path):
    service = Service()
    app = cascade(STRONG, check=sure, through=lambda client: service)
    for options, asked in (({"repeats": 2}, 160), ({"fresh": "again"}, 80), ({"fresh": "again"}, 0)):
        service.asked.clear()
        run(tmp_path, {"cascade": CHEAP}, app=app, **options)
        assert len(service.asked) == asked


def test_the_picture_says_what_the_table_says():
    figure = ll.plots.frontier(reckoned(worked()))
    assert figure.png().startswith(b"\x89PNG")
    assert "38%: 0.75" in figure.alt
