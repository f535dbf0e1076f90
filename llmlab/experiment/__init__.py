"""An experiment is a folder that carries all it needs; notebooks, widgets and commands begin with it.

exp = ll.Experiment.load("experiments/capitals")
exp.dry_run()
exp.run().compare(exp.reference, metrics=[exp.metric])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.base.lazy import face

if TYPE_CHECKING:
    from llmlab.experiment.addresses import Addresses as Addresses
    from llmlab.experiment.cache_effect import prompt_cache as prompt_cache
    from llmlab.experiment.folder import Asked as Asked
    from llmlab.experiment.folder import Experiment as Experiment
    from llmlab.experiment.folder import Settings as Settings
    from llmlab.experiment.simulated import Truth as Truth
    from llmlab.experiment.simulated import simulate as simulate

__all__, __getattr__, __dir__ = face(__name__)
