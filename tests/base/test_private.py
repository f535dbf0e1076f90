"""Keys of the environment, cut out of whatever is written."""

import json

import pandas as pd
import pytest

from llmlab.base.private import excerpt, holds_secret, remember, scrub, scrub_frame

SECRET_NAMES = """
OPENAI_API_KEY HF_TOKEN DB_PASSWORD CLIENT_SECRET TOKEN my_apikey AWS_SECRET_ACCESS_KEY PGPASSWORD OPENAI_API_KEY_PROD
SENTRY_DSN AZURE_STORAGE_CONNECTION_STRING SLACK_WEBHOOK_URL MYSQL_PWD GITHUB_PAT API_KEY_2 SECRET_OF_THE_TEAM
DB_CONN_STR GCP_CREDENTIALS ACCESS_TOKEN_EU
"""
OTHER_NAMES = """
KEYBOARD HOME PWD OLDPWD TOKENIZERS_PARALLELISM MONKEY_NAME API_KEY_FILE PASSWORD_STORE_DIR
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_the_value_of_a_secret_variable_is_cut_out(name, monkeypatch):
    monkeypatch.setenv(name, "canary-4711")
    assert scrub("the key is canary-4711.") == f"the key is [{name} removed]."


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_other_variables_are_left_alone(name, monkeypatch):
    monkeypatch.setenv(name, "canary-4711")
    assert scrub("canary-4711") == "canary-4711"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SENTRY_DSN", "https://4f8acanary4711@o1.sentry.invalid/42", "GET /api?sentry_key=4f8acanary4711 failed"),
        ("STORE_CONNECTION_STRING", "Server=db;User=me;Password=canary4711;", "login failed with canary4711"),
        ("STORE_CONN_STR", "AccountName=a;AccountKey=canary4711kEy==;Suffix=x", "401 for canary4711kEy=="),
        ("HOOK_WEBHOOK_URL", "https://hooks.invalid/services/T0/B0/canary4711abc", "no_service: B0/canary4711abc"),
        ("ALERTS", "https://hooks.slack.invalid/services/T0/B0/canary4711abc", "404 for B0/canary4711abc"),
        ("ON_CALL_URL", "https://chat.invalid/api/webhooks/1234/canary4711abc", "404 for canary4711abc"),
        ("DISCORD_HOOK", "https://chat.invalid/1234/canary4711abc", "404 for canary4711abc"),
        ("DATABASE_URL", "postgresql://me:canary%3D4711@db.invalid/x", "password is canary=4711"),
        ("INDEX_URL", "https://search.invalid/v1?api-key=canary4711", "bad key canary4711"),
    ],
)
def test_what_is_secret_inside_a_value_is_cut_out_alone(name, value, said, monkeypatch):
    """Of a DSN, a connection string, a webhook or an address, also where only that part is repeated."""
    monkeypatch.setenv(name, value)
    for text in (said, f"could not reach {value}", json.dumps({"url": value})):
        assert "4711" not in scrub(text)
    hosts = "see hooks.invalid, db.invalid and search.invalid"
    assert scrub(hosts) == hosts


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("POST https://x.invalid/v1?api-key=abc123&limit=9", "POST https://x.invalid/v1?api-key=[key removed]&limit=9"),
        ('"https://x.invalid/?a=1&sig=a%2Fb"', '"https://x.invalid/?a=1&sig=[key removed]"'),
        ("https://x.invalid/?token=abc", "https://x.invalid/?token=[key removed]"),
        ("https://x.invalid/?page=3&monkey=abc", "https://x.invalid/?page=3&monkey=abc"),
    ],
    ids=range(4),  # pytest puts ids into the environment
)
def test_a_key_in_the_query_of_an_address_is_cut_out_whoever_set_it(text, scrubbed):
    assert scrub(text) == scrubbed


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


def test_a_clients_key_is_removed_before_the_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READ_BY_A_CLIENT", "no usual shape at all")
    remember("READ_BY_A_CLIENT")
    shown = excerpt("x" * 390 + "no usual shape at all")
    assert "no usual" not in shown
    assert len(shown) <= 400


def test_ordinary_words_are_left_alone() -> None:
    text = "the task-specific skeleton asked for max_tokens; see the key facts"
    assert excerpt(text) == text
