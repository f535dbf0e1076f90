"""Single cases: which flipped, which are worst, and everything about one."""

import asyncio
import re
import shlex
from dataclasses import replace

import pytest

from llmlab.bundle import ModelRef, Sampling
from llmlab.callstore import CallStore, call_key
from llmlab.clients.base import Generation, Request
from llmlab.errors import DataError
from tests.made_results import HOSTILE, made

ENDPOINT = "https://llm.example/v1"


def test_flips_are_counted_harmed_first():
    """Good from the middle of the range; both answers beside each other."""
    found = made({"v1": [1.0, 1.0, 0.0, 0.0, 0.5], "v2": [1.0, 0.0, 1.0, None, 0.6]}).flips("v1", "v2")
    assert [flip.case_id for flip in found.flips] == ["q001", "q002"]
    assert (len(found), len(found.harmed), len(found.mended)) == (2, 1, 1)
    assert (found.flips[0].before_text, found.flips[0].after_text) == ("1.0", "0.0")
    assert "1 case became good, 1 became bad and 2 stayed" in str(found)
    assert "1 case without a score in both" in str(found)


def test_flips_of_a_lower_is_better_metric_turn_around():
    """Fewer errors are good."""
    found = made({"v1": [1, 0], "v2": [0, 1]}, higher_is_better=False).flips("v1", "v2")
    assert [flip.became for flip in found.flips] == ["bad", "good"]
    assert "good from 0.5 down" in str(found)


def test_flips_need_a_bounded_metric_and_known_variants():
    """Nobody knows which cost is good."""
    with pytest.raises(ValueError, match="no bounds"):
        made({"v1": [1, 2], "v2": [2, 1]}, low=None, high=None).flips("v1", "v2")
    with pytest.raises(ValueError, match="no variant 'v3'"):
        made({"v1": [1, 0], "v2": [0, 1]}).flips("v1", "v3")


def test_no_flips_is_a_sentence():
    """And no empty table."""
    found = made({"v1": [1, 0], "v2": [1, 0]}).flips("v1", "v2")
    assert str(found).startswith("From v1 to v2, 0 cases became good")
    assert "2 stayed" in found._repr_html_()


def test_worst_are_the_lowest_scored_and_never_the_unscored():
    """What could not be judged is counted, not ranked."""
    results = made({"v1": [0.4, None, 0.1], "v2": [0.2, 0.9, 0.3]})
    assert [row["case"] for row in results.worst(2).rows] == ["q002", "q000"]
    assert results.worst(2, variant="v1").case_ids == ("q002", "q000")
    assert "1 unscored answer cannot be ranked" in str(results.worst(2))
    turned = made({"v1": [0.4, 0.1]}, higher_is_better=False)
    assert turned.worst(1).case_ids == ("q000",)
    with pytest.raises(ValueError, match="n == 0"):
        results.worst(0)
    with pytest.raises(ValueError, match="no variant"):
        results.worst(1, variant="v9")


def test_a_case_is_shown_with_question_expectation_answers_and_reasons():
    """Everything that explains its scores."""
    view = made({"v1": [0.4, 0.6], "v2": [0.2, 0.9]}).show("q001")
    text = str(view)
    for part in ("question 1?", "Expected: yes", "right: read 0.6", "0.9"):
        assert part in text
    html = view._repr_html_()
    assert "<del" in html
    assert "<ins" in html
    with pytest.raises(ValueError, match="'q9'"):
        made({"v1": [0.4]}).show("q9")
    with pytest.raises(DataError, match="store="):
        view.curl("v1")


def with_requests(tmp_path, endpoint):
    """Results of two variants whose requests are in a call store."""
    results, keys = made({"v1": [0.4], "v2": [0.2]}), {}
    with CallStore(tmp_path / "calls.sqlite") as store:
        for variant in results.variants:
            request = Request(
                model=ModelRef.parse("openai/gpt-4o-2024-08-06"),
                messages=({"role": "user", "content": f"it's {variant} `$(rm -rf /)`"},),
                sampling=Sampling(temperature=0.0),
            )
            keys[variant] = call_key(endpoint, request)
            asyncio.run(store.put(keys[variant], request, Generation(text="x")))
    frame = results.frame.assign(call_key=[keys[variant] for variant in results.frame["variant"]])
    return replace(results, frame=frame, provenance={"endpoints": dict.fromkeys(results.variants, endpoint)})


def test_the_exact_request_can_be_pasted_as_curl(tmp_path):
    """One shell command; texts are quoted, the key is a variable's name."""
    view = with_requests(tmp_path, ENDPOINT).show("q000", store=tmp_path / "calls.sqlite")
    words = shlex.split(view.curl("v2"))
    assert words[:2] == ["curl", f"{ENDPOINT}/chat/completions"]
    assert any("it's v2 `$(rm -rf /)`" in word for word in words)
    assert '"Authorization: Bearer ${API_KEY}"' in view.curl("v2")  # whose address that is nobody knows
    assert "curl" in view._repr_html_()


def test_a_command_to_paste_names_no_provider_s_key_for_another(tmp_path):
    """OpenAI's address gets OpenAI's variable, Groq's its own, a server on this machine none."""
    named = {
        "https://api.openai.com/v1": "${OPENAI_API_KEY}",
        "https://api.groq.com/openai/v1": "${GROQ_API_KEY}",
        "http://127.0.0.1:11434/v1": "",
    }
    for place, (address, variable) in enumerate(named.items()):
        folder = tmp_path / str(place)
        folder.mkdir()
        command = with_requests(folder, address).show("q000", store=folder / "calls.sqlite").curl("v2")
        assert re.findall(r"\$\{\w+\}", command) == ([variable] if variable else [])


def test_a_request_that_went_to_no_url_is_shown_as_json(tmp_path):
    """The offline reader has no endpoint."""
    view = with_requests(tmp_path, "offline/extractive-1").show("q000", store=tmp_path / "calls.sqlite")
    assert '"gpt-4o-2024-08-06"' in view.curl("v1")


def test_the_case_views_escape_what_models_and_files_say():
    """Answers, names and reasons are untrusted."""
    results = made({"v1": [0.4], HOSTILE: [0.6]})
    results = replace(results, frame=results.frame.assign(text=HOSTILE, error=HOSTILE))
    for shown in (results.show("q000"), results.flips("v1", HOSTILE), results.worst(2)):
        assert "<script" not in shown._repr_html_()
        assert "\x1b" not in str(shown) + repr(shown)
