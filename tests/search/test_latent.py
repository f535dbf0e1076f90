"""Latent semantic analysis: the same as scikit-learn's, computed once and kept without anything that can run code."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from llmlab.base.words import words
from llmlab.search.corpus import Chunk
from llmlab.search.index import retriever_for
from llmlab.search.latent import KEPT_FROM_CHUNKS, MOST_KEPT, Lsa
from llmlab.search.retrievers import indexed_text

WORDS = [f"{a}{b}ork" for a in "bcdfghklmn" for b in "aeiou"]
QUERIES = ["baork ceork", "duork duork fiork", "unheard", ""]


def chunks(n=KEPT_FROM_CHUNKS, seed=0):
    rng = np.random.default_rng(seed)
    return [Chunk(doc_id=f"d{i}", position=0, text=" ".join(rng.choice(WORDS, 12))) for i in range(n)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where decompositions are kept, in a project of its own."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mlruns" / "indexes"


def test_scores_are_those_of_scikit_learn():
    """The oracle is its own pipeline: TF-IDF, truncated SVD, unit vectors."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    made = chunks()
    pipeline = make_pipeline(
        TfidfVectorizer(analyzer=words, sublinear_tf=True), TruncatedSVD(20, random_state=0), Normalizer()
    )
    vectors = pipeline.fit_transform([indexed_text(chunk) for chunk in made])
    expected = np.sort((pipeline.transform(QUERIES[:2]) @ vectors.T), axis=1)[:, ::-1][:, :10]
    found = Lsa(made, dimensions=20).search(QUERIES, 10)
    assert np.array([[hit.score for hit in hits] for hits in found[:2]]) == pytest.approx(expected, abs=1e-8)
    assert found[2:] == [[], []]


def test_what_is_kept_finds_the_same(folder: Path):
    """The second time nothing is decomposed: scikit-learn is not even loaded."""
    first = Lsa(chunks()).search(QUERIES, 10)
    (kept,) = folder.iterdir()
    before = kept.stat().st_mtime_ns
    assert retriever_for("lsa", chunks()).search(QUERIES, 10) == first
    assert kept.stat().st_mtime_ns == before


def test_another_text_or_dimension_is_another_file(folder: Path):
    for made, dimensions in ((chunks(), 20), (chunks(), 21), (chunks(seed=1), 20), (chunks()[::-1], 20)):
        Lsa(made, dimensions=dimensions)
    assert len(list(folder.iterdir())) == 4


def flipped(whole):
    return bytes([*whole[: len(whole) // 2], whole[len(whole) // 2] ^ 1, *whole[len(whole) // 2 + 1 :]])


def pickled(_whole):
    """An array of objects would run code when it is loaded."""
    file, hostile = io.BytesIO(), np.array([{"__reduce__": "x"}], dtype=object)
    np.savez(file, words=hostile, weights=hostile, axes=hostile, directions=hostile)
    return file.getvalue()


@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"not a zip", flipped, pickled])
def test_a_damaged_file_is_computed_again(folder: Path, damage):
    """Empty, foreign, with a byte changed in the middle, or with a pickle in it, which is not read."""
    first = Lsa(chunks()).search(QUERIES, 10)
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert Lsa(chunks()).search(QUERIES, 10) == first
    assert kept.read_bytes() == whole


def test_the_oldest_files_go(folder: Path):
    folder.mkdir(parents=True)
    for i in range(MOST_KEPT + 2):
        (folder / f"{i}.npz").touch()
        os.utime(folder / f"{i}.npz", (time.time() - 1000 + i,) * 2)
    Lsa(chunks())
    assert len(list(folder.iterdir())) == MOST_KEPT
    assert not (folder / "0.npz").exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(folder: Path):
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    assert Lsa(chunks()).search(QUERIES, 10)[0]


def test_a_small_corpus_leaves_no_file(folder: Path):
    Lsa(chunks(KEPT_FROM_CHUNKS - 1))
    assert not folder.exists()
