"""How far a run is: the figures that the runner writes, and how they are shown while one waits.

A terminal and a live notebook get tqdm's bar; a log (CI, a notebook run as a job) gets a line now and then.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from llmlab.base.errors import StoreError

JOB = "LLMLAB_VERDICT_FILE"  # set in the kernel of a notebook that runs as a job, where no widget is ever seen
_LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.2


@dataclass(kw_only=True)
class Progress:
    """What a run has done so far; written by the loop's thread alone, read by whoever shows it.

    Attributes:
        total, done, cached, errors: cells of the experiment; `errors` have no answer, timeouts included.
        borrowed: how many of the cached answers each call store of others gave.
        spent_usd: what this run paid; a cached answer counts nothing.
        unpriced: how many new answers came without a cost, so that more than `spent_usd` may have been paid.
        waits_s: how much longer every call to one provider waits, because it refuses more for now.
        stopped: why no further call is sent, "" while there is no such reason.
        store_error: why an answer could not be kept.
    """

    total: int
    done: int = 0
    cached: int = 0
    errors: int = 0
    borrowed: Counter[str] = field(default_factory=Counter)
    spent_usd: Decimal = Decimal(0)
    unpriced: int = 0
    waits_s: float = 0.0
    stopped: str = ""
    store_error: StoreError | None = None

    def sentence(self, *, left_s: float | None = None) -> str:
        """All figures in one line.

        >>> Progress(total=2000, done=1000, cached=900, spent_usd=Decimal("1.5")).sentence(left_s=75)
        '1,000 of 2,000 calls (900 cached, 0 errors), $1.5000 spent, 1:15 left'
        """
        time_left = "" if left_s is None else f", {int(left_s) // 60}:{int(left_s) % 60:02} left"
        of_which = f"{self.cached:,} cached, {self.errors:,} errors"
        return f"{self.done:,} of {self.total:,} calls ({of_which}), {self.spent} spent{self.waiting}{time_left}"

    @property
    def spent(self) -> str:
        """What was paid, as far as it is known.

        >>> Progress(total=2, spent_usd=Decimal("1.5"), unpriced=3).spent, Progress(total=2, unpriced=3).spent
        ('$1.5000 and an unknown amount', 'an unknown amount')
        """
        amounts = [f"${self.spent_usd:.4f}"] if self.spent_usd or not self.unpriced else []
        return " and ".join([*amounts, *(["an unknown amount"] if self.unpriced else [])])

    @property
    def waiting(self) -> str:
        """That a provider is waited for, and how long, "" while none is.

        >>> Progress(total=2, waits_s=11.2).waiting
        ', waits 12 s (rate limit)'
        """
        return f", waits {math.ceil(self.waits_s)} s (rate limit)" if self.waits_s > 0 else ""


@contextmanager
def shown(progress: Progress, *, show: bool | Callable[[Progress], None] = True) -> Iterator[Callable[[], None]]:
    """A function to call every now and then, which shows how far the run is; the last state is shown at the end.

    `show` may be a function of one's own that does the showing.
    """
    if callable(show):
        tell = show
        try:
            yield lambda: tell(progress)
        finally:
            tell(progress)
        return
    if not show:
        yield lambda: None
        return
    with _bar(progress) if sys.stderr.isatty() or _live_notebook() else _lines(progress) as refresh:
        yield refresh


def _live_notebook() -> bool:
    """Whether somebody looks at a notebook right now: in a kernel that does not run it as a job."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None and JOB not in os.environ


@contextmanager
def _bar(progress: Progress) -> Iterator[Callable[[], None]]:
    from tqdm.auto import tqdm

    with tqdm(total=progress.total, unit="call", desc="run", mininterval=_BAR_EVERY_S, miniters=0) as bar:

        def update() -> None:
            bar.set_description(f"run{progress.waiting}", refresh=False)
            bar.set_postfix(cached=progress.cached, errors=progress.errors, spent=progress.spent, refresh=False)
            bar.update(progress.done - bar.n)

        try:
            yield update
        finally:
            update()
            bar.refresh()


@contextmanager
def _lines(progress: Progress) -> Iterator[Callable[[], None]]:
    """A line every ten seconds, and one at the end: into a job's notebook as output, elsewhere as a message."""
    in_job = JOB in os.environ
    stream, over = (sys.stdout, "\r") if in_job else (sys.stderr, "\n")  # in a notebook the next line takes its place
    began_s = last_s = time.monotonic()

    def write(left_s: float | None, end: str) -> None:
        stream.write(f"run: {progress.sentence(left_s=left_s)}{end}")
        stream.flush()

    def update() -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < _LINE_EVERY_S:
            return
        last_s, sent = now_s, progress.done - progress.cached  # what is stored takes no time
        write((now_s - began_s) / sent * (progress.total - progress.done) if sent else None, over)

    try:
        yield update
    finally:
        write(None, "\n")
