"""A guard reads one side and does one thing; a guarded client is another client to the call store and to a trace."""

import asyncio
import contextlib
from dataclasses import replace
from decimal import Decimal

import pytest

import llmlab as ll
from llmlab.base.errors import TransportError
from llmlab.guards import guard, guarded

BUNDLE = ll.Bundle.from_prompt("{{ question }}", model="openai/gpt-4o-2024-08-06", name="qa")
MAIL = "I am jo@firma.de, how do I drop NaN?"
ADVICE = ll.scorers.no_terms("tax", name="no_tax")


def echo(request):
    return ll.Generation(text=f"You said: {request.messages[-1]['content']}", cost_usd=Decimal("0.01"), latency_s=0.1)


def ask(*guards, question=MAIL, replies=echo):
    """The answer, and what the model was asked."""
    client = ll.FakeClient(replies)
    answer = asyncio.run(guarded(client, guards).complete(BUNDLE.request(question=question)))
    return answer, [request.messages[-1]["content"] for request in client.requests]


def test_personal_data_is_taken_out_before_the_model_sees_it():
    answer, asked = ask(guard(ll.scorers.no_pii, side="input", then="redact"))
    assert asked == ["I am [email address], how do I drop NaN?"]
    assert "jo@firma.de" not in answer.text
    assert answer.steps == ("guard:no_pii",)


def test_a_refused_question_costs_no_call():
    answer, asked = ask(guard(ll.scorers.no_pii, side="input", then="refuse", text="No addresses, please."))
    assert asked == []
    assert (answer.status, answer.text, answer.cost_usd, answer.attempts) == ("refused", "No addresses, please.", 0, 0)
    assert answer.latency_s is not None


def test_a_withheld_answer_keeps_what_it_cost_and_nothing_of_what_it_said():
    """Text, thought and tool calls go; usage and price stay, for they were billed."""
    told = ll.Generation(
        text="Pay no tax.",
        thought="He wants to save tax.",
        tool_calls=({"name": "pay", "arguments": {}},),
        usage=ll.Usage(input_tokens=3, output_tokens=4),
        cost_usd=Decimal("0.02"),
    )
    answer, asked = ask(guard(ADVICE, side="output", then="refuse"), question="Tax?", replies=lambda _: told)
    assert asked == ["Tax?"]
    assert (answer.status, answer.thought, answer.tool_calls) == ("refused", "", ())
    assert "tax" not in answer.text.lower()
    assert (answer.cost_usd, answer.usage) == (Decimal("0.02"), told.usage)


@pytest.fixture
def recorder(tmp_path):
    return ll.Recorder(tmp_path, service="desk", key=b"k" * 32)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_guard_answers_instead_appends_or_only_flags_on_either_side(side):
    question = "What of my tax?"
    instead, asked = ask(guard(ADVICE, side=side, then="answer", text="Ask an adviser."), question=question)
    assert (instead.status, instead.text) == ("ok", "Ask an adviser.")
    assert len(asked) == (side == "output")
    below, _ = ask(guard(ADVICE, side=side, then="append", text="This is no advice."), question=question)
    assert below.text == f"You said: {question}\n\nThis is no advice."
    flagged, _ = ask(guard(ADVICE, side=side, then="flag"), question=question)
    assert (flagged.text, flagged.steps) == (f"You said: {question}", ("guard:no_tax",))


def test_a_guard_that_does_not_fire_changes_nothing():
    answer, asked = ask(
        guard(ADVICE, side="input", then="refuse"), guard(ADVICE, side="output", then="redact"), question="NaN?"
    )
    assert (answer.text, answer.steps, asked) == ("You said: NaN?", (), ["NaN?"])


def test_guards_are_applied_in_their_order_and_what_one_redacts_the_next_does_not_see():
    redacts, refuses = (guard(ll.scorers.no_pii, then=then) for then in ("redact", "refuse"))
    assert ask(redacts, refuses)[0].status == "ok"
    assert ask(refuses, redacts)[0].status == "refused"


@pytest.mark.parametrize("side", ["input", "output"])
def test_what_redacting_leaves_behind_is_refused(side):

    @ll.scorer(redact=lambda text: text.replace("tax", "", 1))
    def leaky(case, generation):
        return "tax" not in generation.text

    answer, _ = ask(guard(leaky, side=side, then="redact"), question="tax and tax")
    assert answer.status == "refused"
    assert "tax" not in answer.text


@pytest.mark.parametrize(("when_broken", "status"), [("fire", "refused"), ("pass", "ok")])
def test_a_broken_guard_does_what_it_was_told_and_is_named(when_broken, status):

    async def down(case, generation):
        raise ll.LlmlabError("nobody answers")

    answer, asked = ask(guard(ll.scorer(down), then="refuse", when_broken=when_broken))
    assert (answer.status, answer.steps) == (status, ("guard:down (broken)",))
    assert len(asked) == (when_broken == "pass")


def test_an_unscored_text_passes():
    """Where nothing is cited, a guard on citations has nothing to say."""
    answer, _ = ask(guard(ll.scorers.citations_valid, side="output", then="refuse"), question="NaN?")
    assert (answer.status, answer.steps) == ("ok", ())


def test_users_and_tools_are_read_and_our_own_words_are_not():
    """The whole conversation, texts among parts and results of tools; not the system's and the assistant's messages."""
    parts = [{"type": "text", "text": MAIL}, {"type": "image_url", "image_url": {"url": "x@y.de"}}]
    turns = (
        {"role": "system", "content": "Our mail is desk@firma.de."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "Write to desk@firma.de."},
        {"role": "tool", "tool_call_id": "1", "content": "found: anna@firma.de"},
    )
    client = ll.FakeClient("yes")
    request = ll.Request(model=BUNDLE.model, messages=turns, sampling=BUNDLE.sampling)
    asyncio.run(guarded(client, [guard(ll.scorers.no_pii, then="redact")]).complete(request))
    sent = client.requests[0].messages
    assert [sent[0], sent[2]] == [turns[0], turns[2]]
    assert sent[1]["content"] == [{**parts[0], "text": "I am [email address], how do I drop NaN?"}, parts[1]]
    assert sent[3]["content"] == "found: [email address]"


def test_guards_are_part_of_who_answers():
    """Each change of a guard or of their order is another client; the same guards made anew are the same."""
    one, two = guard(ll.scorers.no_pii, then="redact"), guard(ADVICE, then="refuse")

    def known(*guards):
        return guarded(ll.FakeClient("x"), guards).fingerprint

    others = [
        *(known(two, one), known(one), "fake"),
        known(one, guard(ADVICE, then="refuse", text="No.")),
        known(one, guard(ADVICE, then="refuse", side="output")),
        known(one, guard(ADVICE, then="refuse", limit=0.5)),
        known(one, guard(ll.scorers.no_terms("vat", name="no_tax"), then="refuse")),
    ]
    assert len({known(one, two), *others}) == 1 + len(others)
    assert known(one, two) == known(guard(ll.scorers.no_pii, then="redact"), guard(ADVICE, then="refuse"))


def test_a_run_keeps_guarded_and_unguarded_answers_apart(tmp_path):
    """Two arms over one call store: each asks for its own answers once, and replays no other's."""
    golden = ll.GoldenSet([ll.Case(id=f"q{i}", inputs={"question": f"My tax {i}?"}) for i in range(3)])
    plain = ll.FakeClient(echo)
    behind = guarded(plain, [guard(ADVICE, then="redact")])
    store = tmp_path / "calls.sqlite"

    def run(client):
        return ll.run({"qa": BUNDLE}, golden, client=client, store=store, scorers=[ADVICE], progress=False)

    means = [run(client).table("no_tax").values.mean() for client in (plain, behind, plain, behind)]
    assert means == [0.0, 1.0, 0.0, 1.0]
    assert len(plain.requests) == 6


def test_output_guards_know_what_was_retrieved_in_a_run_and_online(tmp_path):
    """A citation of a document that was not in the prompt is caught in both places."""
    experiment = ll.Experiment.load("experiments/pandas_help", first=1)
    valid, bundle = guard(ll.scorers.citations_valid, side="output", then="refuse"), experiment.bundles["v1"]
    client = guarded(ll.FakeClient("Use it [made.up_one]."), [valid])
    results = experiment.run({"v1": bundle}, client=client, store=tmp_path / "calls.sqlite", progress=False)
    request = bundle.request(question="How do I drop rows?")
    assert [answer.status for answer in results.generations()] == ["refused"] * 2
    assert asyncio.run(client.complete(request)).status == "refused"
    own = ll.FakeClient(lambda request: f"Use it [{request.about['retrieved'][0]['id']}].")
    assert asyncio.run(guarded(own, [valid]).complete(request)).status == "ok"


def test_a_trace_names_the_guards_that_were_there_and_those_that_fired(recorder, tmp_path):
    guards = [guard(ll.scorers.no_pii, then="redact"), guard(ADVICE, side="output", then="flag")]
    behind = guarded(ll.FakeClient(echo), guards)
    client = recorder.client(behind)
    for question in (MAIL, "NaN?"):
        asyncio.run(client.complete(BUNDLE.request(question=question)))
    first, second = ll.Traces.load(tmp_path)
    assert (first.guards, second.guards) == (("no_pii",), ())
    assert first.guarded_by == second.guarded_by == behind.guards_digest
    assert first.answer.text == "You said: I am [email address], how do I drop NaN?"


def test_guards_of_every_turn_of_a_conversation_are_told(tmp_path):
    """Two turns of a user are two calls through the guards; the one that fired on the first answer is not lost."""
    turns = [{"role": "user", "content": text} for text in ("My tax?", "And NaN?")]
    case = ll.Case(id="q1", inputs={"question": turns})
    service = ll.FakeClient(lambda request: "Pay tax." if len(request.messages) == 1 else "Use dropna.")
    client = guarded(service, [guard(ADVICE, side="output", then="flag")])
    store = tmp_path / "calls.sqlite"
    (answer,) = ll.run(BUNDLE, ll.GoldenSet([case]), client=client, store=store, progress=False).generations()
    assert (answer.text, answer.steps) == ("Use dropna.", ("turn 1: Pay tax.", "turn 2", "guard:no_tax"))


@pytest.mark.parametrize("bundle", [BUNDLE, None], ids=["named", "unknown"])
def test_what_a_guard_took_out_is_in_no_trace_either(recorder, tmp_path, bundle):
    """The line has the request as it was sent, whether the call was answered or failed."""
    request = BUNDLE.request(question=MAIL)
    request = request if bundle else replace(request, about=None)

    def fails(request):
        raise TransportError("down", status_code=503)

    for replies in (echo, fails):
        client = recorder.client(guarded(ll.FakeClient(replies), [guard(ll.scorers.no_pii, then="redact")]))
        with contextlib.suppress(TransportError):
            asyncio.run(client.complete(request))
    written = "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    assert "jo@firma.de" not in written
    assert written.count("I am [email address], how do I drop NaN?") == 3


def test_an_application_s_answer_brings_its_guards_into_the_trace(recorder, tmp_path):
    with recorder.request() as request:
        answer, _ = ask(guard(ll.scorers.no_pii, then="flag"))
        request.answer(answer, inputs={"question": MAIL})
    (trace,) = ll.Traces.load(tmp_path)
    assert trace.guards == ("no_pii",)


def test_nothing_goes_around_the_guards(loopback):
    """What asks a model in another way than `complete` is not there; a share of the limits is still guarded."""
    client = guarded(ll.OpenAIClient(loopback.base_url), [guard(ll.scorers.no_pii, then="refuse")])
    assert not any(hasattr(client, name) for name in ("embed", "fetch", "wire", "curl"))
    assert client.limited_to(0.5).fingerprint == client.fingerprint
    assert client.retry.attempts > 0


def test_a_moderation_endpoint_is_a_guard_like_any_other(loopback):
    """Categories that do not count are passed; an endpoint that fails is a broken guard."""

    async def statuses():
        judge = ll.OpenAIClient(loopback.base_url)
        try:
            found = []
            for categories, question in (((), "How do I kill it?"), (("hate",), "How do I kill it?"), ((), "NaN?")):
                moderated = ll.scorers.moderated("openai/omni-moderation-latest", client=judge, categories=categories)
                client = guarded(ll.FakeClient("yes"), [guard(moderated, then="refuse")])
                found.append((await client.complete(BUNDLE.request(question=question))).status)
            loopback.set(faults={"500": 1.0})
            broken = await client.complete(BUNDLE.request(question="NaN?"))
            return found, broken
        finally:
            await judge.aclose()

    found, broken = asyncio.run(statuses())
    assert found == ["refused", "ok", "ok"]
    assert (broken.status, broken.steps) == ("refused", ("guard:moderated (broken)",))


@pytest.mark.parametrize(
    ("scorer", "good", "bad"),
    [
        (ll.scorers.json_schema({"type": "object"}), "{}", "[]"),
        (ll.scorers.grounded({"d1": "dropna removes rows."}), "dropna removes rows.", "sum adds up columns."),
        (ll.scorers.not_refused, "Use dropna.", "I cannot help with that."),
    ],
    ids=["schema", "groundedness", "refusal"],
)
def test_scorers_of_answers_are_guards_of_the_output(scorer, good, bad):
    """A service whose answer has another form, no support, or is a refusal, says something else instead."""
    instead = []
    for text in (good, bad):
        said = ll.Generation(text=text, retrieved=("d1",))
        answer, _ = ask(guard(scorer, side="output", then="answer", text="Ask the desk."), replies=lambda _, s=said: s)
        instead.append(answer.text == "Ask the desk.")
    assert instead == [False, True]


@pytest.mark.parametrize(
    ("scorer", "options", "rule"),
    [
        (ll.scorers.no_pii, {"side": "both"}, "side"),
        (ll.scorers.no_pii, {"then": "mask"}, "then"),
        (ll.scorers.exact, {}, "expects"),
        (ll.scorers.cites_source, {"then": "redact"}, "redact"),
        (ll.scorers.no_pii, {"then": "answer"}, "text"),
        (ll.scorer(low=0, high=None, name="open")(lambda case, generation: 1), {}, "limit"),
    ],
)
def test_a_guard_that_could_not_work_is_refused(scorer, options, rule):
    with pytest.raises(ValueError, match=rule):
        guard(scorer, **options)


def test_no_guards_are_no_guarded_client():
    with pytest.raises(ValueError, match="no guard"):
        guarded(ll.FakeClient("x"), [])


@pytest.mark.parametrize("higher", [True, False])
def test_the_limit_is_where_a_score_becomes_too_bad(higher):
    """On the limit a guard keeps still; by default only the best score passes."""

    def fires(value, **options):
        made = ll.scorer(higher_is_better=higher, name="graded")(lambda case, generation: value)
        return ask(guard(made, then="flag", **options))[0].steps != ()

    assert [fires(value, limit=0.5) for value in (0.4, 0.5, 0.6)] == (
        [True, False, False] if higher else [False, False, True]
    )
    assert [fires(value) for value in (0.0, 0.5, 1.0)] == ([True, True, False] if higher else [False, True, True])


def test_keys_and_blocked_terms_are_found_and_taken_out():
    """A key by its provider's form; a term as a word of its own, whatever its case and blanks."""
    key = "ghp_" + "1aB2cD3eF4gH5iJ6kL7mN8oP9qR0sT1uV2wX"
    _, asked = ask(guard(ll.scorers.no_keys, then="redact"), question=f"Is {key} right?")
    assert asked == ["Is [key removed] right?"]
    rivals = ll.scorers.no_terms("acme", "big corp", name="no_rivals")
    _, asked = ask(guard(rivals, then="redact"), question="ACME or Big\n corp, not acmeology?")
    assert asked == ["[removed] or [removed], not acmeology?"]
    with pytest.raises(ValueError, match="terms"):
        ll.scorers.no_terms(" ")


def test_what_a_tool_call_holds_is_refused_where_it_would_be_redacted():
    """A call with other arguments would be another call."""
    told = ll.Generation(
        text="I write to jo@firma.de.", tool_calls=({"name": "mail", "arguments": {"to": "jo@firma.de"}},)
    )
    answer, _ = ask(guard(ll.scorers.no_pii, side="output", then="redact"), replies=lambda _: told)
    assert (answer.status, answer.tool_calls) == ("refused", ())
    assert answer.steps == ("guard:no_pii",)
    clean, _ = ask(
        guard(ll.scorers.no_pii, side="output", then="redact"),
        replies=lambda _: replace(told, tool_calls=({"name": "mail", "arguments": {"to": "Jo"}},)),
    )
    assert (clean.status, clean.text, len(clean.tool_calls)) == ("ok", "I write to [email address].", 1)
