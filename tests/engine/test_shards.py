"""Shards: each a part of the cases with a store and results of its own, joined to the last bit, refused by name."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.base.errors import DataError, FileRuleError
from llmlab.clients.call_store import CallStore
from llmlab.clients.http import HttpClient
from llmlab.engine.call_setup import CallSetup
from llmlab.results.files import Shard

GOLDEN = ll.GoldenSet(
    tuple(
        ll.Case(
            id=f"q{i}",
            inputs={"question": f"question {i}?"},
            expected=("yes",),
            cluster=f"c{i // 2}",
            tags=("odd",) if i % 2 else (),
            weight=1.0 + i % 3,
        )
        for i in range(40)
    )
)
BUNDLES = {name: ll.Bundle.from_prompt(f"{name}: {{{{ question }}}}", model="vllm/tiny") for name in ("v1", "v2")}


@ll.scorer(low=0, high=1)
def even(case, generation):
    return float(len(generation.text) % 2 == 0)


def client():
    return ll.FakeClient(lambda request: "yes" if hash(request.messages[-1]["content"][-3:]) % 3 else "no")


def run(out, shard, *, golden=GOLDEN, bundles=BUNDLES, asked=None, **more):
    more = {"repeats": 2, "progress": False, **more}
    return ll.run(bundles, golden, scorers=[even], client=asked or client(), shard=shard, out=out, **more)


@pytest.fixture
def parts(tmp_path):
    folder = tmp_path / "run=1"
    for number in (1, 2, 3):
        run(folder, f"{number}/3")
    return folder


def test_every_case_is_in_one_shard_whatever_their_order():
    held = [[case.id for case in GOLDEN if Shard(number, 3).holds(case.id)] for number in (1, 2, 3)]
    assert sorted(case_id for part in held for case_id in part) == sorted(case.id for case in GOLDEN)
    assert all(5 < len(part) < 25 for part in held)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0", ""])
def test_a_shard_is_numbered_from_one(text, tmp_path):
    with pytest.raises(ValueError, match="3/16"):
        run(tmp_path, text)


def test_joined_shards_are_the_run_without_shards_to_the_last_bit(parts, tmp_path):
    joined = ll.Results.load(parts)
    others = tmp_path / "calls.d"
    others.mkdir()
    for number in (1, 2, 3):
        shutil.copy(parts / f"shard=0{number}" / "calls.sqlite", others / f"{number}.sqlite")
    store = tmp_path / "calls.sqlite"
    whole = ll.run(BUNDLES, GOLDEN, scorers=[even], client=client(), repeats=2, store=store, progress=False)
    assert joined.digest == whole.digest
    assert joined.golden.digest == whole.golden.digest
    assert joined.golden_digest == whole.golden_digest
    for name in whole.columns:
        if name != "cached":
            assert joined.frame[name].equals(whole.frame[name]), name
    ours, theirs = (str(results.compare("v1")).replace(results.created_at, "") for results in (joined, whole))
    assert ours == theirs


def test_figures_without_texts_are_those_with_them_and_a_case_is_fetched_from_its_part(parts):
    whole, light = ll.Results.load(parts), ll.Results.load(parts, texts=False)
    assert "text" not in light.columns
    mine, theirs = (results.compare("v1", by="tags") for results in (light, whole))
    assert {None, "odd"} <= {row.category for row in mine}
    assert [row.record() for row in mine] == [row.record() for row in theirs]
    assert light.only(cases=["q3", "q7", "q8"]).table("even").values.tolist() == (
        whole.only(cases=["q3", "q7", "q8"]).table("even").values.tolist()
    )
    assert str(light.show("q7")) == str(whole.show("q7"))
    with pytest.raises(DataError, match="texts=True"):
        light.to_parquet(parts / "whole.parquet")


def test_a_finished_shard_is_not_run_again_and_a_cut_off_one_replays_its_store(tmp_path):
    asked = client()
    run(tmp_path, "1/3", asked=asked)
    calls = len(asked.requests)
    run(tmp_path, "1/3", asked=asked)
    (tmp_path / "shard=01" / "manifest.json").unlink()
    run(tmp_path, "1/3", asked=asked)
    assert len(asked.requests) == calls > 0


def test_a_shard_replays_what_the_project_and_its_colleagues_have_stored(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    mine, theirs = (GOLDEN.only(ids=[case.id for case in GOLDEN if (case.cluster > "c2") == late]) for late in (0, 1))
    for cases, store in ((mine, None), (theirs, tmp_path / "mlruns" / "calls.d" / "anna.sqlite")):
        ll.run(BUNDLES, cases, client=client(), repeats=2, store=store, progress=False)
    asked = client()
    parts = [run(tmp_path / "run=1", f"{number}/2", asked=asked) for number in (1, 2)]
    assert asked.requests == []
    assert all(part.complete for part in parts)
    borrowed = [part.provenance["borrowed"].get("anna", 0) for part in parts]
    assert sum(borrowed) == 2 * len(BUNDLES) * len(theirs)
    ours = ll.run(BUNDLES, GOLDEN, scorers=[even], client=asked, repeats=2, progress=False)
    assert ll.Results.load(tmp_path / "run=1").digest == ours.digest
    with CallStore(tmp_path / "empty.sqlite") as given:
        run(tmp_path / "run=2", "1/2", asked=asked, store=given)
        assert len(given) == len(asked.requests) > 0


OTHER = {**BUNDLES, "v2": ll.Bundle.from_prompt("? {{ question }}", model="vllm/tiny")}


def instead(folder, shard, **changes):
    """Another run's part in the place of the second one."""
    shutil.rmtree(folder / "shard=02")
    run(folder, shard, **changes)


def rewritten(path, change):
    path.write_bytes(change(path.read_bytes()))


DAMAGES = {
    "missing": lambda folder: shutil.rmtree(folder / "shard=02"),
    "unfinished": lambda folder: (folder / "shard=02" / "manifest.json").unlink(),
    "doubled": lambda folder: shutil.copytree(folder / "shard=01", folder / "shard=04"),
    "foreign": lambda folder: instead(folder, "2/3", bundles=OTHER),
    "other number": lambda folder: instead(folder, "2/4"),
    "part": lambda folder: rewritten(folder / "shard=02" / "part.parquet", lambda raw: raw[:-9] + b"123456789"),
    "manifest": lambda folder: rewritten(
        folder / "shard=02" / "manifest.json", lambda raw: json.dumps({**json.loads(raw), "rows": 1}).encode()
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("texts", [True, False])
def test_what_is_not_one_whole_run_is_refused_by_name(parts, damage, texts):
    DAMAGES[damage](parts)
    with pytest.raises(FileRuleError) as refused:
        ll.Results.load(parts, texts=texts)
    assert {"missing": "2/3", "doubled": "shard=04"}.get(damage, "shard=02") in str(refused.value)


def test_an_incomplete_shard_is_refused_until_it_is_run_to_its_end(parts):
    shutil.rmtree(parts / "shard=02")
    dear = ll.FakeClient("yes", price_usd=Decimal(1))
    partial = run(parts, "2/3", asked=dear, budget_usd=3)
    assert not partial.complete
    with pytest.raises(FileRuleError, match="incomplete"):
        ll.Results.load(parts)
    run(parts, "2/3")
    assert ll.Results.load(parts).complete


def test_a_shard_of_another_run_is_not_written_over(parts):
    with pytest.raises(DataError, match="another run"):
        run(parts, "1/3", golden=GOLDEN.only(first=30))


def test_more_shards_than_the_cases_fill_are_refused(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        run(tmp_path, "1/39")
    assert not any(tmp_path.iterdir())


def test_an_example_that_is_a_case_of_another_shard_is_a_leak_too(tmp_path):
    bundle = BUNDLES["v1"].with_(examples=[{"inputs": {"question": "question 7?"}, "output": "yes"}])
    for number in (1, 2, 3):
        with pytest.raises(ll.LlmlabError):
            run(tmp_path, f"{number}/3", bundles={"v1": bundle})


def test_limits_and_budget_are_divided_by_the_number_of_shards():
    limited = ll.OpenAIClient("http://127.0.0.1:9/v1", requests_per_minute=60, tokens_per_minute=9_000, max_in_flight=8)
    setup = CallSetup(client=limited, budget_usd=6, shards=3)
    own = setup.answering()
    assert isinstance(own, HttpClient)
    assert setup.budget == 2
    assert own.fingerprint == limited.fingerprint
    (access,) = own.accesses
    assert (access.requests_per_minute, access.tokens_per_minute, access.max_in_flight) == (20, 3_000, 2)


def test_a_limited_client_asks_the_same_server(loopback, tmp_path):
    asked = ll.OpenAIClient(loopback.base_url, api_key_env=None, max_in_flight=6)
    results = run(tmp_path, "1/3", asked=asked)
    assert results.complete
    assert Path(tmp_path / "shard=01" / "calls.sqlite").exists()
