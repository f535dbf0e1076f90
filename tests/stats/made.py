"""Pass/fail differences of which so many gain and so many lose, as several tests here draw up."""

import numpy as np

from llmlab.stats.paired import mean_difference


def table(gained, lost, n):
    """n differences of 1, -1 and 0."""
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, n - gained - lost])


def counted(gained, lost, n):
    """Their mean, between -1 and 1."""
    return mean_difference(table(gained, lost, n), bounds=(-1.0, 1.0))
