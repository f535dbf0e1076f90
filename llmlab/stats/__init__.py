"""Statistics: arrays in, frozen values out; no files, clocks, data frames or global random state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.stats.agreement import judge_rates as judge_rates
    from llmlab.stats.correction import Correction as Correction
    from llmlab.stats.correction import ppi_difference as ppi_difference
    from llmlab.stats.correction import ppi_mean as ppi_mean
    from llmlab.stats.correction import rogan_gladen as rogan_gladen
    from llmlab.stats.effects import Effects as Effects
    from llmlab.stats.effects import factor_effects as factor_effects
    from llmlab.stats.sequential import split_check as split_check

# what most runs do without; the rest is imported from its file
__all__, __getattr__, __dir__ = face(__name__)
