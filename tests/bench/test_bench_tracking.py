"""The speed promise of logging: a sweep of 1,000 rows to sqlite under half a second of CPU, imports left out."""

import time

import pytest

from llmlab import tracking
from tests.tracking.test_runs import results_of

pytestmark = pytest.mark.bench


def test_logging_a_thousand_rows_takes_less_than_half_a_second_of_cpu(project, measured):
    tracking.log(results_of(5))  # imports, and the experiment
    spent = []
    for seed in (1, 2, 3):
        results = results_of(500, seed=seed)
        assert len(results.frame) == 1_000
        started = time.process_time()
        tracking.log(results)
        spent.append(time.process_time() - started)
    measured("1,000 rows logged, CPU", min(spent), 0.5, "s")
    assert min(spent) < 0.5
