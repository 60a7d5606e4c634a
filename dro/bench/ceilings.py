"""What the machine can do: rate of large matrix products, and bytes read a second.

A ceiling is the best that was seen: the machine can do at least that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_SIDES = (1024, 2048)
_BYTES = 1 << 28


@dataclass(frozen=True)
class Ceilings:
    """Operations a second (two for a multiply-add) in bf16 and fp32, bytes read a second."""

    bf16_flops: float
    fp32_flops: float
    bandwidth: float

    def flops(self, dtype: torch.dtype) -> float:
        """The rate of products in `dtype`."""
        return self.fp32_flops if dtype == torch.float32 else self.bf16_flops


def measure(device: torch.device) -> Ceilings:
    """Measure `device`; about two seconds on two cores."""
    return Ceilings(
        products(torch.bfloat16, device), products(torch.float32, device), reading(device)
    )  # fmt: skip


@torch.no_grad()
def products(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of square products in `dtype`, the best of several sizes and trials."""
    best = 0.0
    for side in _SIDES:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        seconds = _quickest(lambda left=left, right=right: left @ right, device)  # type: ignore[misc]
        best = max(best, 2 * side**3 / seconds)
    return best


@torch.no_grad()
def reading(device: torch.device) -> float:
    """Bytes a second of a matrix-vector product over more than any cache holds: each read once."""
    matrix = torch.ones(_BYTES // 4 // 4096, 4096, device=device)
    vector = torch.ones(4096, device=device)
    return _BYTES / _quickest(lambda: matrix @ vector, device)


def _quickest(call: Callable[[], object], device: torch.device, trials: int = 5) -> float:
    best = float("inf")
    for _ in range(trials + 1):
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        best = min(best, time.perf_counter() - began)
    return best


def wait(device: torch.device) -> None:
    """Until `device` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
