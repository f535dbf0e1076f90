"""A call store that is deleted in the middle of a run: the run ends before more is paid for, and says so."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.base.errors import StoreError
from tests.experiment_jobs import BUNDLE, client, golden
from tests.loopback import Loopback

IN_FLIGHT = 4


@pytest.mark.slow
def test_a_whole_run_stops_where_its_store_went(loopback: Loopback, tmp_path: Path) -> None:
    """At most the calls that were in flight are paid beyond it, and the next run with a store asks them all again."""
    loopback.set(latency_s=0.02)
    store, asked = tmp_path / "calls.sqlite", [0]
    about = {"client": client(loopback.base_url), "store": store, "progress": False, "concurrency": IN_FLIGHT}

    def delete() -> None:
        while loopback.stats()["requests"] < 40:
            time.sleep(0.005)
        for path in tmp_path.glob("calls.sqlite*"):
            path.unlink()
        asked[0] = loopback.stats()["requests"]

    thread = threading.Thread(target=delete)
    thread.start()
    with pytest.raises(StoreError, match="deleted or replaced"):
        ll.run(BUNDLE, golden(300), **about)
    thread.join()
    assert loopback.stats()["requests"] <= asked[0] + 2 * IN_FLIGHT
    assert ll.run(BUNDLE, golden(300), **about).complete
