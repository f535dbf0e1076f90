"""What version 0.1 wrote is still read, and still gives the same digests, keys, names and numbers.

The files lie in `tests/frozen/`; `facts.py` there says what is held to.
"""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

import llmlab as ll
from tests.frozen import facts

RECEIPTS = ("receipt-pass", "receipt-fail", "receipt-borrowed", "receipt-judged")


def frozen(name: str) -> dict[str, Any]:
    """The facts as version 0.1 gave them."""
    found: dict[str, Any] = json.loads((facts.HERE / f"{name}.json").read_text(encoding="utf-8"))
    return found


def differences(then: Any, now: Any, place: str = "") -> list[str]:
    """Where a tree of plain values is not what it was: numbers by more than rounding. Keys may be added."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [d for key in then for d in differences(then[key], now.get(key, "gone"), f"{place}/{key}")]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{place}/{i}")]
    if isinstance(then, float) and isinstance(now, (int, float)):
        return [] if then == pytest.approx(now, rel=1e-12, abs=1e-15) else [f"{place}: {then!r} became {now!r}"]
    return [] if then == now else [f"{place}: {then!r} became {now!r}"]


def plain(value: Any) -> Any:
    """As JSON would give it back."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def decisions() -> dict[str, Any]:
    return facts.decisions()


def test_a_change_of_the_twelfth_digit_is_noticed() -> None:
    """The comparison itself can fail: by a digit, a key, a length, a kind."""
    then = {"a": [1.0, {"b": "x"}], "c": None}
    assert differences(then, {"a": [1.0 + 1e-14, {"b": "x"}], "c": None}) == []
    assert len(differences(then, {"a": [1.0 + 1e-11, {"b": "y"}], "d": 1})) == 3
    assert differences({"a": 1.0}, {"a": 1.0, "new": 2.0}) == []
    assert differences([1.0], [1.0, 2.0])
    assert differences({"a": 1.0}, {"a": None})


def test_no_digest_has_moved() -> None:
    """Bundles, variants, cases, policies, judges, labels, corpora, indexes, results, receipts and the passport."""
    assert differences(frozen("digests"), plain(facts.digests())) == []


def test_no_mean_difference_standard_error_kappa_or_retrieval_metric_has_moved() -> None:
    """Computed again from the results, labels, tables and TREC files as they were written."""
    then = frozen("numbers")
    then["retrieval"]["attributed"] = facts.without_intervals(then["retrieval"]["attributed"])
    assert differences(then, plain(facts.numbers())) == []


def test_every_shape_of_call_has_the_key_it_had(tmp_path: Path) -> None:
    """Else every answer that a user has paid for would be asked and paid again."""
    assert differences(frozen("calls"), plain(facts.calls(tmp_path / "calls.sqlite"))) == []


def test_a_call_store_replays_without_a_call(tmp_path: Path) -> None:
    """Answers, refusals, cut and empty ones, and tool calls."""
    store = Path(shutil.copy(facts.HERE / "calls.sqlite", tmp_path / "calls.sqlite"))
    store.chmod(store.stat().st_mode | stat.S_IWUSR)
    client = ll.FakeClient(facts.answer, fingerprint="frozen")
    found = facts.replayed(store, client)
    assert client.requests == []
    assert found.frame["cached"].all()
    assert found.frame["status"].value_counts().to_dict() == {
        "ok": 9,
        "refused": 2,
        "truncated": 2,
        "empty": 2,
    }
    assert found.frame["tool_calls"].str.contains("look_up").sum() == 5


@pytest.mark.parametrize("name", RECEIPTS)
def test_a_receipt_is_read_and_what_it_rests_on_is_found_again(name: str, decisions: dict[str, Any]) -> None:
    """The same verdict on the same digests, and the same value, bound and cases in every condition."""
    receipt = facts.receipt(name)
    again = decisions[name].receipt(**facts.MADE)
    assert receipt.verdict == ("FAIL" if name == "receipt-fail" else "PASS")
    assert differences(plain(facts.receipt_facts(receipt)), plain(facts.receipt_facts(again))) == []


def test_the_receipts_carry_what_they_were_written_for() -> None:
    """Or the test above would hold of less than it says: a judge's passport, a true index, a borrowed baseline."""
    judged, borrowed = facts.receipt("receipt-judged"), facts.receipt("receipt-borrowed")
    assert judged.passports == {facts.passport().judge_digest: facts.passport().digest}
    assert judged.labels == {"correctness": ll.judge.Labels.load(facts.HERE / "labels.jsonl").digest}
    assert judged.index_freshness["stale_share"] > 0
    assert borrowed.earlier_baseline["results_digest"] == facts.arm("old").digest


def test_a_passport_still_holds_for_its_judge() -> None:
    """Until it expires, and for no other judge."""
    passport, judge = facts.passport(), ll.judge.Judge.load(facts.HERE / "judge.yaml")
    assert ll.judge.verdict(passport, judge, now=facts.NOW).word == "PASS"
    assert ll.judge.verdict(passport, judge, now=facts.NOW.replace(month=12)).word == "FAIL"
    assert ll.judge.verdict(passport, judge.with_(temperature=0.5), now=facts.NOW).word == "FAIL"


def test_an_exported_bundle_is_read_with_its_receipt() -> None:
    """By a service that has the file alone."""
    exported = facts.exported()
    assert (exported.reference, exported.version) == ("frozen@production", 2)
    assert exported.bundle.digest == exported.digest == facts.results("scored").bundles["new"].digest
    assert exported.receipt is not None
    assert exported.receipt["bundle_digest"] == exported.digest


def test_every_public_name_command_and_option_is_still_there() -> None:
    """New ones may come; one that goes is taken out of names.json by hand, with its line in CHANGELOG."""
    then, now = frozen("names"), facts.names()
    for part in ("rooms", "values", "commands"):
        gone = {name: sorted(set(kept) - set(now[part].get(name, ()))) for name, kept in then[part].items()}
        assert {name: lost for name, lost in gone.items() if lost} == {}, part
    assert [name for name in then["llmlab"] if not hasattr(ll, name)] == []
    for room, names in then["rooms"].items():
        assert [name for name in names if not hasattr(getattr(ll, room), name)] == []


def test_mlflow_is_told_the_same(project: Path) -> None:
    """Names and values of metrics, parameters, tags and artifacts; of versions and of moves."""
    then, now = frozen("tracking"), plain(facts.tracked(project))
    for name in ("experiment", "params", "aliases"):
        assert differences(then[name], now[name]) == [], name
    for variant, metrics in then["metrics"].items():
        assert metrics.keys() <= now["metrics"][variant].keys()
        points = {key: value for key, value in metrics.items() if not key.startswith("mean_ci/")}
        assert differences(points, {key: now["metrics"][variant][key] for key in points}) == []
        assert named(then["tags"][variant]) <= named(now["tags"][variant])
        same = ("sweep_id", "golden_digest", "bundle_digest", "bundle_version", "variant", "model", "complete")
        assert [then["tags"][variant][key] for key in same] == [now["tags"][variant][key] for key in same]
        assert named(then["artifacts"][variant]) <= named(now["artifacts"][variant])
    for name, versions in then["versions"].items():
        assert versions.keys() == now["versions"][name].keys()
        for number, tags in versions.items():
            assert tags.keys() - {"commit"} <= now["versions"][name][number].keys()
            assert tags.get("digest") == now["versions"][name][number].get("digest")
    for number, tags in then["versions"]["frozen__history"].items():
        record, again = (json.loads(one["move"]) for one in (tags, now["versions"]["frozen__history"][number]))
        same = ("alias", "kind", "before", "version", "digest", "follows", "forced")
        assert record.keys() <= again.keys()
        assert [record[key] for key in same] == [again[key] for key in same]


def named(names: Any) -> set[str]:
    """Names of tags or files, the digests in them left out: a receipt is named after the moment it was made."""
    return {name.split(".")[0] if name.startswith("look.") else name.partition("receipts/")[0] for name in names}


def test_a_registry_of_then_is_read_and_goes_on(project: Path) -> None:
    """Versions, aliases, moves and looks as 0.1 tagged them: loaded with their receipt, listed, and rolled forward."""
    then = frozen("tracking")
    restored(project, then)
    history = ll.registry.history("frozen")
    records = [json.loads(tags["move"]) for tags in then["versions"]["frozen__history"].values()]
    assert [(m.alias, m.kind, m.version, m.follows, m.forced, m.reason) for m in history.moves] == [
        (r["alias"], r["kind"], r["version"], r["follows"], r["forced"], r["reason"]) for r in records
    ]
    assert (history.lost, history.damaged) == (frozenset(), ())
    bundles = facts.results("scored").bundles
    assert ll.registry.load("frozen@staging", require_receipt=True).bundle.digest == bundles["new"].digest
    assert ll.registry.load("frozen@production").bundle.digest == bundles["old"].digest
    (look,) = ll.tracking.looks(facts.results("scored").golden_digest)
    assert (look.verdict, look.bundle_digest) == ("PASS", bundles["new"].digest)
    move = ll.registry.rollback("frozen", to=2, reason="it was right after all")
    assert (move.number, move.follows, move.before, move.version) == (5, 4, 1, 2)


def restored(project: Path, then: dict[str, Any]) -> None:
    """The runs and versions of then, written by MLflow alone."""
    client = facts.mlflow_client(project)
    experiment = client.create_experiment(then["experiment"])
    sources, runs = {}, {}
    for number, variant in (("1", "old"), ("2", "new")):
        run = client.create_run(experiment, tags=then["tags"][variant], run_name=variant)
        client.log_text(run.info.run_id, then["bundles"][variant], "bundle/bundle.json")
        if receipt := then["versions"]["frozen"][number].get("receipt"):
            client.log_text(run.info.run_id, then["receipt"], f"bundle/receipts/{receipt}.json")
        client.set_terminated(run.info.run_id)
        sources[number], runs[number] = f"{run.info.artifact_uri}/bundle", run.info.run_id
    for name, versions in then["versions"].items():
        client.create_registered_model(name)
        for number, tags in versions.items():
            of = number if name == "frozen" else str(json.loads(tags["move"])["version"])
            client.create_model_version(name, sources[of], runs[of], tags=tags)
    for alias, number in then["aliases"].items():
        client.set_registered_model_alias("frozen", alias, str(number))
