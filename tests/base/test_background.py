"""Work beside the calling thread: it ends when it is interrupted, and leaves the caller's loop alone."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading

import pytest

from llmlab.base.background import in_thread, run_in_background

WHO = contextvars.ContextVar("WHO", default="nobody")


async def answer() -> int:
    await asyncio.sleep(0)
    return 7


async def fail() -> None:
    raise LookupError("as it was")


def test_it_returns_what_the_coroutine_returns_within_a_running_loop_too() -> None:
    async def in_a_loop() -> int:
        return run_in_background(answer)

    assert run_in_background(answer) == asyncio.run(in_a_loop()) == 7


def test_an_error_of_the_coroutine_is_raised_where_one_waits() -> None:
    with pytest.raises(LookupError, match="as it was"):
        run_in_background(fail)


def test_context_variables_go_along() -> None:
    async def who() -> tuple[str, str]:
        return WHO.get(), await in_thread(WHO.get)

    token = WHO.set("me")
    assert run_in_background(who) == ("me", "me")
    WHO.reset(token)


def test_an_interrupt_cancels_the_coroutine_and_is_raised_again() -> None:
    """As Ctrl+C and a kernel's interrupt do."""
    cleaned = threading.Event()

    async def wait_for_ever() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.set()

    with pytest.raises(KeyboardInterrupt):
        run_in_background(wait_for_ever)
    assert cleaned.is_set()


def test_many_blocking_functions_run_at_once_and_raise_as_they_do() -> None:
    together = threading.Barrier(20, timeout=20)

    async def all_wait() -> int:
        return len(await asyncio.gather(*(in_thread(together.wait) for _ in range(20))))

    assert run_in_background(all_wait) == 20

    async def raising() -> None:
        await in_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        run_in_background(raising)


def test_a_function_that_hangs_does_not_keep_the_process_from_ending() -> None:
    program = (
        "import asyncio, time\n"
        "from llmlab.base.background import in_thread, run_in_background\n"
        "async def give_up():\n"
        "    try:\n"
        "        await asyncio.wait_for(in_thread(time.sleep, 3600), 0.05)\n"
        "    except TimeoutError:\n"
        "        print('given up')\n"
        "run_in_background(give_up)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "given up\n"
