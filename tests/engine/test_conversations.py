"""Conversations whose later turns wait for the model's answers, and tool loops of an application, call by call."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.base.errors import RequestRefusedError
from llmlab.clients.base import Generation, Request, Usage
from llmlab.clients.call_store import CallStore
from llmlab.engine.batch import write_batches
from tests.clients.made import MESSAGES, WIRES, Wire, ask, asking, connected
from tests.loopback import Loopback

BUNDLE = ll.Bundle.from_prompt("{{ history }}\n{{ question }}", model="vllm/tiny", max_tokens=100)
SCRIPT = [{"role": "user", "content": text} for text in ("Hi", "Two and two?", "Are you sure?")]
GOLDEN = ll.GoldenSet((ll.Case.from_row({"id": "q1", "messages": SCRIPT}),))
TOOL = {"name": "add", "parameters": {"type": "object", "properties": {}}, "strict": True}


def counting(request: Request) -> Generation:
    """Says how many messages it was sent."""
    usage = Usage(input_tokens=len(request.messages), output_tokens=1)
    return Generation(text=f"of {len(request.messages)}", usage=usage, cost_usd=Decimal(1), latency_s=0.5)


def test_each_turn_is_sent_with_the_answers_before_it_and_all_of_them_are_counted(tmp_path: Path) -> None:
    client, store = ll.FakeClient(counting), tmp_path / "calls.sqlite"
    results = ll.run(BUNDLE, GOLDEN, client=client, store=store, progress=False)
    (answer,) = results.generations()
    roles = [[message["role"] for message in request.messages][-2:] for request in client.requests]
    assert roles == [["user"], ["assistant", "user"], ["assistant", "user"]]
    assert answer.text == "of 5"
    assert answer.steps == ("turn 1: of 1", "turn 2: of 3", "turn 3")
    assert (answer.usage.input_tokens, answer.cost_usd, answer.latency_s) == (9, 3, 1.5)
    with CallStore(store) as calls:
        assert [(kept.answers, kept.cost_usd) for kept in calls.by_model()] == [(1, 3)]
    again = ll.run(BUNDLE, GOLDEN, client=client, store=store, progress=False)
    assert next(iter(again.generations())).steps == answer.steps
    assert len(client.requests) == 3


def test_a_conversation_that_breaks_off_is_gone_on_with_where_it_broke(tmp_path: Path) -> None:
    def broken(request: Request) -> Generation:
        if len(request.messages) > 3:
            raise RequestRefusedError("too long")
        return counting(request)

    store = tmp_path / "calls.sqlite"
    failed = ll.run(BUNDLE, GOLDEN, client=ll.FakeClient(broken), store=store, progress=False, failed_share_allowed=1)
    assert [one.status for one in failed.generations()] == ["error"]
    client = ll.FakeClient(counting)
    (answer,) = ll.run(BUNDLE, GOLDEN, client=client, store=store, progress=False).generations()
    assert (answer.text, answer.cost_usd, len(client.requests)) == ("of 5", 3, 1)


def test_a_dry_run_counts_every_turn_and_says_which_part_of_the_prompt_takes_the_tokens(tmp_path: Path) -> None:
    client, store = ll.FakeClient(counting, price_usd=Decimal(1)), tmp_path / "calls.sqlite"
    dry = ll.dry_run(BUNDLE, GOLDEN, client=client, store=store)
    assert dry.output_tokens_at_most == (300,)
    assert dry.input_tokens_of[0]["history"] > 300  # two answers of 100 tokens at most, one of them sent twice
    prompt = {"system": "s" * 40, "template": "{{ question }}", "examples": []}
    prompt["examples"] = [{"inputs": {"question": "e" * 20}, "output": "o" * 20}]
    one = ll.Bundle.from_prompt("{{ question }}", model="vllm/tiny", prompt=prompt)
    golden = ll.GoldenSet((ll.Case(id="q1", inputs={"question": "q" * 4}),))
    (parts,) = ll.dry_run(one, golden, client=client, store=store).input_tokens_of
    assert parts == {"system": 10, "examples": 10, "history": 0, "passages": 0, "question": 1}


def test_a_batch_refuses_turns_that_wait(tmp_path: Path, loopback: Loopback) -> None:
    client = connected(loopback)
    with pytest.raises(ValueError, match="user turns that wait"):
        write_batches(BUNDLE, GOLDEN, folder=tmp_path / "batch", store=tmp_path / "calls.sqlite", client=client)


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_tool_loop_goes_out_as_the_wire_wants_it(loopback: Loopback, wire: Wire) -> None:
    calls = ({"name": "add", "arguments": {"a": 2}}, {"name": "add", "arguments": {"a": 3}})
    request = asking("Sums?", wire=wire, tools=(TOOL,)).after(Generation(text="Let me see", tool_calls=calls), "4", "6")
    assert ask(connected(loopback, wire=wire), request).answered
    body = json.loads(loopback.stats()["log"][0]["body"])
    said, *results = body["messages"][1:]
    if wire is MESSAGES:
        ids = [block["id"] for block in said["content"] if block["type"] == "tool_use"]
        assert [block["input"] for block in said["content"][1:]] == [{"a": 2}, {"a": 3}]
        answered = [(block["tool_use_id"], block["content"]) for block in results[0]["content"]]
        assert body["tools"][0]["strict"]
    else:
        ids = [call["id"] for call in said["tool_calls"]]
        assert [json.loads(call["function"]["arguments"]) for call in said["tool_calls"]] == [{"a": 2}, {"a": 3}]
        answered = [(result["tool_call_id"], result["content"]) for result in results]
        assert body["tools"] == [{"type": "function", "function": TOOL}]
    assert answered == [*zip(ids, "46", strict=True)]


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_pictures_go_out_as_the_wire_wants_them(loopback: Loopback, wire: Wire) -> None:
    urls = ("https://example.org/a.png", "data:image/png;base64,aGk=")
    parts = [{"type": "text", "text": "What?"}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    ask(connected(loopback, wire=wire), asking(wire=wire, messages=({"role": "user", "content": parts},)))
    (message,) = json.loads(loopback.stats()["log"][0]["body"])["messages"]
    sources = [
        {"type": "url", "url": urls[0]},
        {"type": "base64", "media_type": "image/png", "data": "aGk="},
    ]
    pictures = [{"type": "image", "source": source} for source in sources]
    assert message["content"] == ([parts[0], *pictures] if wire is MESSAGES else parts)


def test_sound_is_refused_where_the_wire_has_no_form_for_it(loopback: Loopback) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    with pytest.raises(RequestRefusedError, match="input_audio"):
        ask(connected(loopback, wire=MESSAGES), asking(wire=MESSAGES, messages=({"role": "user", "content": [sound]},)))


def test_every_tool_call_needs_its_result_and_what_is_unknown_of_one_call_is_unknown_of_all() -> None:
    calls = ({"name": "add", "arguments": {}},) * 2
    with pytest.raises(ValueError, match="1 results for 2 tool calls"):
        asking().after(Generation(tool_calls=calls), "4")
    whole = Generation.of_calls({"look": Generation(cost_usd=Decimal(1)), "answer": Generation(text="4")})
    assert (whole.cost_usd, whole.attempts, whole.steps) == (None, 2, ("look: ", "answer"))
    with pytest.raises(ValueError, match="at least one"):
        Generation.of_calls({})


def test_an_application_with_a_tool_loop_has_each_call_as_a_step(tmp_path: Path) -> None:
    wants = Generation(tool_calls=({"name": "add", "arguments": {"a": 2}},), latency_s=1.0)

    async def answer(case: ll.Case, bundle: ll.Bundle) -> Generation:
        client = ll.FakeClient(lambda request: wants if len(request.messages) == 1 else counting(request))
        request = bundle.request(**case.inputs)
        first = await client.complete(request)
        second = await client.complete(request.after(first, "4"))
        return Generation.of_calls({"ask": first, "answer": second})

    bundle = ll.Bundle.from_prompt("{{ question }}", model="vllm/tiny", tools=[{"type": "function", "function": TOOL}])
    golden = ll.GoldenSet((ll.Case(id="q1", inputs={"question": "2 + 2?"}),))
    (made,) = ll.run(bundle, golden, app=answer, store=tmp_path / "calls.sqlite", progress=False).generations()
    assert (made.text, made.steps, made.latency_s) == ("of 3", ('ask: add({"a":2})', "answer"), 1.5)
    assert asyncio.run(answer(golden.cases[0], bundle)).steps == made.steps
