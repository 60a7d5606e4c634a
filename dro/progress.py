"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dro.sources import Progress

_SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def on_stderr() -> Iterator[Progress]:
    """A Progress that writes to standard error as long as the block lasts."""
    if sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(label: str, fraction: float) -> None:
            bar.update(task, description=label, completed=fraction)

        yield show


class _Lines:
    """For logs: a line when the work changes its name, and every few seconds."""

    def __init__(self) -> None:
        self._label = ""
        self._last = 0.0

    def __call__(self, label: str, fraction: float) -> None:
        now = time.monotonic()
        if label != self._label or now - self._last > _SECONDS_BETWEEN_LINES:
            self._label, self._last = label, now
            print(f"{label} … {fraction:.0%}", file=sys.stderr, flush=True)
