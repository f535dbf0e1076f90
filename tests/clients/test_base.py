"""Requests and generations as JSON: the same bytes for ever, since the call store is keyed by them."""

import dataclasses
import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.bundle.bundle import ModelRef, Sampling
from llmlab.clients.base import Generation, Request, Usage

TEXTS = st.text(st.characters(codec=None), max_size=30)  # half surrogate pairs too
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": TEXTS}),
        st.fixed_dictionaries({"role": TEXTS, "content": TEXTS, "name": TEXTS}),
        st.fixed_dictionaries({"content": st.lists(st.fixed_dictionaries({"text": TEXTS})), "role": TEXTS}),
        st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS, max_size=2),
    ),
    max_size=3,
)
MODEL = ModelRef.parse("openai/gpt-4o-2024-08-06")


@settings(max_examples=100)
@given(MESSAGES, st.none() | st.integers(0, 9), st.integers(0, 3), st.booleans())
def test_a_request_is_written_as_sorted_compact_json(messages, seed, repeat, has_tool):
    """Held against the standard encoder: a key of an earlier version still finds its answer."""
    tools = ({"name": "f", "description": "é"},) if has_tool else ()
    sampling = Sampling(temperature=0.5)
    request = Request(model=MODEL, messages=tuple(messages), sampling=sampling, tools=tools, seed=seed, repeat=repeat)
    rest = {"messages": messages, "repeat": repeat, "seed": seed, "tools": list(tools)}
    expected = {"model": MODEL.identity, "sampling": sampling.sent} | rest
    parts = [
        f"{json.dumps(key)}:{json.dumps(value, sort_keys=True, separators=(',', ':'))}"
        for key, value in expected.items()
    ]
    assert request.to_json() == f"{{{','.join(parts)}}}"
    assert Request.from_json(request.to_json()).to_json() == request.to_json()


@settings(max_examples=100)
@given(
    TEXTS,
    st.none() | st.decimals(0, 10, places=6),
    st.floats(0, 1e9),
    st.tuples(*[st.none() | st.integers(0, 10**12)] * 4),
)
def test_an_answer_survives_json(text, cost_usd, latency_s, tokens):
    """Every field, whatever the model said."""
    names = [part.name for part in dataclasses.fields(Usage)]
    answer = Generation(
        text=text,
        cost_usd=cost_usd,
        latency_s=latency_s,
        usage=Usage(**dict(zip(names, tokens, strict=True))),
        tool_calls=({"name": "f", "arguments": {"x": [text]}},),
        steps=("search",),
    )
    for written in (answer.to_json(), answer.to_json().encode()):
        assert Generation.from_json(written) == answer


def test_an_answer_that_was_read_or_placed_is_as_frozen_as_any():
    read = Generation.from_json(b'{"status":"ok","text":"x","usage":[1,2,null],"cost_usd":"0.10"}', cached=True)
    assert read == Generation(
        text="x", usage=Usage(input_tokens=1, output_tokens=2), cost_usd=Decimal("0.10"), cached=True
    )
    placed = read.placed(variant="v", case_id="q")
    assert placed == dataclasses.replace(read, variant="v", case_id="q")
    for value, name in ((read, "text"), (placed, "text"), (read.usage, "input_tokens")):
        assert type(value) in (Generation, Usage)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, "y")
    assert hash(placed) == hash(dataclasses.replace(read, variant="v", case_id="q"))


@pytest.mark.parametrize("torn", ["", "{", "[]", "3", '{"text":"x"}', '{"status":"ok","text":"x","other":1}'])
def test_a_torn_answer_is_an_error(torn):
    with pytest.raises((ValueError, KeyError, TypeError)):
        Generation.from_json(torn)


@pytest.mark.parametrize("name", ["latency_s", "first_token_s", "cost_usd"])
@pytest.mark.parametrize("odd", [-0.001, float("nan"), float("inf"), float("-inf")])
def test_an_amount_that_cannot_be_is_unknown_and_the_answer_is_kept(name, odd):
    """Of a client of one's own whose clock was set back, or whose sums went wrong."""
    for value in (odd, Decimal(str(odd))) if name == "cost_usd" else (odd,):
        answer = Generation(text="Paris", **{name: value})
        assert (answer.text, getattr(answer, name)) == ("Paris", None)
        assert Generation.from_json(answer.to_json()) == answer
    assert getattr(Generation(text="Paris", **{name: 0}), name) == 0


def test_numbers_of_numpy_can_be_stored():
    """As found: "the answer cannot be stored: Object of type int64 is not JSON serializable", of an answer paid for."""
    usage = Usage(input_tokens=np.int64(3), output_tokens=np.int32(2))
    answer = Generation(text="Paris", usage=usage, latency_s=np.float32(1.5))
    assert Generation.from_json(answer.to_json()) == answer
    assert (answer.usage.input_tokens, answer.latency_s) == (3, 1.5)


def test_a_status_that_is_none_is_refused():
    """As found: an answer with status "failed" was stored, and scored as one that came."""
    with pytest.raises(ValueError, match="status == 'failed', must be one of ok, refused"):
        Generation(text="", status="failed", error="out of memory")


def test_a_stored_amount_below_zero_is_read_as_unknown():
    read = Generation.from_json('{"status":"ok","text":"x","latency_s":-0.001,"cost_usd":"-1"}')
    assert (read.text, read.latency_s, read.cost_usd) == ("x", None, None)
