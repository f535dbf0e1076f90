"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from tests.loopback import Loopback

hypothesis.settings.register_profile("repeatable", max_examples=40, derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")  # the same examples on every machine and run

pytest_plugins = ("tests.jupyterlab", "tests.mlflow_fixtures")


@pytest.fixture(scope="session")
def _loopback_process() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.stop()


@pytest.fixture
def loopback(_loopback_process: Loopback) -> Loopback:
    """An OpenAI-compatible server on this machine, freshly set to answer at once and without faults."""
    _loopback_process.set()
    return _loopback_process
