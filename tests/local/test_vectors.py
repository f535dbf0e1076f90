"""Vectors on this machine: the table is the one that is named, and search by it is as good as was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.bundle.bundle import Bundle, ModelRef
from llmlab.local import vectors
from llmlab.local.setup import LocalModelError, package_file
from llmlab.local.vectors import LocalVectors
from llmlab.search import Embedder, Embedding

FOLDER = Path(__file__).parents[2] / "experiments" / "pandas_help"
MODEL = ModelRef.parse("local/wordllama-256")

here = pytest.mark.skipif(package_file(*vectors.TABLE) is None, reason="`llmlab local setup` has not been run")


@here
@pytest.mark.local
def test_texts_that_mean_the_same_lie_near_each_other(tmp_path: Path) -> None:
    found = Embedder(MODEL, store=tmp_path / "c.sqlite")(
        ["drop rows with gaps", "remove missing rows", "a histogram", ""]
    )
    assert found.shape == (4, 256)
    assert np.allclose(np.linalg.norm(found[:3], axis=1), 1)
    assert not found[3].any()
    assert found[0] @ found[1] > 0.3 > found[0] @ found[2]


@here
@pytest.mark.local
def test_they_score_how_near_an_answer_lies_to_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    golden = ll.GoldenSet((ll.Case(id="q", inputs={"question": "?"}, expected="remove missing rows"),))
    texts = {"near": "drop rows with gaps", "far": "a histogram"}
    frame = pd.DataFrame([{"variant": name, "case_id": "q", "text": text} for name, text in texts.items()])
    results = ll.Results.from_frame(frame, golden=golden)
    scored = results.scored_by([ll.scorers.similar_to_expected("local/wordllama-256")])
    value = dict(scored.answers("variant", "similar_to_expected"))
    assert value["near"] > 0.3 > value["far"]


def test_a_model_of_vectors_is_pinned_and_gives_no_answers(tmp_path: Path) -> None:
    assert MODEL.pinned
    bundle = Bundle.from_prompt("{{ question }}", model="local/wordllama-256")
    golden = ll.GoldenSet((ll.Case(id="q", inputs={"question": "?"}),))
    results = ll.run(bundle, golden, store=tmp_path / "c.sqlite", progress=False, failed_share_allowed=1.0)
    assert "no answers" in results.frame["error"].iloc[0]


@pytest.mark.parametrize("chars", [0, -5, True, "200", 1.5])
def test_a_share_of_a_passage_that_is_none_is_refused(chars: object) -> None:
    with pytest.raises(ValueError, match="chars"):
        Embedding((), embedder=Embedder(MODEL), chars=chars)  # type: ignore[arg-type]  # as YAML may give it


def test_what_is_absent_or_another_file_is_a_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "TABLE", ("numpy", "nothing.safetensors"))
    with pytest.raises(LocalModelError, match="llmlab local setup"):
        LocalVectors().require_ready()
    monkeypatch.setattr(vectors, "TABLE", ("numpy", "__init__.py"))
    with pytest.raises(LocalModelError, match="--again"):
        LocalVectors().require_ready()


@here
@pytest.mark.local
@pytest.mark.slow
def test_fused_with_words_it_is_not_shown_to_be_better_than_words_alone(tmp_path: Path) -> None:
    """On the 224 questions about pandas; against words fused with latent semantics it is."""
    hybrid = Bundle.load(FOLDER / "more" / "hybrid.yaml")
    assert hybrid.retrieval is not None
    plain = {"embedding": None, "options": {}}
    variants = {
        "words": hybrid.with_(retrieval=hybrid.retrieval.model_copy(update={**plain, "retriever": "bm25"})),
        "latent": hybrid.with_(retrieval=hybrid.retrieval.model_copy(update=plain)),
        "vectors": hybrid,
    }
    golden = ll.GoldenSet.load(FOLDER / "golden.jsonl")
    results = ll.run(variants, golden, store=tmp_path / "c.sqlite", progress=False)
    measured = ll.retrieval.of_results(results, ["nDCG@10"])
    mean = {name: measured.estimate(name, "nDCG@10").value for name in variants}
    assert mean == pytest.approx({"words": 0.422, "latent": 0.379, "vectors": 0.433}, abs=0.004)
    against_words, against_latent = (measured.compare(base).row("nDCG@10", "vectors") for base in ("words", "latent"))
    assert not against_words.significant
    assert against_latent.significant
    assert against_latent.difference.value == pytest.approx(0.054, abs=0.004)
