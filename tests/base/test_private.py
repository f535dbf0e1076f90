"""Keys of the environment, cut out of whatever is written."""

import json

import pandas as pd
import pytest

from llmlab.base.private import excerpt, holds_secret, scrub, scrub_frame


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "CLIENT_SECRET", "TOKEN", "my_apikey", "AWS_SECRET_ACCESS_KEY"],
)
def test_the_value_of_a_secret_variable_is_cut_out(name, monkeypatch):
    monkeypatch.setenv(name, "canary-4711")
    assert scrub("the key is canary-4711.") == f"the key is [{name} removed]."


@pytest.mark.parametrize("name", ["KEYBOARD", "HOME", "TOKENIZERS_PARALLELISM", "MONKEY_NAME"])
def test_other_variables_are_left_alone(name, monkeypatch):
    monkeypatch.setenv(name, "canary-4711")
    assert scrub("canary-4711") == "canary-4711"


def test_a_short_value_is_a_word_and_stays(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "none")
    assert scrub("there is none") == "there is none"


def test_a_value_is_found_as_json_html_and_addresses_spell_it(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", 'ca"na<ry/47+11')
    for text in (json.dumps('ca"na<ry/47+11'), "ca&quot;na&lt;ry/47+11", "ca%22na%3Cry%2F47%2B11"):
        assert "47" not in scrub(text)
        assert holds_secret(text) == "SOME_API_KEY"


def test_a_table_without_a_secret_is_the_same_object(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "canary-4711")
    frame = pd.DataFrame({"text": ["a", None], "n": [1, 2]})
    assert scrub_frame(frame) is frame
    leaky = frame.assign(text=["it is canary-4711", None])
    assert scrub_frame(leaky)["text"].tolist()[0] == "it is [SOME_API_KEY removed]"
    assert scrub_frame(leaky)["text"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF123456",
        "sk-ant-api03-abcDEF123456",
        "Bearer abcdef.123",
        'api_key="abcdef123456"',
        '"api-key": "abcdef123456"',
        "gsk_abcdefgh123456",
        "hf_abcdefgh123456",
        "AIzaSyAbcdefgh123456",
        "sk-ab******wxyz1234",
    ],
)
def test_anything_like_a_key_is_removed(secret: str) -> None:
    shown = excerpt(f'error: "{secret}" is wrong')
    assert "abc" not in shown
    assert "wxyz" not in shown
    assert "is wrong" in shown


def test_a_given_secret_is_removed_before_the_text_is_cut() -> None:
    secret = "no usual shape at all"
    text = "x" * 390 + secret
    assert "no usual" not in excerpt(text, secrets=(secret, ""))
    assert len(excerpt(text, secrets=(secret,))) <= 400


def test_ordinary_words_are_left_alone() -> None:
    text = "the task-specific skeleton asked for max_tokens; see the key facts"
    assert excerpt(text) == text
