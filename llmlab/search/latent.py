"""Latent semantic analysis: chunks and queries as directions in a few hundred dimensions, kept on disk once computed.

The decomposition takes seconds for a thousand documents, so it is kept in `mlruns/indexes/`, under a digest of
everything it was computed from: other words, dimensions or versions are another file. Used by `index`.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmlab.base.documents import whole_file
from llmlab.base.project import runs_folder
from llmlab.base.words import words
from llmlab.search.corpus import Chunk
from llmlab.search.retrievers import Hit, batches, best_hits, counted, indexed_text, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "lsa-1"
KEPT_FROM_CHUNKS = 500  # fewer are computed again in no time
_LARGEST_KEPT_BYTES = 256_000_000
MOST_KEPT = 8  # files; the oldest go


class _Space(NamedTuple):
    """What a search needs: the axes over the weighted words, and the chunks' directions."""

    vocabulary: dict[str, int]
    weights: NDArray[np.float64]  # inverse document frequency of each word
    axes: NDArray[np.float64]  # dimensions x words
    directions: NDArray[np.float64]  # dimensions x chunks


class Lsa:
    """Cosine similarity after a truncated SVD of TF-IDF; Deerwester et al. (1990), decomposed by scikit-learn."""

    def __init__(self, chunks: Sequence[Chunk], *, dimensions: int = 200) -> None:
        self._chunks = chunks
        if len(chunks) < KEPT_FROM_CHUNKS:
            self._space = _decomposed(chunks, dimensions)
            return
        path = runs_folder() / "indexes" / f"{_digest(chunks, dimensions)}.npz"
        stored = _read(path)
        self._space = stored or _decomposed(chunks, dimensions)
        if stored is None:
            _keep(self._space, path)

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Chunks whose direction in the reduced space is near the query's; a query of unknown words finds nothing."""
        hits: list[list[Hit]] = []
        for counts in batches(queries, self._space.vocabulary):
            weighted = counts.astype(np.float64)
            weighted.data = (1 + np.log(weighted.data)) * self._space.weights[weighted.indices]
            similar = unit_rows(weighted @ self._space.axes.T) @ self._space.directions
            hits += [
                best_hits(self._chunks, np.flatnonzero(row > 0), row[row > 0], k) if is_known else []
                for row, is_known in zip(similar.round(9), counts.getnnz(axis=1), strict=True)
            ]
        return hits


def _decomposed(chunks: Sequence[Chunk], dimensions: int) -> _Space:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True)
    vectors = vectorizer.fit_transform(map(indexed_text, chunks))
    svd = TruncatedSVD(max(1, min(dimensions, min(vectors.shape) - 1)), random_state=0)
    directions = unit_rows(svd.fit_transform(vectors)).T
    vocabulary = {word: int(place) for word, place in vectorizer.vocabulary_.items()}
    return _Space(vocabulary, vectorizer.idf_, svd.components_, directions)


def _digest(chunks: Sequence[Chunk], dimensions: int) -> str:
    indexed = counted(tuple(chunks))
    about = "\n".join([FORMAT, version("scikit-learn"), str(dimensions), *indexed.vocabulary])
    content = hashlib.sha256(about.encode())
    content.update(indexed.ends.tobytes() + b"\n" + indexed.ids.tobytes())
    return content.hexdigest()


def _read(path: Path) -> _Space | None:
    """What was kept there; None where nothing was, or where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = stored["words"].tobytes().decode().split("\n")
            vocabulary = {word: place for place, word in enumerate(names)}
            return _Space(vocabulary, stored["weights"], stored["axes"], stored["directions"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _keep(space: _Space, path: Path) -> None:
    """Write the file whole or not at all; where it cannot be written the next process computes it again."""
    if space.axes.nbytes + space.directions.nbytes > _LARGEST_KEPT_BYTES:
        return
    ordered = sorted(space.vocabulary, key=space.vocabulary.__getitem__)
    names = np.frombuffer("\n".join(ordered).encode(), dtype=np.uint8)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial_path, partial_path.open("wb") as file:
            np.savez(file, words=names, weights=space.weights, axes=space.axes, directions=space.directions)
        for old in sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)[:-MOST_KEPT]:
            old.unlink()
