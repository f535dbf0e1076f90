"""Which calls a run makes, in which order, checked before the first one is sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmlab.base.errors import PromptError
from llmlab.bundle.bundle import Bundle, CorpusRef, RetrievalConfig
from llmlab.bundle.grids import grid
from llmlab.clients.fake import FakeClient
from llmlab.engine.call_setup import CallSetup
from llmlab.engine.plan import Plan, make_plan
from llmlab.golden.cases import Case, GoldenSet
from llmlab.search.index import Index
from llmlab.search.retrievers import Hit

GOLDEN = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"about word{i}?"}) for i in range(5)))
PLAIN = Bundle.from_prompt("{{ question }}", model="vllm/tiny")


def planned(variants: dict[str, Bundle] | Bundle, *, repeats: int = 1, base: Path | None = None) -> Plan:
    return make_plan(variants, GOLDEN, CallSetup(client=FakeClient("yes"), base=base), repeats=repeats)


@pytest.fixture
def searching(tmp_path: Path) -> Bundle:
    """A bundle that retrieves from five small documents."""
    rows = [f'{{"id": "d{i}", "text": "word{i} is explained here"}}' for i in range(5)]
    (tmp_path / "docs.jsonl").write_text("\n".join(rows) + "\n")
    retrieval = RetrievalConfig(corpus=CorpusRef(jsonl="docs.jsonl"), retriever="bm25", k=2)
    return Bundle.from_prompt("{{ question }}\n{{ passages }}", model="vllm/tiny", retrieval=retrieval)


def test_arms_are_interleaved_case_by_case() -> None:
    """So that a slow hour of a provider hits all arms alike."""
    plan = planned({"a": PLAIN, "b": PLAIN.with_(temperature=0.5)}, repeats=2)
    (calls,) = plan.batches()
    order = [f"{call.case.id} {call.repeat} {call.variant}" for call in calls[:6]]
    assert order == ["q0 0 a", "q0 0 b", "q0 1 a", "q0 1 b", "q1 0 a", "q1 0 b"]
    assert len(plan) == len(calls) == 20


class SingleSlot(FakeClient):
    """A server that keeps the last prompt alone: a repeat at temperature 0 is a copy."""

    single_slot = True


def test_with_one_slot_calls_that_begin_alike_are_made_in_a_row_and_copies_are_not_asked_for() -> None:
    other = Bundle.from_prompt("Briefly: {{ question }}", model="vllm/tiny")
    variants = grid({"a": PLAIN, "b": other}, temperature=[0.0, 0.8])
    plan = make_plan(variants, GOLDEN, CallSetup(client=SingleSlot("yes")), repeats=2)
    (calls,) = plan.batches()
    assert [(call.case.id, call.repeat) for call in calls[:4]] == [("q0", 0), ("q0", 0), ("q0", 1), ("q1", 0)]
    assert [call.variant[0] for call in calls] in (["a"] * 15 + ["b"] * 15, ["b"] * 15 + ["a"] * 15)
    assert sorted(call.place for call in calls) == list(range(len(plan)))
    assert any("a@temperature=0.0, b@temperature=0.0" in note for note in plan.notes)


def test_every_cell_has_its_own_key_but_for_equal_bundles() -> None:
    (calls,) = planned({"a": PLAIN, "b": PLAIN.with_(temperature=0.5), "c": PLAIN}, repeats=2).batches()
    assert len({call.key for call in calls}) == 5 * 2 * 2


def test_a_seed_goes_out_with_the_repeat_added() -> None:
    (calls,) = planned(PLAIN.with_(seed=7), repeats=3).batches()
    assert [call.request.seed for call in calls[:3] if call.request] == [7, 8, 9]


def test_each_retrieval_config_is_searched_once_for_all_variants(
    searching: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temperatures and prompts do not change what is found."""
    searched: list[int] = []
    search = Index.search

    def counted(self: Index, queries: Sequence[str], k: int | None = None) -> list[list[Hit]]:
        searched.append(len(queries))
        return search(self, queries, k)

    monkeypatch.setattr(Index, "search", counted)
    variants = {**grid({"v": searching}, temperature=[0.0, 0.5, 1.0]), "k3": searching.with_(k=3)}
    (calls,) = planned(variants, base=tmp_path).batches()
    assert searched == [5, 5]
    assert {len(call.retrieved) for call in calls if call.variant != "k3"} <= {1, 2}


def test_the_best_document_is_in_the_prompt_and_in_the_row(searching: Bundle, tmp_path: Path) -> None:
    (calls,) = planned(searching, base=tmp_path).batches()
    for i, call in enumerate(calls):
        assert call.request is not None
        assert call.retrieved[0] == f"d{i}"
        assert f"[d{i}] word{i} is explained here" in call.request.messages[-1]["content"]


def test_a_missing_placeholder_is_refused_before_any_call() -> None:
    """FAULTS 55: both places named."""
    with pytest.raises(PromptError, match=r"variant 'v'.*'qestion'.*case 'q0' of the golden set"):
        planned({"v": Bundle.from_prompt("{{ qestion }}", model="vllm/tiny")})


def test_a_golden_case_among_the_examples_is_refused_before_any_call() -> None:
    """FAULTS 64: exact or nearly."""
    example = {"inputs": {"question": "About WORD3"}, "output": "x"}
    prompt = {"template": "{{ question }}", "examples": [example]}
    leaking = Bundle.from_prompt("{{ question }}", model="vllm/tiny", prompt=prompt)
    with pytest.raises(PromptError, match=r"variant 'v'.*example 1.*case 'q3'"):
        planned({"v": leaking})


@pytest.mark.parametrize(
    ("variants", "repeats", "refused"), [({}, 1, "no variants"), (PLAIN, 0, "repeats == 0"), ([PLAIN], 1, "baseline")]
)
def test_what_is_nothing_to_run_is_told(variants: Any, repeats: int, refused: str) -> None:
    with pytest.raises((ValueError, TypeError), match=refused):
        planned(variants, repeats=repeats)


def test_an_application_is_asked_under_a_key_of_its_code_bundle_and_case() -> None:
    def answer(case: Case, bundle: Bundle) -> str:
        return "yes"

    variants = {"a": PLAIN, "b": PLAIN.with_(temperature=0.5)}
    plan = make_plan(variants, GOLDEN, CallSetup(), repeats=2, app=answer)
    (calls,) = plan.batches()
    assert len({call.key for call in calls}) == 20
    assert [call.key for call in next(plan.batches())] == [call.key for call in calls]


@pytest.mark.parametrize("own", [{}, {"fingerprint": None}, {"fingerprint": 7}])
def test_a_client_of_ones_own_without_a_fingerprint_is_told_the_rule(own: dict[str, Any]) -> None:
    client: Any = type("Mine", (), own)()
    with pytest.raises(TypeError, match=r"fingerprint of Mine .* must be"):
        CallSetup(client=client).answering()
