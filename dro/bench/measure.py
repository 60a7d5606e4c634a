"""Both ways timed in turn in one run, and the peak memory of each.

Peak memory is what a call takes above what was held when it began: what the allocator keeps of
earlier calls is given back and the system's high-water mark reset before the first call of each way
(on a GPU, torch's own mark). The loaded model is thus not part of it. Later calls are left in peace:
memory that was given back has to be fetched again, which takes time.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dro import memory

_MOST, _FEWEST = 9, 3
_SECONDS = 20.0
"""Trials of a pair of calls stop after this long, but not before there are three."""


@dataclass(frozen=True)
class Timing:
    """Seconds of every trial, in order, and the most bytes that one took (None where unknown)."""

    seconds: tuple[float, ...]
    peak: int | None

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Least and most seconds."""
        return min(self.seconds), max(self.seconds)


def in_turn(ways: list[Callable[[], Any]], device: torch.device) -> tuple[list[Timing], list[Any]]:
    """Time the ways one after another, again and again: timings and last results, in the ways' order."""
    seconds: list[list[float]] = [[] for _ in ways]
    peaks: list[list[int | None]] = [[] for _ in ways]
    results: list[Any] = [None] * len(ways)
    began = time.perf_counter()
    for trial in range(_MOST):
        if trial >= _FEWEST and time.perf_counter() - began > _SECONDS:
            break
        for place, way in enumerate(ways):
            results[place] = None
            results[place], took, peak = once(way, device, watched=trial == 0)
            seconds[place].append(took)
            peaks[place].append(peak)
    timings = []
    for times, tops in zip(seconds, peaks, strict=True):
        known = [top for top in tops if top is not None]
        timings.append(Timing(tuple(times), max(known) if known else None))
    return timings, results


def once(way: Callable[[], Any], device: torch.device, watched: bool = True) -> tuple[Any, float, int | None]:
    """(result, seconds, bytes at the peak above the beginning, where that is `watched`) of one call."""
    if device.type == "cuda":
        return _once_on_cuda(way, device)
    known = watched and memory.reset_peak()
    before = memory.resident()
    began = time.perf_counter()
    result = way()
    took = time.perf_counter() - began
    top = memory.peak()
    return result, took, top - before if known and top is not None and before is not None else None


def _once_on_cuda(way: Callable[[], Any], device: torch.device) -> tuple[Any, float, int]:
    """The same by the device's own clock: the host runs ahead of it."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    result = way()
    last.record()
    torch.cuda.synchronize(device)
    return result, first.elapsed_time(last) / 1000, torch.cuda.max_memory_allocated(device) - before
