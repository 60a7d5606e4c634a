"""Finished parts of long work, so that what was killed goes on where it was.

A part is a json file named by the hash of all that decides its content: other settings never meet it, and
the same ones find it. Parts may hold answers: only their owner reads them, and they go once the whole is
written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dro import store
from dro.errors import StoreError
from dro.sources import cache_folder

FORMAT = 1


def folder() -> Path:
    """Where parts are kept."""
    return cache_folder() / "shards"


def done_here(key: Mapping[str, Any], work: Callable[[], Any]) -> Any:
    """`Shards.part` where nothing is kept."""
    return work()


class Shards:
    """The parts of one piece of work. ground: what all of them depend on, as json."""

    def __init__(self, ground: Mapping[str, Any], place: Path | None = None) -> None:
        self._ground = dict(ground)
        self._place = place or folder()
        self._used: set[Path] = set()

    def part(self, key: Mapping[str, Any], work: Callable[[], Any]) -> Any:
        """What `work` gives, as json: from disk where it was done before, else done and kept."""
        name = store.content_hash({"format": FORMAT, "ground": self._ground, "key": dict(key)})[:32]
        path = self._place / f"{name}.json"
        self._used.add(path)
        try:
            return store.read_json(path)["part"]
        except (StoreError, KeyError):
            pass  # not there, or damaged: done anew
        found = work()
        try:
            store.write_json(path, {"part": found}, mode=0o600)
        except StoreError as error:
            # A disk that is full or closed to us costs the way back, not the work.
            logging.getLogger(__name__).warning("a finished part is not kept: %s", error)
        return found

    def clear(self) -> None:
        """Remove the parts that were used: the whole is written."""
        for path in self._used:
            path.unlink(missing_ok=True)
        self._used.clear()
