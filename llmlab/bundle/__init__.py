"""Bundles: prompt + pinned model + sampling + retrieval + tools as one immutable value with one digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.bundle import difference as difference
    from llmlab.bundle import grids as grids
    from llmlab.bundle.bundle import Bundle as Bundle
    from llmlab.bundle.bundle import Chunking as Chunking
    from llmlab.bundle.bundle import CorpusRef as CorpusRef
    from llmlab.bundle.bundle import ModelRef as ModelRef
    from llmlab.bundle.bundle import PinOverride as PinOverride
    from llmlab.bundle.bundle import RetrievalConfig as RetrievalConfig
    from llmlab.bundle.bundle import Sampling as Sampling
    from llmlab.bundle.bundle import load_bundles as load_bundles
    from llmlab.bundle.catalogue import Catalogue as Catalogue
    from llmlab.bundle.difference import BundleDiff as BundleDiff
    from llmlab.bundle.export import Exported as Exported
    from llmlab.bundle.grids import grid as grid

__all__, __getattr__, __dir__ = face(__name__)
