"""Personal data is flagged by case and kind before anything is logged, and redacted or refused as the policy says."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import llmlab as ll
from llmlab import registry, tracking
from llmlab.base.errors import DataError, RegistryError
from llmlab.base.private import find_pii, pseudonymised, told
from llmlab.clients.base import Generation
from llmlab.gate import GatePolicy
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from llmlab.search.corpus import Corpus
from llmlab.tracking.store import open_store
from tests.made_results import experiment, made, with_cases
from tests.registry.made import POLICY
from tests.registry.made import bundle as pinned

ROOT = Path(__file__).parents[2]
EMAIL, PHONE, IBAN = "erika.muster@firma.de", "+49 30 901820", "DE89 3704 0044 0532 0130 00"
BUNDLE = ll.Bundle.from_prompt("{{ question }}", model="offline/extractive-1", name="qa")


def golden(*, case_id: str = "q1") -> GoldenSet:
    return GoldenSet(
        (
            Case(id=case_id, inputs={"question": f"Why did {EMAIL} not get it?"}, source=f"call from {PHONE}"),
            Case(id="q2", inputs={"question": "How are you?"}),
        )
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("12345678Z", "national id"),
        ("X1234567L", "national id"),
        ("RSSMRA85T10A562S", "national id"),
        ("2 55 08 14 168 025 38", "national id"),
        ("811218-9876", "national id"),
        ("AB 12 34 56 C", "national id"),
        ("sk-proj-a8Kd93mQz71LxPw02VbNc", "API key"),
        ("ghp_a8Kd93mQz71LxPw02VbNcQ12", "API key"),
        ("AKIAIOSFODNN7EXAMPL2", "API key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "API key"),
        (EMAIL, "email address"),
        (IBAN, "IBAN"),
        (PHONE, "phone number"),
        ("4111 1111 1111 1111", "card number"),
        ("8.8.8.8", "IP address"),
        ("jo.doe+x@mail.firma.de", "email address"),
        ("GB82WEST12345698765432", "IBAN"),
        ("378282246310005", "card number"),
        ("123-45-6789", "social security number"),
        ("+49 (30) 901820-0", "phone number"),
        ("+14155552671", "phone number"),
        ("(415) 555-2671", "phone number"),
        ("Tel. 030 901820", "phone number"),
        ("2a00:1450:4001:82a::200e", "IP address"),
    ],
)
def test_each_kind_is_found_and_replaced(text: str, kind: str) -> None:
    """Examples of the standards' own documents, and made-up keys."""
    assert find_pii(f"it is {text}, I think") == {kind: 1}
    hidden = pseudonymised(f"it is {text}, I think", key=b"k")
    assert text not in hidden
    assert f"[{kind} " in hidden
    assert find_pii(hidden) == {}
    assert pseudonymised(text, key=None).removeprefix("Tel. ") == f"[{kind}]"


@pytest.mark.parametrize(
    "text",
    [
        "12345678A",  # the letter does not fit
        "RSSMRA85T10A562X",
        "811218-9877",
        "sk-your-key-goes-here-please-now",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "risk-averse-people-who-write-long-words",
        "2024-01-01 00:00:00",
        "0.123456789 and 1234567890.12",
        "df.loc[10:20, 'a'] at 0x7fda430b75d0",
        "3fa9c1d2e5b64f0a8c7d6e5f4a3b2c1d",
        "version 2.2.3.1rc0, build 10.0.22631",
        "someone@example.com",
        "DE89 3704 0044 0532 0130 01",
        "4111 1111 1111 1112",
        "order 1234567890123456",
        "000-12-3456 and 987-65-4321",
        "2024-08-06 and 12:30:45",
        "127.0.0.1 and 192.168.0.1 and ::1",
        "999.1.2.3",
        "pandas 3.1.0 has 1,250 names",
        "x[1:2] and std::vector",
        "see section 1.2.3.4 and § 1.2.3.4",
        "Version 4.5.6.7 of it, pinned as it==4.5.6.7",
        "Mozilla/5.0 Chrome/120.0.0.0 Safari/537.36",
        "npm install foo@1.2.3 and actions/checkout@v4.1.0",
        "git clone git@github.com:owner/name.git",
    ],
)
def test_what_looks_alike_is_left_alone(text: str) -> None:
    assert find_pii(text) == {}
    assert pseudonymised(text, key=b"k") == text


@pytest.mark.parametrize(
    ("reserved", "real"),
    [
        ("jo@example.com", "jo@example-shop.com"),
        ("jo@mail.example.org", "jo@example.org.uk"),
        ("jo@shop.example", "jo@example.shop"),
        ("jo@firma.invalid", "jo@invalid.firma.de"),
        ("jo@firma.test", "jo@test.de"),
        ("192.0.2.17", "192.0.3.17"),
        ("198.51.100.7", "198.51.101.7"),
        ("203.0.113.200", "203.0.114.200"),
        ("2001:db8::8a2e", "2001:db9::8a2e"),
    ],
)
def test_what_is_reserved_for_examples_is_nobodys(reserved: str, real: str) -> None:
    """RFC 2606, 5737 and 3849 keep these domains and addresses for documentation."""
    assert find_pii(f"it is {reserved}, I think") == {}
    assert len(find_pii(f"it is {real}, I think")) == 1


def test_documentation_holds_next_to_none() -> None:
    """All of pandas' docstrings, and the questions of the example."""
    found = [find_pii(document.text) for document in Corpus.from_package("pandas").documents]
    assert sum(bool(kinds) for kinds in found) <= 2
    assert GoldenSet.load(ROOT / "experiments/pandas_help/golden.jsonl").personal == ()


def test_one_value_has_one_pseudonym_however_it_is_written_and_another_key_gives_another() -> None:
    first, second = (pseudonymised(text, key=b"k") for text in (PHONE, PHONE.replace(" ", "")))
    assert first == second
    assert pseudonymised(EMAIL.upper(), key=b"k") == pseudonymised(EMAIL, key=b"k") != pseudonymised(EMAIL, key=b"x")
    assert pseudonymised({EMAIL: [EMAIL, 4111111111111111, 7, None, 0.5]}, key=b"k")[pseudonymised(EMAIL, key=b"k")][
        2:
    ] == [7, None, 0.5]


@pytest.mark.parametrize("how", ["client", "app"])
def test_it_is_told_once_by_case_and_kind_and_never_repeated(how: str, tmp_path: Path) -> None:
    cases = GoldenSet((*golden(case_id=EMAIL).cases, Case(id=how, inputs={"question": "?"})))
    given: dict[str, Any] = {"app": lambda *_: "x"} if how == "app" else {"client": ll.FakeClient({})}
    means: dict[str, Any] = {"store": tmp_path / "calls.sqlite", "progress": False, **given}
    with pytest.warns(RuntimeWarning, match="Personal data in") as warned:
        results = ll.run(BUNDLE, cases, **means)
    note = str(warned[0].message)
    assert "[email address] (email address, phone number)" in note
    assert not {EMAIL, PHONE} & set(note.split())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ll.run(BUNDLE, cases, **means)
    assert "ersonal data" not in str(results.summary())
    if how == "client":
        assert note in str(ll.dry_run(BUNDLE, cases, store=tmp_path / "calls.sqlite", client=given["client"]))


def test_a_flag_names_a_few_cases_and_counts_the_rest() -> None:
    cases = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"a{i}@firma.de"}) for i in range(9)))
    assert told(cases.personal).endswith("q4 (email address) and 4 more")


def results_with_it() -> Results:
    frame = pd.DataFrame({"variant": "v", "case_id": ["q1", "q2"], "text": [f"Ask {EMAIL}.", f"My IBAN is {IBAN}"]})
    return Results.from_frame(frame, golden=golden())


def written(project: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (project / "mlruns").rglob("*") if path.is_file())


def test_refuse_writes_nothing_and_says_where_it_is(project: Path) -> None:
    before = written(project)
    with pytest.raises(
        DataError, match=r"q1 \(email address, phone number\), q2 \(IBAN\): nothing was logged"
    ) as error:
        tracking.log(results_with_it(), pii="refuse")
    assert EMAIL not in str(error.value)
    assert written(project) == before


def test_flag_warns_and_logs_as_it_is(project: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"logged with cases q1 \(email address, phone number\), q2 \(IBAN\)"):
        logged = tracking.log(results_with_it())
    assert tracking.load(logged.sweep_id, experiment=logged.experiment).frame["text"][0] == f"Ask {EMAIL}."


def test_a_prompt_that_holds_it_is_told_and_refused_where_the_policy_is_to_refuse(project: Path) -> None:
    """It is logged word by word under any other policy: its digest says what it is."""
    golden = ll.GoldenSet((Case(id="q2", inputs={"question": "How are you?"}),))
    bundle = ll.Bundle.from_prompt(
        f"{{{{ question }}}} Answer as {EMAIL} would.", model="offline/extractive-1", name="qa"
    )
    results = ll.run(bundle, golden, progress=False)
    before = written(project)
    with pytest.raises(DataError, match="prompt") as error:
        tracking.log(results, pii="refuse")
    assert EMAIL not in str(error.value)
    assert written(project) == before
    with pytest.warns(RuntimeWarning, match="prompt"):
        tracking.log(results, pii="redact")


@pytest.mark.parametrize("by", ["argument", "project"])
def test_redact_logs_pseudonyms_that_stay_the_same_from_run_to_run(by: str, project: Path) -> None:
    """The sweep keeps its id, so that the same results are logged once under any policy."""
    if by == "project":
        (project / "pyproject.toml").write_text('[tool.llmlab]\npii = "redact"\n')
    results = results_with_it()
    logged = tracking.log(results, pii="redact" if by == "argument" else None)
    assert logged.sweep_id == results.digest
    there = written(project)
    assert not any(secret.encode() in there for secret in (EMAIL, PHONE, IBAN))
    loaded = tracking.load(logged.sweep_id, experiment=logged.experiment)
    assert loaded.digest == results.digest
    assert loaded.golden is not None
    pseudonym = loaded.frame["text"][0].removeprefix("Ask ").removesuffix(".")
    assert pseudonym.startswith("[email address ")
    assert pseudonym in loaded.golden.by_id["q1"].inputs["question"]
    again = tracking.log(replace(results, frame=results.frame.assign(error=EMAIL)), pii="redact")
    assert tracking.load(again.sweep_id, experiment=logged.experiment).frame["error"][0] == pseudonym
    assert (project / "mlruns" / "pseudonyms.key").stat().st_mode & 0o077 == 0


def test_an_unknown_policy_is_refused(project: Path) -> None:
    with pytest.raises(ValueError, match="'flag', 'redact' or 'refuse'"):
        tracking.log(results_with_it(), pii="hide")
    (project / "pyproject.toml").write_text('[tool.llmlab]\npii = "hide"\n')
    with pytest.raises(ValueError, match="must be flag, redact or refuse"):
        tracking.log(results_with_it())


def _of_a_person(_: int, case: Case) -> Case:
    return replace(case, inputs={"question": f"{case.id}@firma.de?"}, cluster=f"{case.id}@firma.de")


def test_a_release_on_redacted_logs_is_checked_as_any_other_and_its_golden_set_may_grow(project: Path) -> None:
    """The verdict is recomputed from pseudonymous cases; unchanged cases of a grown set are known again."""
    (project / "pyproject.toml").write_text('[tool.llmlab]\npii = "redact"\n')
    right = [1.0] * 60 + [0.0] * 60
    plain = made({"old": right, "new": [1.0] * 110 + [0.0] * 10})
    private = with_cases(plain, _of_a_person)
    bundles = {"old": pinned(k=1), "new": pinned(k=2)}
    results = replace(private, bundles=bundles)
    folder = experiment(project, POLICY, results.golden)
    decision = GatePolicy.load(folder / "gate.yaml").decide(results, baseline="old", candidate="new")
    tracking.log(results, decision)
    assert b"@firma.de" not in written(project)
    version = registry.register(bundles["new"], receipt=decision.receipt())
    assert registry.promote(version, experiment=folder, reason="better").version == 1
    assert results.golden is not None
    results.golden.grown([Case(id="extra", inputs={"question": "x@firma.de?"})]).save(folder / "golden.jsonl")
    with pytest.raises(RegistryError, match="grown by 1 case"):
        registry.promote(version, alias="canary", experiment=folder, reason="better")


def test_an_application_that_answers_with_personal_data_is_flagged_by_its_cases(project: Path) -> None:
    def answer(_case: Case, _bundle: ll.Bundle) -> Generation:
        return Generation(text=f"Call {PHONE}")

    cases = GoldenSet((Case(id="q7", inputs={"question": "Whom do I call?"}),))
    results = ll.run(BUNDLE, cases, app=answer, progress=False)
    with pytest.raises(DataError, match=r"q7 \(phone number\)"):
        tracking.log(results, pii="refuse")
    assert not open_store(project).search("tags.variant = 'qa'")
