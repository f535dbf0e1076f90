"""Is the index still true: documents that came, changed and went, whose questions they concern, and what moved."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmlab.base.errors import DataError, FileRuleError, GateError
from llmlab.bundle.bundle import CorpusRef, RetrievalConfig, load_bundles
from llmlab.engine.freshness import check, load_manifest, manifest_of, save_manifest
from llmlab.golden.cases import Case, GoldenSet
from llmlab.search.corpus import Corpus, Document
from llmlab.search.index import Index, build_index

HELP = Path(__file__).parents[2] / "experiments" / "pandas_help"
OLD = {"keep": "stays as it is", "edit": "alpha words", "gone": "beta words", "move": "moved text"}
NEW = {"keep": "stays as it is", "edit": "alpha words, edited", "moved": "moved text", "new": "beta beta beta"}
GOLDEN = GoldenSet(
    tuple(
        Case(id=f"q{i}", inputs={"question": question}, relevant=relevant)
        for i, (question, relevant) in enumerate(
            [("stays", {"keep": 1}), ("alpha", {"edit": 2}), ("beta", {"gone": 1, "new": 1}), ("moved", {"move": 1})]
        )
    )
)


def corpus(texts: dict[str, str]) -> Corpus:
    return Corpus(documents=tuple(Document(id=name, text=text, title=name) for name, text in texts.items()))


def index(texts: dict[str, str], folder: Path, name: str) -> Index:
    rows = [json.dumps({"id": doc_id, "text": text}) for doc_id, text in texts.items()]
    (folder / name).write_text("\n".join(rows))
    return build_index(RetrievalConfig(corpus=CorpusRef(jsonl=name), k=1), base=folder)


def test_every_document_is_added_changed_deleted_renamed_or_unchanged(tmp_path: Path) -> None:
    found = check(index(OLD, tmp_path, "old.jsonl"), corpus(NEW), golden=GOLDEN)
    assert (found.added, found.changed, found.deleted) == (("new",), ("edit",), ("gone",))
    assert found.renamed == (("move", "moved"),)
    assert found.n_unchanged == 1
    assert dict(found.stale) == {"q1": ("edit",), "q2": ("gone", "new")}
    assert found.stale_share is not None
    assert found.stale_share.value == 0.5
    assert found.cases().case_ids == ("q2", "q1")


def test_an_index_of_todays_corpus_is_fresh(tmp_path: Path) -> None:
    found = check(index(OLD, tmp_path, "old.jsonl"), corpus(OLD), golden=GOLDEN)
    assert found.fresh
    assert found.lag_s == 0.0
    assert found.verdict(stale_at_most=0.0).word == "PASS"
    assert "up to date" in found._sentence()


def test_an_id_that_became_an_alias_is_still_there(tmp_path: Path) -> None:
    today = Corpus(documents=(Document(id="first", text=OLD["keep"], aliases=("keep",)),))
    found = check(index({"keep": OLD["keep"]}, tmp_path, "old.jsonl"), today)
    assert found.fresh


def test_documents_that_left_and_entered_the_top_k_are_named(tmp_path: Path) -> None:
    old, new = index(OLD, tmp_path, "old.jsonl"), index(NEW, tmp_path, "new.jsonl")
    built = datetime(2026, 1, 1, tzinfo=UTC)
    path = save_manifest(old, tmp_path / "manifest.json", golden=GOLDEN, built_at=built)
    found = check(load_manifest(path), new.corpus, golden=GOLDEN, index=new, now=datetime(2026, 1, 3, tzinfo=UTC))
    assert found.left == (("q2", "gone"), ("q3", "move"))
    assert found.entered == (("q2", "new"),)
    assert found.lag_s == 2 * 86_400
    assert found.moves().case_ids == ("q2", "q3")
    grown = GOLDEN.grown([Case(id="q9", inputs={"question": "new"}, relevant={"new": 1})])
    assert check(load_manifest(path), new.corpus, golden=grown, index=new).left == found.left  # asked only later


def test_without_what_is_needed_a_figure_is_missing_and_not_zero(tmp_path: Path) -> None:
    found = check(index(OLD, tmp_path, "old.jsonl").manifest, corpus(NEW))
    assert (found.lag_s, found.left, found.stale_share) == (None, None, None)
    with pytest.raises(DataError, match="no golden set"):
        found.verdict(stale_at_most=0.1)
    unjudged = GoldenSet((Case(id="q", inputs={"question": "?"}),))
    with pytest.raises(DataError, match="names a relevant document"):
        found = check(index(OLD, tmp_path, "old.jsonl"), corpus(NEW), golden=unjudged)


def test_the_verdict_reads_the_interval_and_can_end_a_job(tmp_path: Path) -> None:
    found = check(index(OLD, tmp_path, "old.jsonl"), corpus(NEW), golden=GOLDEN)
    share = found.stale_share
    assert share is not None
    assert found.verdict(stale_at_most=0.99).word == "PASS"
    assert found.verdict(stale_at_most=0.5).word == "INCONCLUSIVE"
    failing = replace(found, stale_share=replace(share, value=0.9, low=0.8, high=0.95)).verdict(stale_at_most=0.1)
    with pytest.raises(GateError, match="at most 10% allowed"):
        failing.require("pass")


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", "not json", '{"documents": {"a": 1}}', '{"documents": {}, "built_at": "yesterday"}'),
        *('{"documents": {}, "golden_top_k": {"k": 5}}', '{"documents": {}, "golden_top_k": {"k": 0, "found": {}}}'),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(FileRuleError, match=r"m\.json"):
        load_manifest(tmp_path / "m.json")
    with pytest.raises(FileRuleError, match="cannot be read"):
        load_manifest(tmp_path / "missing.json")


def test_another_pandas_made_documents_stale_that_the_golden_questions_rest_on() -> None:
    """The committed manifest of pandas 2.3.3 against the pandas that is installed."""
    manifest = load_manifest(HELP / "manifest-other-pandas.json")
    config = load_bundles(HELP / "bundles")["v2"].retrieval
    assert config is not None
    today, golden = build_index(config), GoldenSet.load(HELP / "golden.jsonl")
    if today.corpus.version == manifest["corpus_version"]:
        pytest.skip(f"pandas {today.corpus.version} is the one that the manifest was made of")
    found = check(manifest, today.corpus, golden=golden, index=today)
    assert found.built_from == "pandas 2.3.3"
    assert min(len(found.added), len(found.changed), len(found.deleted)) > 0
    assert "DataFrame.applymap" in found.deleted  # gone in pandas 3
    assert found.stale_share is not None
    assert (found.stale_share.value or 0) > 0.3
    assert found.left
    assert not any(text for text in manifest["documents"].values() if len(text) != 16)  # hashes, never texts
    assert manifest_of(today)["documents"].keys() != manifest["documents"].keys()
