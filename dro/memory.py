"""Memory of this machine and of this process, read from Linux's own files; None where there are none.

A container may hold less than its machine: the smaller of both counts.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that a new process may take without swapping, or None where nobody says."""
    free = [_field(_PROC / "meminfo", "MemAvailable"), _cgroup_room()]
    known = [size for size in free if size is not None]
    return min(known) if known else None


def resident(process: int | str = "self") -> int | None:
    """Bytes of physical memory that a process holds now."""
    return _field(_PROC / str(process) / "status", "VmRSS")


def peak(process: int | str = "self") -> int | None:
    """The most bytes of physical memory that a process has held, since it began or `reset_peak`."""
    return _field(_PROC / str(process) / "status", "VmHWM")


def reset_peak() -> bool:
    """Let `peak` count from now on; False where the system does not allow it.

    What was freed is given back first: memory that the allocator keeps would hide what comes next.
    """
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        (_PROC / "self" / "clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def _field(path: Path, name: str) -> int | None:
    """A line such as "VmRSS:  1234 kB" in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{name}:")), None)
    return int(found.split()[1]) * 1024 if found else None


def _cgroup_room() -> int | None:
    """What the container's limit leaves; file caches count as free, since they give way."""
    for limit, used, stat, cached in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
         "total_inactive_file"),
    ):  # fmt: skip
        try:
            most = int((_CGROUP / limit).read_text())
            taken = int((_CGROUP / used).read_text())
            lines = dict(line.split() for line in (_CGROUP / stat).read_text().splitlines())
        except (OSError, ValueError):  # no container, or "max"
            continue
        return max(0, most - taken + int(lines.get(cached, 0)))
    return None
