"""Where folders of runs stand: they move, whole or not at all, and only while nobody works on them."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from dro.errors import DataError, StoreError
from dro.run_folder import hold, release

_AGAIN = "~"
"""In the trash, behind the name of a run where another of that name lies there already."""


def move(folder: Path, to: Path) -> Path:
    """Move a run's folder to a free place; gives `to`.

    Raises DataError while somebody works on it, and StoreError where it cannot be moved; neither
    tells where the server keeps it.
    """
    try:
        free_now = hold(folder)
    except StoreError:
        free_now = False
    if not free_now:  # another process has it, or this one
        raise DataError(f"{name_of(folder)} is being worked on.", "Wait for its end.")
    release(folder)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if to.exists():
            raise DataError(f"There is a run called {name_of(to)} already.", "Choose another name.")
        os.rename(folder, to)
    except OSError as error:
        raise StoreError(
            f"The folder of {name_of(folder)} cannot be moved: {error.strerror}.",
            "Ask whoever runs this server.",
        ) from None
    return to


def free(folder: Path, name: str) -> Path:
    """A place in `folder` for a run called `name`."""
    names = (name if number == 1 else f"{name}{_AGAIN}{number}" for number in count(1))
    return next(folder / each for each in names if not (folder / each).exists())


def name_of(folder: Path) -> str:
    """The name of the run whose folder this is, in the trash or not."""
    return folder.name.split(_AGAIN)[0]
