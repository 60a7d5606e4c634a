"""Files of ours: written atomically, read with a clear word where they are damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dro.errors import StoreError

_LEFT = re.compile(r"\..+\.[a-z0-9_]{8}")
"""`.name.` and the eight characters that tempfile puts behind it."""


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` so that `path` holds either all of it or what it held before.

    A kill on the way leaves a hidden file beside it at most; `leftovers` finds those.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _cannot_write(path, error) from None


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, on disk when this returns; a kill may leave it cut short."""
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _cannot_write(path, error) from None


def leftovers(folder: Path) -> list[Path]:
    """What kills in the middle of writing have left in a folder: hidden files and folders of ours."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _LEFT.fullmatch(path.name))


def _cannot_write(path: Path, error: OSError) -> StoreError:
    remedy = "Free some space" if error.errno == errno.ENOSPC else "Choose a folder you can write to"
    return StoreError(f"{path} cannot be written: {error.strerror}.", f"{remedy}.")


def write_json(path: Path, content: Any, mode: int = 0o644) -> None:
    """Write `content` as indented json, atomically; numbers that are not finite are refused."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), mode)


def read_json(path: Path, remedy: str = "Delete its folder and make it again.") -> dict[str, Any]:
    """Read an object from a json file of ours; StoreError names the file where it is no such thing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}).", remedy) from None
    if not isinstance(content, dict):
        raise StoreError(f"{path} is damaged: no object.", remedy)
    return content


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when the block ends well: all of it or none.

    Raises StoreError where `path` holds files already, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(f"{path} holds other files.", "Name an empty or new folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                path.rmdir()
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _cannot_write(path, error) from None


def content_hash(content: Any) -> str:
    """sha256 over the canonical json of `content`."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
