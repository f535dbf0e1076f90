"""What wire formats share: bytes are JSON or a TransportError, and events come out however the stream was cut."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import TransportError
from llmlab.clients.wire import inner_error, parsed, read_json, sse_data, text_of


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_a_json_object_or_a_transport_error(body: bytes) -> None:
    with contextlib.suppress(TransportError):
        assert isinstance(read_json(body), dict)


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 80), max_size=6))
def test_events_come_out_however_the_stream_was_cut(cuts: list[int]) -> None:
    stream = b': hi\n\nevent: x\r\ndata: {"a": 1}\r\n\r\nid: 4\ndata:{"b": 2}\n\ndata:\n\ndata: [DONE]\n\n'
    found, rest, start = [], b"", 0
    for end in [*sorted(cuts), len(stream)]:
        values, rest = sse_data(stream[start:end], rest)
        found += values
        start = max(start, end)
    assert found == [b'{"a": 1}', b'{"b": 2}', b"[DONE]"]


@pytest.mark.parametrize("error", [{"error": "lost"}, {"object": "error", "message": "lost"}, {"type": "error"}])
def test_an_error_with_status_200_is_told(error: dict[str, str]) -> None:
    """FAULTS 21."""
    with pytest.raises(TransportError, match="status 200, but an error inside"):
        inner_error(error)


def test_keys_in_an_inner_error_are_removed() -> None:
    """FAULTS 82."""
    with pytest.raises(TransportError) as raised:
        inner_error({"error": "wrong key: no usual shape"}, secrets=("no usual shape",))
    assert "no usual shape" not in str(raised.value)


def test_what_is_no_text_or_json_is_handed_on_or_left_out() -> None:
    assert text_of([{"text": "a"}, 7, {"text": [{"text": "b"}]}]) == "ab"
    assert [parsed(text) for text in ('{"a": 1', "NaN", '{"a": 1}')] == ['{"a": 1', "NaN", {"a": 1}]
