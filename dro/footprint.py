"""How much memory a model's weights will take, told before anything is loaded.

Counted from the shapes in the weight files' headers, or from the configuration where the files are
not here yet. Embeddings, head and norms stay in bf16 when the rest is quantised.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from dro import memory
from dro.errors import ModelError

_BYTES = {"bf16": 2.0, "fp32": 4.0}
_NF4 = 0.5 + (1 + 4 / 256) / 64
"""Bytes of a weight in NF4: half a byte, a byte for 64 of them, a float32 for 256 of those bytes."""
_WORKING = 400e6
"""Bytes that Python, torch and a small pass need beside the weights."""
_STEPS_DOWN = {"fp32": ("bf16", "4bit"), "bf16": ("4bit",), "4bit": ()}


@dataclass(frozen=True)
class Weights:
    """Numbers of parameters: those that 4-bit loading quantises, and all others."""

    linear: int
    other: int

    def bytes(self, precision: str) -> float:
        """What they take in memory."""
        if precision == "4bit":
            return _NF4 * self.linear + 2.0 * self.other
        return _BYTES[precision] * (self.linear + self.other)


def of_source(source: str | Path, precision: str) -> Weights | None:
    """The weights of a folder or of a hub model; None where nothing tells."""
    return of_folder(source) if isinstance(source, Path) else of_config(_config(source))


def of_folder(folder: Path) -> Weights | None:
    """Counted from the headers of a folder's *.safetensors, without reading the weights."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(min(length, 100_000_000)))
            shapes |= {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return None  # loading will say what is wrong with it
    return _counted(shapes.items()) if shapes else None


def of_config(config: Any) -> Weights | None:
    """Counted from a transformers configuration, by a model without memory."""
    if config is None:
        return None
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # an architecture that is refused later, by name
        return None
    return _counted((name, list(each.shape)) for name, each in model.named_parameters())


def check(weights: Weights | None, precision: str, cuda: bool, shown: str) -> None:
    """Raise ModelError where the weights need more memory than is free; says what would fit."""
    free = available(cuda, precision)
    if weights is None or free is None:
        return
    need = weights.bytes(precision) + _WORKING
    if need <= free:
        return
    fitting = [each for each in _STEPS_DOWN[precision] if weights.bytes(each) + _WORKING <= free]
    remedy = (
        f"Use {fitting[0]} ({(weights.bytes(fitting[0]) + _WORKING) / 1e9:.1f} GB), or free some memory."
        if fitting
        else "Choose a smaller model, free some memory, or use a larger machine."
    )
    raise ModelError(
        f"{shown} needs {need / 1e9:.1f} GB in {precision}, {free / 1e9:.1f} GB are free.", remedy
    )


def available(cuda: bool, precision: str) -> float | None:
    """Bytes that weights may take: of all GPUs, and of the CPU where layers may spill over to it."""
    host = memory.available()
    if not cuda:
        return host
    import torch

    devices = sum(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    # bitsandbytes keeps quantised layers on GPUs only.
    return float(devices) if precision == "4bit" else devices + float(host or 0)


def _counted(shapes: Iterable[tuple[str, list[int]]]) -> Weights:
    linear = other = 0
    for name, shape in shapes:
        outer = any(part in name for part in ("embed", "lm_head", "wte", "wpe"))
        if len(shape) == 2 and not outer:
            linear += prod(shape)
        else:
            other += prod(shape)
    return Weights(linear, other)


def _config(source: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception:  # loading will say why it cannot be reached
        return None
