"""What lies on this machine because of us, and its removal.

Only the store's own folders are known here, by name; links are never followed, and what a running process
holds is left alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dro import store
from dro.errors import DataError, StoreError
from dro.run_folder import LOCK_FILE, TRASH
from dro.sources import cache_folder

KINDS = {
    "models": "weights and tokenizers, fetched and converted",
    "spaces": "spaces that were fitted here, and their layers",
    "runs": "settings, curves and prompts of runs; who began one on a page is a hash",
    "trash": "runs that were deleted on a page, and can come back there",
    "benchmarks": "public query sets that were fetched",
    "shards": "finished parts of unfinished work; may hold answers, for their owner alone",
    "leftovers": "what kills in the middle of writing have left",
}
"""What each kind holds."""


@dataclass(frozen=True)
class Kept:
    """One thing in the store: its kind, place, size in bytes, and age in days since it was last written."""

    kind: str
    path: Path
    bytes: int
    days: float


def kept() -> list[Kept]:
    """Everything in the store, kind by kind."""
    root, found = cache_folder(), []
    for kind in KINDS:
        if kind == "leftovers":
            folders = [root, *(root / other for other in KINDS), *_inside(root / "runs")]
            paths = [path for folder in folders for path in store.leftovers(folder)]
        elif kind == "runs":
            paths = [path for model in _inside(root / kind) for path in _inside(model)]
        elif kind == "trash":
            paths = [path for model in _inside(root / "runs") for path in _inside(model / TRASH)]
        else:
            paths = _inside(root / kind)
        found += [_measured(kind, path) for path in paths]
    return found


def remove(kinds: Sequence[str], older: float = 0.0) -> tuple[list[Kept], list[str]]:
    """Remove what is of these kinds and was last written more than so many days ago.

    Returns what is gone, and why the rest is not. Raises DataError for a kind that is none.
    """
    check(kinds)
    gone, left = [], []
    for each in kept():
        if each.kind not in kinds or each.days < older:
            continue
        try:
            _remove(each.path)
        except StoreError as error:
            left.append(str(error))
        else:
            gone.append(each)
    return gone, left


def check(kinds: Sequence[str]) -> None:
    """Raise DataError for a kind that is none."""
    odd = [kind for kind in kinds if kind not in KINDS]
    if odd:
        raise DataError(f"Nothing is stored under the name {odd[0]!r}.", f"Use {', '.join(KINDS)} or all.")


def _inside(folder: Path) -> list[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _measured(kind: str, path: Path) -> Kept:
    files = [path] if path.is_symlink() or not path.is_dir() else [path, *path.rglob("*")]
    told = [file.lstat() for file in files]
    newest = max(each.st_mtime for each in told)
    return Kept(kind, path, sum(each.st_size for each in told), max(0.0, time.time() - newest) / 86400)


def _remove(path: Path) -> None:
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        lock = path / LOCK_FILE
        if lock.is_file():
            with FileLock(lock, timeout=0):
                pass
        shutil.rmtree(path)
    except Timeout:
        raise StoreError(f"{path} is being worked on.", "Stop that first.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror}.", "Check who owns it.") from None
