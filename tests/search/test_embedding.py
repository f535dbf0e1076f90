"""Search by embeddings from a real server on this machine: what is kept, what is asked again, what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from llmlab.base.errors import BudgetError, CallError, DataError, RequestRefusedError
from llmlab.bundle.bundle import Bundle, CorpusRef, ModelRef, RetrievalConfig
from llmlab.clients.access import RetryPolicy
from llmlab.clients.base import Usage
from llmlab.clients.call_store import CallStore
from llmlab.clients.openai import OpenAIClient
from llmlab.clients.prices import price_usd
from llmlab.engine.cost import dry_run
from llmlab.engine.runs import run
from llmlab.golden.cases import Case, GoldenSet
from llmlab.search.corpus import Chunk
from llmlab.search.embedding import Embedder
from llmlab.search.index import build_index, retriever_for
from tests.loopback import Loopback

MODEL = ModelRef.parse("vllm/embed-1")
QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)
TEXTS = {"drop": "remove missing values", "sort": "sort rows by a column", "plot": "draw a chart"}
CHUNKS = [Chunk(doc_id=name, position=0, text=text) for name, text in TEXTS.items()]


@pytest.fixture
def embedder(loopback: Loopback, tmp_path: Path) -> Embedder:
    client = OpenAIClient(loopback.base_url, api_key_env=None, retry=QUICK)
    return Embedder(MODEL, client=client, store=tmp_path / "calls.sqlite")


def sent(loopback: Loopback) -> list[str]:
    """The texts that reached the server."""
    return [text for entry in loopback.stats()["log"] for text in json.loads(entry["body"])["input"]]


@pytest.mark.parametrize("name", ["embedding", "hybrid"])
def test_the_nearest_text_comes_first_and_an_empty_query_finds_nothing(name: str, embedder: Embedder) -> None:
    options = {"embedder": embedder} | ({"of": ["bm25", "embedding"]} if name == "hybrid" else {})
    retriever = retriever_for(name, CHUNKS, options=options)
    found = retriever.search(["sort rows", "", "a chart to draw", "sort rows"], 2)
    assert [hits[0].doc_id if hits else None for hits in found] == ["sort", None, "plot", "sort"]
    assert found[0] == found[3]


def test_a_text_is_embedded_once_also_by_the_next_process(embedder: Embedder, loopback: Loopback) -> None:
    first = embedder(list(TEXTS.values()))
    assert loopback.stats()["requests"] == 1
    again = Embedder(MODEL, client=embedder.client, store=embedder._store)([*TEXTS.values(), "new"])
    np.testing.assert_array_equal(again[:3], first)
    assert sent(loopback) == [*TEXTS.values(), "new"]
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1.0, rtol=1e-5)


def test_a_killed_build_keeps_what_had_arrived(embedder: Embedder, loopback: Loopback) -> None:
    """Three requests, the last fails for good; the next attempt sends only what is missing."""
    texts = [f"text {i}" for i in range(150)]
    loopback.set(script=["ok", "ok", "400"])
    with pytest.raises(RequestRefusedError):
        embedder(texts)
    loopback.set()
    assert embedder(texts).shape == (150, 256)
    assert 22 <= len(sent(loopback)) <= 64


@pytest.mark.parametrize("mode", ["500", "error200", "array", "no_choices", "reset"])
def test_a_broken_reply_is_tried_again_and_never_kept(mode: str, embedder: Embedder, loopback: Loopback) -> None:
    loopback.set(script=[mode])
    assert embedder(["a b"]).shape == (1, 256)
    assert loopback.stats()["requests"] == 2


def test_a_web_page_is_a_wrong_address_and_told_at_once(embedder: Embedder, loopback: Loopback) -> None:
    loopback.set(script=["html"])
    with pytest.raises(CallError, match="base_url"):
        embedder(["a b"])
    assert loopback.stats()["requests"] == 1


def test_it_works_inside_a_running_loop_and_with_an_open_store(loopback: Loopback, tmp_path: Path) -> None:
    async def inside() -> tuple[int, ...]:
        with CallStore(tmp_path / "calls.sqlite") as store:
            client = OpenAIClient(loopback.base_url, api_key_env=None)
            return Embedder(MODEL, client=client, store=store)(["a", "b", "a"]).shape

    assert asyncio.run(inside()) == (3, 256)


def test_a_run_searches_by_the_endpoint_of_its_environment(loopback: Loopback, tmp_path: Path) -> None:
    """`retriever: embedding` in a bundle, the address in endpoints.yaml; a second run embeds nothing."""
    variants, golden, settings = searching(loopback, tmp_path, prices="", name="")
    results = run(variants["v1"], golden, progress=False, **settings)
    assert results.frame["retrieved"].tolist() == [("sort",)] * 3
    before = loopback.stats()["requests"]
    run(variants["v1"], golden, progress=False, **settings)
    assert loopback.stats()["requests"] == before


def test_the_models_are_part_of_the_indexs_digest(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "a", "text": "行の並べ替え"}')
    base = RetrievalConfig(corpus=CorpusRef(jsonl="d.jsonl"), retriever="embedding", embedding=MODEL)
    other = base.model_copy(update={"embedding": ModelRef.parse("vllm/embed-2")})
    digests = {build_index(config, base=tmp_path, embedder=embedder).digest for config in (base, other)}
    assert len(digests) == 2  # of a text in a script that a search by words cannot index


def test_a_hybrid_uses_the_embeddings_it_is_given(embedder: Embedder, loopback: Loopback) -> None:
    retriever_for("hybrid", CHUNKS, options={"embedder": embedder})
    assert sent(loopback)
    with pytest.raises(ValueError, match="but the hybrid fuses bm25, lsa"):
        retriever_for("hybrid", CHUNKS, options={"embedder": embedder, "of": ["bm25", "lsa"]})
    with pytest.raises(ValueError, match="searches by words"):
        retriever_for("bm25", CHUNKS, options={"embedder": embedder})


def test_what_cannot_embed_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot embed texts"):
        Embedder(ModelRef.parse("offline/extractive-1"))
    with pytest.raises(ValueError, match="needs a model"):
        retriever_for("embedding", CHUNKS)


class Own:
    """A client of one's own, whose price is written as people write it."""

    fingerprint = "own"

    def __init__(self, *vectors: list[float]) -> None:
        self.vectors = list(vectors)

    def price_usd(self, model: ModelRef, usage: Usage) -> float:
        return 0.001

    async def embed(self, model: ModelRef, texts: Sequence[str]) -> list[list[float]]:
        return self.vectors[: len(texts)]


def test_vectors_of_different_length_or_without_a_value_are_refused(tmp_path: Path) -> None:
    for vectors, why in ((([1.0], [1.0, 2.0]), "same length"), (([float("nan")], [1.0]), "not finite")):
        with pytest.raises(DataError, match=why):
            Embedder(MODEL, client=Own(*vectors), store=tmp_path / "calls.sqlite")(["a", "b"])
    assert Embedder(MODEL, client=Own([0.0]), store=tmp_path / "z.sqlite")(["a"]).tolist() == [[0.0]]


def searching(loopback: Loopback, folder: Path, *, prices: str = "{input: 1000, output: 0}", name: str = "priced"):
    """Variants, cases and settings of a run that searches by embeddings; one token costs a tenth of a cent."""
    rows = [json.dumps({"id": doc_id, "text": f"{text} {name}"}) for doc_id, text in TEXTS.items()]
    (folder / "d.jsonl").write_text("\n".join(rows))
    endpoints = folder / "endpoints.yaml"
    price = f", prices: {prices}" if prices else ""
    endpoints.write_text(f"endpoints:\n  vllm: {{base_url: '{loopback.base_url}'{price}}}\n")
    config = RetrievalConfig(corpus=CorpusRef(jsonl="d.jsonl"), retriever="embedding", embedding=MODEL, k=1)
    bundle = Bundle.from_prompt("{{ question }} {{ passages }}", model="vllm/tiny")
    bundle = bundle.with_(retrieval=config, max_tokens=5)
    golden = GoldenSet(tuple(Case(id=f"q{i}", inputs={"question": f"sort rows {i}"}) for i in range(3)))
    settings = {"store": folder / "calls.sqlite", "base": folder, "endpoints": endpoints}
    return {"v1": bundle, "v2": bundle.with_(max_tokens=6)}, golden, settings


def test_a_dry_run_counts_what_embedding_will_cost_and_sends_nothing(loopback: Loopback, tmp_path: Path) -> None:
    variants, golden, settings = searching(loopback, tmp_path, name="dry")
    found = dry_run(variants, golden, **settings)
    assert loopback.stats()["requests"] == 0
    assert found.texts_to_embed == 6  # three texts and three questions, of both variants
    assert found.embedding_cost_usd is not None
    assert Decimal("0.02") < found.embedding_cost_usd < Decimal("0.06")
    assert found.total_cost_usd_at_most is not None
    assert found.total_cost_usd_at_most > found.embedding_cost_usd
    assert "6 texts to embed, for about $0.0" in str(found)
    run(variants, golden, progress=False, **settings)
    again = dry_run(variants, golden, **settings)
    assert (again.texts_to_embed, again.embedding_cost_usd, again.stored) == (0, 0, (3, 3))


def test_an_unknown_price_of_embeddings_is_unknown_and_not_free(loopback: Loopback, tmp_path: Path) -> None:
    variants, golden, settings = searching(loopback, tmp_path, prices="", name="unknown")
    found = dry_run(variants, golden, **settings)
    assert found.embedding_cost_usd is None
    assert found.total_cost_usd_at_most is None
    assert "6 texts to embed, for an unknown amount" in str(found)
    with pytest.raises(BudgetError, match="the price of the embedding model vllm/embed-1 is unknown"):
        run(variants, golden, budget_usd=1, progress=False, **settings)
    assert loopback.stats()["requests"] == 0


@pytest.mark.parametrize(("budget", "sent_texts"), [("0.001", 0), ("0.03", 3)])
def test_a_budget_stops_before_embedding_exceeds_it(
    budget: str, sent_texts: int, loopback: Loopback, tmp_path: Path
) -> None:
    """Too little for the texts of the corpus; enough for those, but not for the questions too."""
    variants, golden, settings = searching(loopback, tmp_path, name=f"budget {budget}")
    with pytest.raises(BudgetError, match="embedding 3 texts with vllm/embed-1 costs about"):
        run(variants, golden, budget_usd=budget, progress=False, **settings)
    assert len(sent(loopback)) == sent_texts


def test_what_embeddings_cost_is_taken_off_the_budget_of_the_calls(loopback: Loopback, tmp_path: Path) -> None:
    variants, golden, settings = searching(loopback, tmp_path, name="shared")
    results = run(variants, golden, budget_usd="0.06", concurrency=1, progress=False, **settings)
    assert not results.complete
    assert any("The budget of $0.0" in note for note in results.notes)


def test_a_price_in_floats_of_a_client_of_ones_own_is_added_up_exactly(tmp_path: Path) -> None:
    embedder = Embedder(MODEL, client=Own([1.0], [1.0]), store=tmp_path / "calls.sqlite", budget_usd=Decimal(1))
    assert embedder(["a", "b"]).shape == (2, 1)
    assert embedder.spent_usd == Decimal("0.001")


def test_the_price_of_a_listed_embedding_model_is_known() -> None:
    model = ModelRef.parse("openai/text-embedding-3-small")
    assert price_usd(model, Usage(input_tokens=1_000_000, output_tokens=0)) == Decimal("0.02")
    assert price_usd(model, Usage(input_tokens=1_000_000, output_tokens=1)) is None
