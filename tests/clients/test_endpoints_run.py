"""From endpoints.yaml to results: one run over two wire formats, repeated without paying twice."""

from __future__ import annotations

from pathlib import Path

import pytest

import llmlab as ll
from llmlab.bundle.bundle import Bundle
from llmlab.golden.cases import Case, GoldenSet
from llmlab.results.results import Results
from tests.loopback import Loopback

CANARIES = {name: f"canary{name.lower()}0123456789" for name in ("CLAUDE_KEY", "EAST_KEY", "WEST_KEY")}
MODELS = {"claude": "anthropic/claude-haiku-4-5-20251001", "azure": "azure/gpt-4o-2024-08-06"}
ENDPOINTS = """
endpoints:
  anthropic: {{base_url: "{origin}", key_env: CLAUDE_KEY, stream: true}}
  azure:
    base_url: "{origin}"
    deployment: my-gpt-4o
    api_version: "2024-10-21"
    in_turn:
      - {{key_env: {first}, max_in_flight: 8}}
      - {{key_env: {second}}}
"""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in CANARIES.items():
        monkeypatch.setenv(name, key)


def written(tmp_path: Path, loopback: Loopback, *, first: str = "EAST_KEY", second: str = "WEST_KEY") -> Path:
    path = tmp_path / "endpoints.yaml"
    path.write_text(ENDPOINTS.format(origin=loopback.origin, first=first, second=second))
    return path


def run(endpoints: Path, store: Path, n: int) -> Results:
    variants = {
        name: Bundle.from_prompt("{{ question }}", model=model, temperature=0.0, max_tokens=50)
        for name, model in MODELS.items()
    }
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"question {i}?"}) for i in range(n)))
    return ll.run(variants, golden, endpoints=endpoints, store=store, concurrency=4, base=store.parent, progress=False)


def test_two_variants_go_through_two_wire_formats_and_are_paid_once(loopback: Loopback, tmp_path: Path) -> None:
    results = run(written(tmp_path, loopback), tmp_path / "calls.sqlite", 6)
    frame = results.frame
    assert list(frame["status"]) == ["ok"] * 12
    assert set(frame["served_model"]) == {"claude-haiku-4-5-20251001", "my-gpt-4o"}
    assert frame["cost_usd"].gt(0).all()
    assert frame.loc[frame["variant"] == "claude", "first_token_s"].notna().all()
    assert results.provenance["endpoints"] == {
        "claude": f"messages {loopback.origin}",
        "azure": f"{loopback.origin} my-gpt-4o 2024-10-21",
    }
    paths = [entry["path"] for entry in loopback.stats()["log"]]
    assert paths.count("/v1/messages") == 6
    assert sum(path.startswith("/openai/deployments/my-gpt-4o/") for path in paths) == 6
    swapped = written(tmp_path, loopback, first="WEST_KEY", second="EAST_KEY")
    again = run(swapped, tmp_path / "calls.sqlite", 6).frame
    assert again["cached"].all()
    assert list(again["text"]) == list(frame["text"])
    assert loopback.stats()["requests"] == 12


def test_a_key_that_is_refused_in_the_middle_costs_no_answer(loopback: Loopback, tmp_path: Path) -> None:
    loopback.set(by_key={CANARIES["WEST_KEY"]: "401"})
    endpoints = written(tmp_path, loopback)
    endpoints.write_text(endpoints.read_text().replace("my-gpt-4o", "not-resting"))  # faults of other tests are its own
    with pytest.warns(RuntimeWarning, match="with the key in WEST_KEY is out for this run"):
        results = run(endpoints, tmp_path / "calls.sqlite", 10)
    assert list(results.frame["status"]) == ["ok"] * 20
