"""Retrievers and the index: what they find, in which order, and what their digest covers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmlab.base.words import words
from llmlab.bundle.bundle import Chunking, CorpusRef, RetrievalConfig
from llmlab.search.corpus import Chunk, Corpus
from llmlab.search.index import RETRIEVERS, Hit, Index, build_index, register_retriever, retriever_for
from llmlab.search.retrievers import Hybrid

TEXTS = {
    "drop": "Remove missing values from rows.",
    "fill": "Fill missing values with a number.",
    "sort": "Sort rows by the values of a column.",
    "plot": "Draw a chart.",
}
CHUNKS = [Chunk(doc_id=name, position=0, text=text) for name, text in TEXTS.items()]
NAMES = ["bm25", "tfidf", "lsa", "hybrid"]


@pytest.mark.parametrize("name", NAMES)
def test_the_document_that_shares_most_words_comes_first(name: str) -> None:
    hits = retriever_for(name, CHUNKS).search(["draw charts", "sorting a column", "remove the missing rows"], 2)
    assert [found[0].doc_id for found in hits] == ["plot", "sort", "drop"]
    assert all(len(found) <= 2 for found in hits)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("query", ["", "   ", "the of and", "zebra", "日本"])
def test_a_query_without_known_words_finds_nothing(name: str, query: str) -> None:
    assert retriever_for(name, CHUNKS).search([query], 3) == [[]]
    assert retriever_for(name, CHUNKS).search([], 3) == []


@pytest.mark.parametrize("name", NAMES)
def test_equal_scores_keep_the_order_of_the_chunks(name: str) -> None:
    chunks = [Chunk(doc_id=f"d{i}", position=0, text="same words here") for i in (3, 1, 2)]
    chunks.append(Chunk(doc_id="other", position=0, text="nothing alike"))
    assert [hit.doc_id for hit in retriever_for(name, chunks).search(["same words"], 2)[0]] == ["d3", "d1"]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_finds_what_each_query_finds_alone(name: str) -> None:
    retriever, queries = retriever_for(name, CHUNKS), ["missing values", "rows", "", "chart of a column"] * 50
    alone = {query: [hit.doc_id for hit in retriever.search([query], 4)[0]] for query in set(queries)}
    assert [[hit.doc_id for hit in hits] for hits in retriever.search(queries, 4)] == [
        alone[query] for query in queries
    ]


def test_bm25_scores_are_the_formula_by_hand() -> None:
    """Lucene's BM25: idf = ln(1 + (N - n + .5) / (n + .5)), tf part f / (f + k1 (1 - b + b len / mean))."""
    (hits,) = retriever_for("bm25", CHUNKS).search(["missing rows"], 4)
    docs = {name: words(text) for name, text in TEXTS.items()}
    mean = sum(map(len, docs.values())) / len(docs)

    def score(name: str) -> float:
        total = 0.0
        for term in ("miss", "row"):
            n, f = sum(term in doc for doc in docs.values()), docs[name].count(term)
            idf = math.log(1 + (len(docs) - n + 0.5) / (n + 0.5))
            total += idf * f / (f + 1.5 * (1 - 0.75 + 0.75 * len(docs[name]) / mean))
        return total

    assert {hit.doc_id: pytest.approx(hit.score, rel=1e-5) for hit in hits} == {
        name: score(name) for name in ("drop", "fill", "sort")
    }


def test_reciprocal_rank_fusion_adds_reciprocal_ranks() -> None:
    class Fixed:
        def __init__(self, *ids: str) -> None:
            self.ids = ids

        def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            return [[Hit(doc_id, 1.0) for doc_id in self.ids[:k]] for _ in queries]

    (hits,) = Hybrid([Fixed("a", "b"), Fixed("b", "c")]).search(["q"], 3)
    assert hits == [Hit("b", 1 / 62 + 1 / 61), Hit("a", 1 / 61), Hit("c", 1 / 62)]


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one of bm25"):
        retriever_for("bm26", CHUNKS)
    with pytest.raises(ValueError, match="do not fit the retriever 'bm25'"):
        retriever_for("bm25", CHUNKS, options={"k2": 1})
    with pytest.raises(ValueError, match="no chunk has a word"):
        retriever_for("bm25", [Chunk(doc_id="a", position=0, text="!")])
    with pytest.raises(ValueError, match="k == 0"):
        retriever_for("bm25", CHUNKS).search(["rows"], 0)


def test_a_users_own_retriever_is_one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longest:
        def __init__(self, chunks: Sequence[Chunk]) -> None:
            self.best = sorted(chunks, key=lambda chunk: -len(chunk.text))

        def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            return [
                [Hit(chunk.doc_id, float(len(chunk.text)), chunk.position) for chunk in self.best[:k]] for _ in queries
            ]

    monkeypatch.delitem(RETRIEVERS, "longest", raising=False)
    register_retriever("longest", lambda chunks, options: Longest(chunks))
    try:
        assert retriever_for("longest", CHUNKS).search(["x"], 1)[0][0].doc_id == "sort"
        with pytest.raises(ValueError, match="already"):
            register_retriever("longest", lambda chunks, options: Longest(chunks))
    finally:
        del RETRIEVERS["longest"]


def _index(**config: object) -> Index:
    return build_index(RetrievalConfig(corpus=CorpusRef(package="pandas"), **config))  # type: ignore[arg-type]  # test shorthand


def test_distinct_by_group_keeps_the_best_document_of_each_name() -> None:
    (plain,) = _index(k=8).search(["drop missing values"])
    (distinct,) = _index(k=8, distinct_by="group").search(["drop missing values"])
    groups = [hit.doc_id.rpartition(".")[2] for hit in distinct]
    assert len(set(groups)) == len(groups) == 8
    assert len({hit.doc_id.rpartition(".")[2] for hit in plain}) < 8
    assert distinct[0] == plain[0]


def test_distinct_by_document_keeps_the_best_chunk_of_each() -> None:
    chunking = Chunking(size_words=30, overlap_words=5)
    (plain,) = _index(k=20, chunking=chunking).search(["read a csv file"])
    (distinct,) = _index(k=20, chunking=chunking, distinct_by="document").search(["read a csv file"])
    assert len({hit.doc_id for hit in plain}) < 20
    assert len({hit.doc_id for hit in distinct}) == 20


def test_asking_for_more_than_there_is_gives_all_that_match(tmp_path: Path) -> None:
    lines = [f'{{"id": "{name}", "text": "{text}", "group": "g"}}\n' for name, text in TEXTS.items()]
    (tmp_path / "d.jsonl").write_text("".join(lines))
    config = RetrievalConfig(corpus=CorpusRef(jsonl="d.jsonl"), k=50, distinct_by="group")
    assert [hit.doc_id for hit in build_index(config, base=tmp_path).search(["missing"])[0]] == ["drop"]


def test_passages_are_blocks_with_ids_cut_at_a_word() -> None:
    index = _index(k=2, passage_chars=50)
    (hits,) = index.search(["remove missing values"])
    blocks = index.passages(hits).split("\n\n[")
    assert len(blocks) == 2
    assert blocks[0].startswith(f"[{hits[0].doc_id}] ")
    assert blocks[0].endswith(" …")
    assert len(blocks[0]) <= len(hits[0].doc_id) + 3 + 52
    assert index.passages([]) == ""


def test_the_digest_covers_what_is_indexed_and_not_how_much_is_shown() -> None:
    base = _index().digest
    assert base == _index(k=9, passage_chars=100, distinct_by="group").digest
    assert len({base, _index(options={"b": 0.5}).digest, _index(chunking=Chunking(size_words=50)).digest}) == 3
    assert _index().retriever is _index(k=9).retriever  # built once


def test_the_manifest_names_corpus_recipe_and_documents() -> None:
    index = _index()
    assert index.manifest["corpus"] == Corpus.from_package("pandas").digest
    assert index.manifest["retriever"] == "bm25"
    assert len(index.manifest["documents"]["DataFrame.dropna"]) == 16
    assert index.manifest["n_chunks"] == len(index.corpus)


def test_a_bundle_that_retrieves_nothing_has_no_index():
    with pytest.raises(ValueError, match="retrieves nothing"):
        build_index(None)
