"""Speed promises of judges: 10,000 verdicts with 2,000 resamples and 100,000 replies in under 2 s of CPU time.

A yardstick of plain Python is timed in the same run, so that a busy or slow machine is not mistaken for slow code.
"""

import json
import time

import pytest

from llmlab.judge import calibrate_verdicts, parse_score
from llmlab.simulate import judged_verdicts

pytestmark = pytest.mark.bench

PROMISED_S = 2.0
YARDSTICK_S = 0.25  # what the loop below takes on the machine that the promise was made for


def cpu_s(work):
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def yardstick_s():
    def loop():
        for _ in range(10_000_000):
            pass

    return min(cpu_s(loop) for _ in range(3))


def test_ten_thousand_verdicts_are_calibrated_with_two_thousand_resamples(measured):
    """Position, kappa twice, length slope, rates."""
    table = judged_verdicts(10_000, seed=1, position=0.3, length=0.5)
    lengths = {"length1": "words_1", "length2": "words_2"}
    took_s = min(cpu_s(lambda: calibrate_verdicts(table, resamples=2000, **lengths)) for _ in range(2))
    slowness = max(1.0, yardstick_s() / YARDSTICK_S)
    print(f"calibrating 10,000 verdicts: {took_s:.2f} s of CPU, machine {slowness:.1f} x slower than the reference")
    measured("10,000 verdicts calibrated, 2,000 resamples, CPU", took_s / slowness, PROMISED_S, "s")
    assert took_s < PROMISED_S * slowness


def test_a_hundred_thousand_replies_are_parsed(measured):
    """Seven of ten as asked, the rest prose, fenced or refused."""
    asked = json.dumps({"reason": "It names dropna, but adds a sentence that nobody needs.", "score": 4})
    replies = [asked] * 7 + [
        "It names dropna. Nothing is said of columns.\n\nScore: 4",
        f"```json\n{asked}\n```",
        "No.",
    ]
    scale = range(1, 6)
    took_s = cpu_s(lambda: [parse_score(replies[i % 10], scale=scale) for i in range(100_000)])
    slowness = max(1.0, yardstick_s() / YARDSTICK_S)
    print(f"parsing 100,000 replies: {took_s:.2f} s of CPU, machine {slowness:.1f} x slower than the reference")
    measured("100,000 replies of a judge parsed, CPU", took_s / slowness, PROMISED_S, "s")
    assert took_s < PROMISED_S * slowness
