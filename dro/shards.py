"""Finished parts of long work, so that what was killed goes on where it was.

A part is a json file named by the hash of all that decides its content: other settings never meet it, and
the same ones find it. Parts may hold answers: only their owner reads them, and they go once the whole is
written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from dro import store
from dro.errors import StoreError
from dro.sources import cache_folder

FORMAT = 1


def folder() -> Path:
    """Where parts are kept."""
    return cache_folder() / "shards"


class Keeper(Protocol):
    """Whatever knows finished parts."""

    def part(self, key: Mapping[str, Any], work: Callable[[], Any]) -> Any:
        """The part of this key: known, or worked out now."""


class Given:
    """Parts that were brought along, by the hash of their key; nothing is written."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts

    def part(self, key: Mapping[str, Any], work: Callable[[], Any]) -> Any:
        """As `Shards.part`."""
        found = self._parts.get(store.content_hash(dict(key)))
        return work() if found is None else found


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
        found = self.known(key)
        return self.keep(key, work()) if found is None else found

    def known(self, key: Mapping[str, Any]) -> Any:
        """The part from disk; None where it is not there, or damaged: it is done anew then."""
        try:
            return store.read_json(self._path(key))["part"]
        except (StoreError, KeyError):
            return None

    def keep(self, key: Mapping[str, Any], found: Any) -> Any:
        """Put a finished part on disk, and return it."""
        try:
            store.write_json(self._path(key), {"part": found}, mode=0o600)
        except StoreError as error:
            # A disk that is full or closed to us costs the way back, not the work.
            logging.getLogger(__name__).warning("a finished part is not kept: %s", error)
        return found

    def _path(self, key: Mapping[str, Any]) -> Path:
        name = store.content_hash({"format": FORMAT, "ground": self._ground, "key": dict(key)})[:32]
        path = self._place / f"{name}.json"
        self._used.add(path)
        return path

    def clear(self) -> None:
        """Remove the parts that were used: the whole is written."""
        for path in self._used:
            path.unlink(missing_ok=True)
        self._used.clear()
