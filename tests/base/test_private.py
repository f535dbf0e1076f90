"""Keys are cut out of whatever is written: those of the environment, and those that look as providers publish them.

Alphabets and lengths of the formats stand here a second time, from the providers' pages and what their consoles hand
out, so that a pattern which is too narrow is not tested with its own mistake.
"""

from __future__ import annotations

import json
import random
import re
import string
import sysconfig
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest

from llmlab.base.private import (
    excerpt,
    find_pii,
    holds_secret,
    pseudonymised,
    remember,
    scrub,
    scrub_frame,
    without_any_keys,
)

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
        ("http_proxy", "anna:canary%3D4711@proxy.invalid:3128", "no proxy at anna:canary%3D4711@proxy or canary=4711"),
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


LETTERS, DIGITS = string.ascii_letters, string.digits
ALNUM, HEX, CAPS = LETTERS + DIGITS, DIGITS + "abcdef", string.ascii_uppercase + DIGITS
URL64, BASE32, BASE64 = ALNUM + "-_", string.ascii_uppercase + "234567", ALNUM + "+/"
# What is drawn: plain texts as they stand, and (alphabet, length) of what is random.
FORMATS: dict[str, tuple[str | tuple[str, int], ...]] = {
    "OpenAI, user": ("sk-", (ALNUM, 20), "T3BlbkFJ", (ALNUM, 20)),
    "OpenAI, project": ("sk-proj-", (URL64, 74), "T3BlbkFJ", (URL64, 74)),
    "OpenAI, service account": ("sk-svcacct-", (URL64, 58), "T3BlbkFJ", (URL64, 58)),
    "OpenAI, admin": ("sk-admin-", (URL64, 74), "T3BlbkFJ", (URL64, 74)),
    "Anthropic": ("sk-ant-api03-", (URL64, 93), "AA"),
    "Anthropic, admin": ("sk-ant-admin01-", (URL64, 93), "AA"),
    "OpenRouter": ("sk-or-v1-", (HEX, 64)),
    "DeepSeek": ("sk-", (HEX, 32)),
    "Moonshot": ("sk-", (ALNUM, 48)),
    "Hugging Face": ("hf_", (LETTERS, 34)),
    "Hugging Face, organisation": ("api_org_", (LETTERS, 34)),
    "Groq": ("gsk_", (ALNUM, 52)),
    "xAI": ("xai-", (ALNUM, 80)),
    "NVIDIA": ("nvapi-", (URL64, 64)),
    "Perplexity": ("pplx-", (ALNUM, 48)),
    "Replicate": ("r8_", (ALNUM, 37)),
    "Fireworks": ("fw_", (ALNUM, 24)),
    "Together": ("tgp_v1_", (URL64, 43)),
    "Cerebras": ("csk-", (string.ascii_lowercase + DIGITS, 48)),
    "LangSmith": ("lsv2_pt_", (HEX, 32), "_", (HEX, 10)),
    "AWS, long-lived": ("AKIA", (BASE32, 16)),
    "AWS, of a session": ("ASIA", (CAPS, 16)),
    "AWS Bedrock": ("ABSK", (BASE64, 128)),
    "Google": ("AIza", (URL64, 35)),
    "Google, OAuth": ("GOCSPX-", (URL64, 28)),
    "Azure storage": ("AccountKey=", (BASE64, 86), "=="),
    "Alibaba": ("LTAI", (ALNUM, 20)),
    "GitHub": ("ghp_", (ALNUM, 36)),
    "GitHub, application": ("ghs_", (ALNUM, 36)),
    "GitHub, refresh": ("ghr_", (ALNUM, 76)),
    "GitHub, fine-grained": ("github_pat_", (ALNUM, 22), "_", (ALNUM, 59)),
    "GitLab": ("glpat-", (URL64, 20)),
    "GitLab, routable": ("glpat-", (URL64, 27), ".01.", (string.ascii_lowercase + DIGITS, 9)),
    "npm": ("npm_", (ALNUM, 36)),
    "PyPI": ("pypi-AgEIcHlwaS5vcmc", (URL64, 150)),
    "Slack, bot": ("xoxb-", (DIGITS, 12), "-", (DIGITS, 13), "-", (ALNUM, 24)),
    "Slack, user": ("xoxp-", (DIGITS, 12), "-", (DIGITS, 12), "-", (DIGITS, 12), "-", (HEX, 32)),
    "Slack, webhook": ("hooks.slack.com/services/T", (CAPS, 10), "/B", (CAPS, 10), "/", (ALNUM, 24)),
    "Discord, webhook": ("discord.com/api/webhooks/", (DIGITS, 18), "/", (URL64, 68)),
    "Stripe": ("sk_live_", (ALNUM, 24)),
    "Stripe, restricted": ("rk_live_", (ALNUM, 99)),
    "SendGrid": ("SG.", (URL64, 22), ".", (URL64, 43)),
    "Twilio": ("SK", (HEX, 32)),
    "Databricks": ("dapi", (HEX, 32)),
    "DigitalOcean": ("dop_v1_", (HEX, 64)),
    "Grafana": ("glsa_", (ALNUM, 32), "_", (HEX, 8)),
    "Vault": ("hvs.", (URL64, 95)),
    "JSON web token": ("eyJ", (URL64, 33), ".eyJ", (URL64, 80), ".", (URL64, 43)),
}
PLACES = {
    "prose": "I still get a 401 with {}, see section 4.",
    "JSON": '{{"headers": {{"x-api-key": "{}"}}, "n": 3}}',
    "JSON of a text on two lines": '{{"prompt": "My key:\\n{}\\nWhy is it refused?"}}',
    "URL": "GET https://api.invalid/v1/models?key={}&limit=9",
    "escaped URL": "GET https://api.invalid/go?to=%2Fv1%3Fkey%3D{}%26limit%3D9",
    "environment": "export SOME_NAME='{}'",
}


def drawn(parts: tuple[str | tuple[str, int], ...], rng: random.Random) -> str:
    return "".join(part if isinstance(part, str) else "".join(rng.choices(part[0], k=part[1])) for part in parts)


@pytest.mark.parametrize("n", [600, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_a_published_format_is_found_and_cut_out(name: str, n: int) -> None:
    """So many keys of each, in turn in each place: at least 99.9% found, each of them whole."""
    rng = random.Random(name)
    keys = [drawn(FORMATS[name], rng) for _ in range(n)]
    places = [*PLACES.values()]
    lines = [places[i % len(places)].format(key) for i, key in enumerate(keys)]
    hidden = str(pseudonymised("\n\n".join(lines), key=None)).split("\n\n")
    wanted = [places[i % len(places)].format("[API key]") for i in range(n)]
    missed = [line for line, seen, want in zip(lines, hidden, wanted, strict=True) if seen != want]
    assert len(missed) <= n // 1000, missed[:5]
    for line in lines[:60]:
        assert "API key" in find_pii(line) or line in missed, line
        assert keys[lines.index(line)] not in excerpt(line) or line in missed, line


@pytest.mark.parametrize("name", FORMATS)
def test_a_key_that_is_glued_to_a_name_is_cut_out_of_what_is_written(name: str) -> None:
    """Scorers take it for a part of that name, as they always did."""
    key = drawn(FORMATS[name], random.Random(name))
    for before in ("sess-", "x_", "MY_OLD-"):
        for cut in (without_any_keys, excerpt):
            assert cut(f"see {before}{key}, please") == f"see {before}[key removed], please"
    for ordinary in ("my_hf_hub_download_with_retries_and_cache", "x_sk-" + "x" * 48, "a-sha256-" + "ab12" * 16):
        assert without_any_keys(ordinary) == ordinary


def words_of(folder: Path, endings: tuple[str, ...], n: int, rng: random.Random) -> list[str]:
    """So many words, as they stand in files that are drawn from a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in endings and path.stat().st_size < 400_000)
    found: list[str] = []
    for path in rng.sample(files, len(files)):
        found += re.findall(r"\S+\s*", path.read_text(encoding="utf-8", errors="replace"))[:3_000]
        if len(found) >= n:
            break
    return found[:n]


@pytest.mark.slow
def test_prose_and_code_hold_no_key() -> None:
    """100,000 words of the documentation and the sources that are installed here: at most one false alarm."""
    rng = random.Random(14)
    installed, library = Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("stdlib"))
    texts = [
        words_of(installed, (".md", ".rst", ".txt", ".ipynb"), 30_000, rng),
        words_of(installed, (".py", ".js", ".json", ".yaml"), 30_000, rng),
        words_of(library, (".py",), 40_000, rng),
    ]
    assert sum(map(len, texts)) >= 100_000
    assert sum(find_pii("".join(words)).get("API key", 0) for words in texts) <= 1
    assert sum(without_any_keys("".join(words)).count("[key removed]") for words in texts) <= 1
    assert sum(find_pii(json.dumps("".join(words))).get("API key", 0) for words in texts) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "sk-your-key-goes-here-please-thanks",
        "hf_hub_download_with_retries_and_cache",
        "task-specific-sk-learn-like-estimators-2024",
        "sk-" + "x" * 48,
        "AKIAIOSFODNN7EXAMPLE",
        "ghost-writers-in-residence-2024-2025",
        "SKU-0123456789",
        "sha256-" + "ab12" * 16,
        quote("https://discord.com/api/webhooks"),
    ],
)
def test_what_only_begins_like_a_key_is_none(text: str) -> None:
    assert find_pii(f"see {text} for more") == {}
