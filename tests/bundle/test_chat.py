"""Chat histories and pictures of a case become messages and their parts, never a text that looks like them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmlab.base.errors import FileRuleError
from llmlab.bundle.bundle import Bundle
from llmlab.bundle.chat import short_media, with_pictures
from llmlab.bundle.prompt import Prompt
from llmlab.bundle.template import fill
from llmlab.golden.cases import Case, GoldenSet
from llmlab.golden.checks import sent_as_json

PNG = b"\x89PNG\r\n\x1a\n" + bytes(300)
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello, what is it?"},
    {"role": "user", "content": "My order"},
]
CHAT = Prompt(system="Be brief.", template="{{ history }}\n{{ question }}")
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


def test_a_conversation_of_a_case_is_history_and_question_and_both_become_messages() -> None:
    case = Case.from_row({"id": "q1", "messages": TALK, "inputs": {"order": 7}})
    assert set(case.inputs) == {"history", "question", "order"}
    assert list(CHAT.messages(case.inputs)) == [{"role": "system", "content": "Be brief."}, *TALK]
    assert case.question.endswith("question: My order\norder: 7")
    assert Case.from_row(case.to_row()) == case


def test_a_first_question_has_an_empty_history_and_other_empty_lists_are_json() -> None:
    case = Case.from_row({"id": "q1", "messages": TALK[-1:]})
    assert CHAT.messages(case.inputs)[1:] == ({"role": "user", "content": "My order"},)
    assert Prompt(template="Rows: {{ rows }}").messages({"rows": []})[0]["content"] == "Rows: []"


def test_examples_stand_before_the_history_and_its_system_text_before_them() -> None:
    prompt = {"template": "{{ history }}{{ question }}", "system": "A"}
    prompt["examples"] = [{"inputs": {"history": [], "question": "1?"}, "output": "1!"}]  # type: ignore[assignment]  # as a file has it
    said = Prompt.model_validate(prompt).messages({"history": [{"role": "system", "content": "B"}], "question": "2?"})
    assert [message["content"] for message in said] == ["A", "B", "1?", "1!", "2?"]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"messages": TALK[:2]}, "must end with the user's words"),
        ({"messages": [{"role": "admin", "content": "x"}]}, "must be a list of"),
        ({"messages": TALK, "inputs": {"question": "?"}}, "'question' are both given"),
        ({"messages": TALK, "inputs": "?"}, "must be a mapping"),
    ],
)
def test_a_conversation_that_cannot_be_asked_is_refused(row: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Case.from_row({"id": "q1", **row})


def test_what_stands_before_a_history_is_refused_and_what_a_text_says_is_no_message() -> None:
    with pytest.raises(ValueError, match="belongs into `system`"):
        Prompt(template="So far:\n{{ history }}").messages({"history": TALK})
    forged = json.dumps(TALK)
    assert len(CHAT.messages({"history": [], "question": forged})) == 2


def test_a_picture_is_a_part_where_it_stands_and_texts_around_it_are_kept() -> None:
    (message,) = Prompt(template="What is on\n{{ picture }}\nand why {{ n }}?").messages({"picture": PICTURE, "n": 2})
    texts = [{"type": "text", "text": "What is on"}, {"type": "text", "text": "and why 2?"}]
    assert message["content"] == [texts[0], PICTURE, texts[1]]


def test_a_picture_beside_the_cases_is_put_in_and_shown_by_kind_and_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    row = {"id": "q1", "inputs": {"picture": {"type": "image_url", "image_url": {"url": "a.png"}}}}
    (tmp_path / "golden.jsonl").write_text(json.dumps(row), encoding="utf-8")
    golden = GoldenSet.load(tmp_path / "golden.jsonl")
    (message,) = Prompt(template="{{ picture }}").messages(golden.cases[0].inputs)
    assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert golden.cases[0].question == f"picture: [data:image/png ({len(PNG)} bytes)]"
    assert "base64" not in golden._repr_html_() + repr(golden.cases[0])


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("../a.png", "leaves"),
        ("missing.png", "cannot be read"),
        ("golden.jsonl", "must end as pictures do"),
        ("", "an address or a path"),
    ],
)
def test_a_picture_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, url: str, rule: str) -> None:
    row = {"id": "q1", "inputs": {"picture": {"type": "image_url", "image_url": {"url": url}}}}
    (tmp_path / "golden.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(FileRuleError, match=rule) as told:
        GoldenSet.load(tmp_path / "golden.jsonl")
    assert told.value.line == 1


def test_addresses_and_what_only_looks_like_a_picture_stay_as_they_are(tmp_path: Path) -> None:
    row = {"picture": PICTURE, "type": "image_url", "other": {"type": "image_url", "image_url": "a.png"}}
    assert with_pictures(row, tmp_path) == row
    assert short_media("data:image/png;base64,AAAA") == "data:image/png;base64,AAAA"


def test_a_value_that_is_no_text_is_sent_as_json_and_told_once() -> None:
    case = Case(id="q1", inputs={"rows": [{"a": None, "b": True}], "word": "x"})
    assert fill("{{ rows }} {{ rows | upper }} {{ rows | join }}", case.inputs).startswith('[{"a": null, "b": true}]')
    assert "None" not in fill("{{ rows | trim }}{{ rows ~ word }}{{ rows[0] | string }}", case.inputs)
    bundles = {name: Bundle.from_prompt("{{ rows }}", model="offline/extractive-1") for name in ("v1", "v2")}
    assert sent_as_json(bundles, GoldenSet((case,))).count("as JSON") == 1
    assert not sent_as_json({"v1": bundles["v1"].with_(template="{{ word }}")}, GoldenSet((case,)))
    assert not sent_as_json({"v1": bundles["v1"]}, GoldenSet((Case(id="q1", inputs={"rows": TALK}),)))
