"""What may not leak, found in texts and taken out: keys by value and shape, personal data by form and checksum.

A variable of the environment is secret by its name, because a client reads its key from it (`remember`), or because its
value is a webhook or an address with a password in it, of which only the password counts. Personal data is named by
kind, or replaced by pseudonyms: whoever has the project's key gets the same one for the same value, nobody gets the
value back. What has no fixed form (names, postal addresses) is not found: no finding is no proof.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import html
import ipaddress
import json
import os
import re
import secrets as random_secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import pandas as pd

_SHORTEST_SECRET_CHARS = 6  # shorter values are words such as "none", and would be cut out of innocent text
_SHORTEST_START_CHARS = 12  # of a value of twice as many: providers show the start of a key that they refuse
_LONGEST_EXCERPT_CHARS = 400
_LONGEST_SEARCHED_CHARS = 20_000
_REMOVED = "[key removed]"
API_KEY = "API key"
_CASES_SHOWN = 5

Secrets = tuple[tuple[str, str], ...]  # (spelling, name of its variable), longest first

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:KEYS?|TOKENS?|PASS|PASSPHRASE|PAT|AUTH|CREDENTIALS?|DSN|CONN(?:ECTION)?_?STR(?:ING)?|COOKIE"
    r"|(?:WEB)?HOOK(?:_URL)?)(?:_?\d+)?$"
    r"|(?:API_?KEYS?|SECRETS?|PASSWORDS?|PASSWD|MYSQL_PWD|ACCESS_?TOKENS?)"
    r"(?:_?\d+|_(?!DIR|ENV|FILE|HEADER|LENGTH|MANAGER|NAME|PATH|POLICY|STORE|URL)\w+)?$",
    re.IGNORECASE,
)
_WEBHOOK = re.compile(r"https?://\S*\b(?:hooks?|webhook\w*)\b", re.IGNORECASE)  # its path is the key
_IN_AN_ADDRESS = re.compile(r"://[^\s/?#:@\"'<>\\]{0,200}:([^\s/?#@\"'<>\\]{1,200})(?=@)")
# of a proxy, which may have no scheme
_BEFORE_A_HOST = re.compile(r"[^\s/?#:@\"'<>\\]{0,200}:([^\s/?#@\"'<>\\]{1,200})@[\w.:\[\]-]+/?")
_IN_A_QUERY = re.compile(
    r"([?&](?i:(?:\w{1,20}[-_])?(?:key|token|sig|signature|secret|password)|apikey))=([^\s&#\"'<>\\\[]{1,2000})"
)
_IN_A_CONNECTION = re.compile(r"(?i:(?:password|pwd|\w*key|\w*signature|secret))\s*=\s*([^;\s]{1,500})")
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|xai|nvapi|pplx|key|ghp|glpat|AIza|AKIA)[-_]?[A-Za-z0-9*][\w*.-]{7,}"
    r"|(?i:\bbearer\s+)[^\s\"',}]+"
    r"|(?i:\b(?:api[-_ ]?key|authorization|token|secret|password)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]{6,}"
)
_REMEMBERED: set[str] = set()

# Length of an IBAN by country (ISO 13616 registry).
_IBAN_COUNTRIES = (
    "AD24 AE23 AT20 BE16 BG22 CH21 CY28 CZ24 DE22 DK18 EE20 ES24 FI18 FR27 GB22 GR27 HR21 HU28 IE22 IL23 IS26 "
    "IT27 LI21 LT20 LU20 LV21 MC27 MT31 NL18 NO15 PL28 PT25 RO24 RS22 SA24 SE24 SI19 SK24 SM27 TR26 UA29"
)
_IBAN_LENGTHS = {pair[:2]: int(pair[2:]) for pair in _IBAN_COUNTRIES.split()}
_ODD_LETTERS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


class Secret(str):
    """A text that shows itself to nobody: tracebacks with local variables, debuggers and notebooks print its repr.

    >>> {"x-api-key": Secret("hunter2")}
    {'x-api-key': '[key removed]'}
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_REMOVED)


class Found(NamedTuple):
    """Where something was found: the case's id (without what is personal in it) and the kinds."""

    case_id: str
    kinds: tuple[str, ...]


def scrub(text: str, *, secrets: Secrets | None = None) -> str:
    """The text without the value of any secret environment variable, and without passwords in addresses.

    Values are also found as they look inside JSON, HTML, addresses and base64, and by their beginning.

    Args:
        secrets: of `secrets_now`, where many texts are scrubbed.

    >>> scrub("postgresql://me:correct-horse@db/mlflow")
    'postgresql://[password removed]@db/mlflow'
    """
    for spelling, name in secrets_now() if secrets is None else secrets:
        if spelling in text:
            text = text.replace(spelling, f"[{name} removed]")
    if "://" not in text:
        return text
    return _IN_A_QUERY.sub(r"\1=[key removed]", _IN_AN_ADDRESS.sub("://[password removed]", text))


def holds_secret(text: str) -> str:
    """The name of the first environment variable whose secret value stands in the text, "" where there is none."""
    return next((name for spelling, name in secrets_now() if spelling in text), "")


def remember(name: str) -> None:
    """From now on this environment variable is a secret, whatever it is called: a client reads its key from it."""
    _REMEMBERED.add(name)


def excerpt(text: str, *, limit: int = _LONGEST_EXCERPT_CHARS) -> str:
    """The text on one line, without the keys of clients and anything shaped like a key, cut to `limit` characters.

    >>> excerpt("Incorrect API key provided: sk-abcdefgh12345678.")
    'Incorrect API key provided: [key removed]'
    """
    text = text[:_LONGEST_SEARCHED_CHARS]
    for key in sorted([os.environ.get(name, "").strip() for name in [*_REMEMBERED]], key=len, reverse=True):
        text = text.replace(key, _REMOVED) if key else text
    # first removed, then cut: half a key is a key too
    line = " ".join(_KEY_LIKE.sub(_REMOVED, without_any_keys(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def without_keys(text: str) -> str:
    """The text without what has the form of a provider's key, whoever knew it.

    >>> without_keys("export TOKEN=ghp_" + "1aB2cD3eF4gH5iJ6kL7mN8oP9qR0sT1uV2wX")
    'export TOKEN=[key removed]'
    """
    return _replaced(text, None, only=API_KEY, by=_REMOVED) if _may_hold_key(text) else text


def without_any_keys(text: str) -> str:
    """The text as it may be written down: `without_keys`, and also without those that are glued to a name.

    >>> without_any_keys("SESSION=sess-ghp_" + "1aB2cD3eF4gH5iJ6kL7mN8oP9qR0sT1uV2wX")
    'SESSION=sess-[key removed]'
    """
    cut = without_keys(text)
    return _glued().sub(lambda match: _REMOVED if _is_key(match[0]) else match[0], cut) if _may_hold_key(cut) else cut


def scrub_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every text cell scrubbed; the table itself where there is nothing to remove."""
    changed, secrets = {}, secrets_now()
    for column in frame.columns:
        values = frame[column].tolist()
        whole = "\n".join(value for value in values if isinstance(value, str))  # searched at once, which is quicker
        if scrub(whole, secrets=secrets) != whole:
            changed[column] = [scrub(value, secrets=secrets) if isinstance(value, str) else value for value in values]
    return frame.assign(**changed) if changed else frame


def secrets_now() -> Secrets:
    """Every spelling of every secret of the environment, longest first, so that no part of a value stays behind."""
    found = {
        (spelling, name)
        for name, value in os.environ.items()
        for secret in _secret_parts(name, value)
        if len(secret) >= _SHORTEST_SECRET_CHARS
        for spelling in _spellings(secret)
    }
    return tuple(sorted(found, key=lambda pair: (-len(pair[0]), pair[1])))


def find_pii(text: str) -> dict[str, int]:
    """How many of each kind of personal data (and of keys) a text holds; what it is stays out of the answer.

    >>> find_pii("Write to jo@firma.de or call +49 30 901820.")
    {'email address': 1, 'phone number': 1}
    """
    if not _worth_a_look(text):
        return {}
    found: Counter[str] = Counter()
    for kind, needed, is_one, pattern in _kinds():
        if any(part in text for part in needed):
            found[kind] += sum(1 for match in pattern.finditer(text) if is_one(match[0]))
    return {kind: count for kind, count in found.items() if count}


def pseudonymised(value: Any, *, key: bytes | None) -> Any:
    """The text, or every text and number inside a JSON value, with each finding replaced by kind and pseudonym.

    Without a key (None) by its kind alone.

    >>> pseudonymised({"ask": "jo@firma.de or jo@firma.de"}, key=b"k")
    {'ask': '[email address 63609e5bef] or [email address 63609e5bef]'}
    """
    if isinstance(value, str):
        return _replaced(value, key) if _worth_a_look(value) else value
    if isinstance(value, Mapping):
        return {pseudonymised(name, key=key): pseudonymised(item, key=key) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([pseudonymised(item, key=key) for item in value])
    if isinstance(value, int) and not isinstance(value, bool):
        shown = pseudonymised(str(value), key=key)
        return value if shown == str(value) else shown
    return value


def personal_in(about: Iterable[tuple[str, Any]]) -> tuple[Found, ...]:
    """Which of these (id, its texts and JSON values) hold personal data or a key anywhere, with its kinds.

    >>> personal_in([("q1", {"ask": ["Who is jo@firma.de?"]}), ("q2", "Why?")])
    (Found(case_id='q1', kinds=('email address',)),)
    """
    findings = ((name, find_pii("\n".join(texts_within(value)))) for name, value in about)
    return tuple(Found(pseudonymised(name, key=None), tuple(kinds)) for name, kinds in findings if kinds)


def told(found: Sequence[Found]) -> str:
    """Which cases hold what, in a few words, without repeating any of it.

    >>> told([Found("q1", ("email address",)), Found("q7", ("IBAN", "phone number"))])
    'q1 (email address), q7 (IBAN, phone number)'
    """
    listed = ", ".join(f"{case_id[:60]} ({', '.join(kinds)})" for case_id, kinds in found[:_CASES_SHOWN])
    return f"{listed} and {len(found) - _CASES_SHOWN:,} more" if len(found) > _CASES_SHOWN else listed


def project_key(folder: Path) -> bytes:
    """The key of this project's pseudonyms, made on first use and readable by its owner alone."""
    path = folder / "pseudonyms.key"
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(random_secrets.token_hex(32))
    return bytes.fromhex(path.read_text(encoding="ascii"))


def _secret_parts(name: str, value: str) -> Iterator[str]:
    """The value of a secret variable, and what is secret in any other: passwords and keys of addresses."""
    value = value.strip()
    is_secret = name in _REMEMBERED or (_SECRET_NAME.search(name) or _WEBHOOK.match(value)) is not None
    is_address = "://" in value
    if is_secret:
        yield value
    if is_secret and ";" in value:
        yield from _IN_A_CONNECTION.findall(value)
    if is_secret and is_address:  # a webhook's last part, a DSN's first one, and no host
        parts = re.split(r"[/@]", value.partition("://")[2])
        yield from (part for part in parts if len(part) >= _SHORTEST_START_CHARS and "." not in part)
    if is_address:
        for secret in [*_IN_AN_ADDRESS.findall(value), *(key for _, key in _IN_A_QUERY.findall(value))]:
            yield from {secret, unquote(secret)}
    elif (bare := _BEFORE_A_HOST.fullmatch(value)) is not None:
        yield from {bare[1], unquote(bare[1])}


def _spellings(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogateescape")
    found = {secret, json.dumps(secret)[1:-1], html.escape(secret), quote(raw, safe="")}
    if len(secret) >= 2 * _SHORTEST_START_CHARS:
        found.add(secret[:_SHORTEST_START_CHARS])
    if len(raw) >= _SHORTEST_START_CHARS:
        for shift, start in ((0, 0), (1, 2), (2, 3)):  # what stands before it moves its base64 by some bits
            coded = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")
            part = coded[start : len(coded) - bool((shift + len(raw)) % 3)]
            found |= {part, part.translate(str.maketrans("+/", "-_"))}
    return found


def _is_iban(text: str) -> bool:
    compact = text.replace(" ", "")
    length = _IBAN_LENGTHS.get(compact[:2], 0)
    account = compact[:length]
    if not length or len(account) < length:
        return False
    return int("".join(str(int(char, 36)) for char in account[4:] + account[:4])) % 97 == 1


def _luhn(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [digit if i % 2 == 0 else sum(divmod(2 * digit, 10)) for i, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _is_phone(text: str) -> bool:
    return 8 <= sum(char.isdigit() for char in text) <= 15


def _is_public_ip(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_email(text: str) -> bool:
    """Of somebody: at no domain reserved for examples (RFC 2606), and no name under which software is fetched."""
    return not re.search(r"^git@|[@.](?:example\.(?:com|org|net)|example|invalid|test)$", text, re.IGNORECASE)


def _is_dni(text: str) -> bool:
    """Spain: eight digits (a foreigner's first one is X, Y or Z) and the letter of their remainder by 23."""
    number = int(text[:-1].translate(str.maketrans("XYZ", "012")))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == text[-1]


def _is_codice_fiscale(text: str) -> bool:
    """Italy: the last letter is the sum of the others by their place, modulo 26 (decree of 23 December 1976)."""
    places = [int(char) if char.isdigit() else ord(char) - ord("A") for char in text[:15]]
    total = sum(_ODD_LETTERS[place] if i % 2 == 0 else place for i, place in enumerate(places))
    return chr(ord("A") + total % 26) == text[15]


def _is_nir(text: str) -> bool:
    """France: the last two digits are 97 less the remainder of the first thirteen."""
    digits = text.replace(" ", "")
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def _is_key(text: str) -> bool:
    """Not a row of x, and not one of the examples of AWS's own documents, which end so."""
    return len(set(text[-16:])) >= 6 and not text.endswith("EXAMPLE")


def _looks_random(text: str) -> bool:
    """Letters of both cases or digits among letters, as keys have; not `sk-your-key-goes-here` or a row of x."""
    body = text[-24:]
    return len(set(body)) >= 10 and sum(char.isdigit() for char in body) >= 2


# How keys of the providers begin and go on, each with where that is published. What is known by its beginning alone,
# without a length, must also look random.
_DETECT, _LEAKS = "detect-secrets: plugins/", "gitleaks: config/gitleaks.toml, "
_KEY_FORMATS: tuple[tuple[str, str, str], ...] = (
    ("sk-", r"[\w-]{20,90}T3BlbkFJ[\w-]{20,90}", f"{_DETECT}openai.py"),
    ("sk-ant-", r"[a-z]{3,7}\d\d-[\w-]{80,120}", f"{_LEAKS}anthropic-api-key"),
    ("sk-or-v1-", r"[0-9a-f]{64}", "openrouter.ai/docs, Authentication"),
    ("sk-lf-", r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "langfuse.com/docs, API keys"),
    ("sk-", r"[A-Za-z0-9]{32,64}", "api-docs.deepseek.com; platform.moonshot.ai"),
    ("hf_", r"[A-Za-z0-9]{34,37}", f"{_LEAKS}huggingface-access-token"),
    ("api_org_", r"[A-Za-z0-9]{34}", f"{_LEAKS}huggingface-organization-api-token"),
    ("gsk_", r"[A-Za-z0-9]{52}", "console.groq.com/docs"),
    ("xai-", r"[A-Za-z0-9]{80}", "docs.x.ai"),
    ("nvapi-", r"[\w-]{64}", "docs.api.nvidia.com"),
    ("pplx-", r"[A-Za-z0-9]{48,56}", f"{_LEAKS}perplexity-api-key"),
    ("r8_", r"[A-Za-z0-9]{37}", "replicate.com/docs, API tokens"),
    ("fw_", r"[A-Za-z0-9]{22,24}", "docs.fireworks.ai"),
    ("tgp_v1_", r"[\w-]{43}", "docs.together.ai"),
    ("csk-", r"[a-z0-9]{48}", "inference-docs.cerebras.ai"),
    ("lsv2_", r"(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}", "docs.smith.langchain.com"),
    ("AKIA ASIA ABIA", r"[A-Z0-9]{16}", f"{_DETECT}aws.py; docs.aws.amazon.com, IAM identifiers"),
    ("ABSK", r"[A-Za-z0-9+/]{109,269}={0,2}", f"{_LEAKS}aws-amazon-bedrock-api-key-long-lived"),
    ("AIza", r"[\w-]{35}", f"{_LEAKS}gcp-api-key"),
    ("GOCSPX-", r"[\w-]{28}", "cloud.google.com/docs, OAuth client secrets"),
    ("AccountKey=", r"[A-Za-z0-9+/]{86}==", f"{_DETECT}azure_storage_key.py"),
    ("LTAI", r"[A-Za-z0-9]{17,21}", f"{_LEAKS}alibaba-access-key-id"),
    ("ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,251}", f"{_DETECT}github_token.py"),
    ("github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", f"{_LEAKS}github-fine-grained-pat"),
    (
        "glpat- gloas- gldt- glrt- glcbt- glptt- glft- glimt- glagent- glsoat- glffct-",
        r"[\w-]{20,300}(?:\.[0-9a-z]{2}\.?[0-9a-z]{7,9})?",
        f"{_DETECT}gitlab_token.py",
    ),
    ("npm_", r"[A-Za-z0-9]{36}", f"{_LEAKS}npm-access-token"),
    ("pypi-AgE", r"[\w-]{50,1000}", f"{_DETECT}pypi_token.py"),
    ("xox", r"[abeoprs]-(?:\d{1,14}-){1,3}[A-Za-z0-9-]{10,250}", f"{_DETECT}slack.py"),
    ("xapp-", r"\d-[A-Z0-9]{8,14}-\d{10,14}-[a-z0-9]{40,80}", f"{_LEAKS}slack-app-token"),
    ("hooks.slack.com/", r"(?:services|workflows|triggers)/[A-Za-z0-9+/]{43,56}", f"{_DETECT}slack.py"),
    ("discord", r"(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,72}", "discord.com/developers/docs, Webhook"),
    ("sk_ rk_", r"(?:live|test|prod)_[A-Za-z0-9]{10,247}", f"{_DETECT}stripe.py"),
    ("SG.", r"[\w-]{16,32}\.[\w-]{16,64}", f"{_DETECT}sendgrid.py"),
    ("SK", r"[0-9a-f]{32}", f"{_DETECT}twilio.py"),
    ("dapi", r"[0-9a-f]{32}(?:-\d)?", f"{_LEAKS}databricks-api-token"),
    ("dop_v1_", r"[0-9a-f]{64}", f"{_LEAKS}digitalocean-pat"),
    ("glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", f"{_LEAKS}grafana-service-account-token"),
    ("hvs.", r"[\w-]{90,120}", f"{_DETECT}hashicorp_vault_token.py"),
    ("eyJ", r"[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,1000}", f"{_DETECT}jwt.py"),
)
_BY_FORMAT = [(start, rest) for starts, rest, _ in _KEY_FORMATS for start in starts.split()]
_BY_BEGINNING = (
    *("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gsk_", "hf_", "xai-", "nvapi-"),
    *("pplx-", "key-"),
)
_STARTS = (*dict(_BY_FORMAT), *_BY_BEGINNING)
_PLAIN_STARTS = ("r8_", *(start for start in _STARTS if not {"-", "_"} & set(start)))
_DIGITLESS = ("AKIA", "ASIA", "ABIA", "AIza", "LTAI", "hooks.slack.com/", "-----BEGIN ")  # short: one may lack digits
_PREFIXED = re.compile(r"[-_](?<=[A-Za-z]{2}[-_])[\w-]{16}")  # how all others begin
_AT_AN_EDGE = r"(?:(?<![\w-]{0})|(?<=\\[nrt]{0})|(?<=%[0-9A-Fa-f]{{2}}{0}))"  # also of an escape in JSON or an address


_EMAIL = r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}(?:[A-Za-z]{2,63}|xn--[A-Za-z0-9-]{1,59})(?![\w-])"
_NO_ADDRESS = "".join(  # what stands before the number of a section or a version
    rf"(?<!{word}\s\d)" for word in ("[Ss]ection", "[Cc]hapter", "[Vv]ersion", "[Rr]elease", "[Cc]lause", "[Aa]rticle")
)


def _of_keys(formats: Iterable[tuple[str, str]]) -> str:
    """One pattern for keys that begin and go on like this.

    Each begins with plain letters, of which `re` makes one set that is looked for first; the edge is looked at after.
    """
    parts = (f"{re.escape(start)}{_AT_AN_EDGE.format(re.escape(start))}{rest}" for start, rest in formats)
    return rf"(?:{'|'.join(parts)})(?![\w-])"


# Every pattern starts at the edge of a token and has bounded repeats, so hostile texts cost linear time. Its first
# character stands before the look at the edge: `re` skips to such a one, where it would look at every edge.
# Second stands a text without which a pattern finds nothing: looking for it first is much quicker.
_PATTERNS: tuple[tuple[str, tuple[str, ...], Callable[[str], bool], str], ...] = (
    (API_KEY, _STARTS, _is_key, _of_keys(_BY_FORMAT)),
    (API_KEY, _BY_BEGINNING, _looks_random, _of_keys([(start, r"[\w-]{18,200}") for start in _BY_BEGINNING])),
    (API_KEY, ("-----BEGIN ",), bool, r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----"),
    ("email address", ("@",), _is_email, _EMAIL),
    ("IBAN", ("",), _is_iban, r"(?<!\w)[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}"),
    ("card number", ("",), _luhn, r"(?<![\w.])(?<!\d )(?:4|5[1-5]|2[2-7]|3[47]|6011|65)(?:[ -]?\d){11,17}(?!\w|\.\d)"),
    ("social security number", ("-",), bool, r"\d(?<![\w-]\d)(?<!9)\d\d(?<!000|666)-(?!00)\d\d-(?!0000)\d{4}(?![\w-])"),
    ("national id", ("",), _is_dni, r"(?<![\w-])(?:\d{8}|[XYZ]\d{7})[A-HJ-NP-TV-Z](?![\w-])"),
    ("national id", ("",), _is_codice_fiscale, r"(?<!\w)[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)"),
    ("national id", ("",), _is_nir, r"(?<![\w.-])[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?\d\d ?\d{3} ?\d{3} ?\d\d(?![\w.-])"),
    ("national id", ("-",), _luhn, r"\d(?<![\w-]\d)\d(?:0[1-9]|1[0-2])(?:[06][1-9]|[1278]\d|[39][01])-\d{4}(?![\w-])"),
    (
        "national id",
        ("",),
        bool,
        r"(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-D](?!\w)",
    ),
    ("phone number", ("+",), _is_phone, r"\+(?<![\w+]\+)[1-9](?:[ ./()-]{0,2}\d){7,14}(?!\w)"),
    (
        "phone number",
        ("",),
        _is_phone,
        r"[\d(](?<![\w.-][\d(])(?:(?<=\()\d{3}\) ?|(?<!\()\d\d[-. ])\d{3}[-. ]\d{4}(?![\w-])",
    ),
    ("phone number", ("0",), _is_phone, r"0(?<![\w.-]0)(?<!\d 0)\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}(?![\w-])"),
    (
        "IP address",
        (".",),
        _is_public_ip,
        rf"\d(?<![\w.§]\d)(?<!==\d)(?<!\w/\d)(?<!§\s\d){_NO_ADDRESS}\d{{0,2}}(?:\.\d{{1,3}}){{3}}(?!\w|\.\d)",
    ),
    ("IP address", (":",), _is_public_ip, r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"),
)
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d[\d .:/()A-Fa-f+-]{5}")
_LETTERS_AND_NUMBER = re.compile(r"\d\d[A-Z](?<=[A-Z]{6}\d\d[A-Z])")


@cache
def _kinds() -> tuple[tuple[str, tuple[str, ...], Callable[[str], bool], re.Pattern[str]], ...]:
    """The patterns, compiled when the first text is looked at."""
    return tuple((kind, needed, is_one, re.compile(pattern)) for kind, needed, is_one, pattern in _PATTERNS)


@cache
def _glued() -> re.Pattern[str]:
    """Keys of the published formats where a name ends before them, which scorers take for a part of that name."""
    formats = ((re.escape(start), rest) for start, rest in _BY_FORMAT)
    parts = "|".join(rf"{start}(?<=[A-Za-z0-9][-_]{start}){rest}" for start, rest in formats)
    return re.compile(rf"(?:{parts})(?![\w-])")


def _may_hold_key(text: str) -> bool:
    if any(start in text for start in _DIGITLESS) or (("-" in text or "_" in text) and _PREFIXED.search(text)):
        return True
    if not any(map(text.__contains__, "0123456789")):  # twenty times as quick as a pattern
        return False
    return any(start in text for start in _PLAIN_STARTS)


def _worth_a_look(text: str) -> bool:
    """Whether any of the patterns could be in it: each look is for one character first, which costs next to nothing."""
    if "@" in text or _may_hold_key(text):
        return True
    return bool(_DIGIT.search(text) and (_NUMBER.search(text) or _LETTERS_AND_NUMBER.search(text)))


def _replaced(text: str, key: bytes | None, *, only: str = "", by: str = "") -> str:
    for kind, needed, is_one, pattern in _kinds():
        if (only and kind != only) or not any(part in text for part in needed):
            continue

        def pseudonym(match: re.Match[str], kind: str = kind, is_one: Callable[[str], bool] = is_one) -> str:
            if not is_one(match[0]):
                return match[0]
            if key is None:
                return by or f"[{kind}]"
            said = match[0].lower() if "@" in match[0] or ":" in match[0] else re.sub(r"[ ()/-]", "", match[0]).upper()
            coded = hmac.new(key, said.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:10]
            return f"[{kind} {coded}]"

        text = pattern.sub(pseudonym, text)
    return text


def texts_within(value: Any) -> Iterator[str]:
    """Every text, key and whole number inside a JSON value, as it is and not as JSON would escape it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from texts_within(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_within(item)
    elif isinstance(value, int):
        yield str(value)
