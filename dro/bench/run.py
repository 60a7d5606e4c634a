"""The benchmark from end to end: ceilings, then row after row."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dro.bench import ceilings, floors, measure, start
from dro.bench.ceilings import Ceilings
from dro.bench.paths import PATHS, Path, Sizes, path
from dro.errors import DataError
from dro.models import ChatModel
from dro.sources import Progress, silent

NAMES = (*PATHS, *start.NAMES)


@dataclass(frozen=True)
class Row:
    """One path measured. Seconds are medians, peaks bytes / 1e6 above the loaded model; None: not defined.

    spread: least and most seconds of ours, then of the plain way.
    """

    name: str
    ours_s: float
    plain_s: float | None = None
    floor_s: float | None = None
    ours_peak_mb: float | None = None
    plain_peak_mb: float | None = None
    same_result: bool | None = None
    spread: tuple[float, ...] = field(default=())

    @property
    def ratio(self) -> float | None:
        """How many times as long the plain way takes."""
        return None if self.plain_s is None else self.plain_s / self.ours_s

    @property
    def over_floor(self) -> float | None:
        """How many times its floor ours takes."""
        return None if self.floor_s is None else self.ours_s / self.floor_s

    def as_dict(self) -> dict[str, Any]:
        """The row as `--json` writes it."""
        names = ("name", "ours_s", "plain_s", "ratio", "floor_s", "over_floor", "ours_peak_mb",
                 "plain_peak_mb", "same_result")  # fmt: skip
        return {name: getattr(self, name) for name in names}


def check(names: Sequence[str]) -> tuple[str, ...]:
    """The names asked for, all of them where none is; DataError for one that there is not."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise DataError(f"The benchmark knows no {unknown[0]!r}.", f"Use {', '.join(NAMES)}.")
    return tuple(name for name in NAMES if name in names) if names else NAMES


def run(
    names: Sequence[str],
    load: Callable[[], ChatModel],
    sizes: Sizes = Sizes(),
    progress: Progress = silent,
) -> tuple[dict[str, Any], list[Row]]:
    """Measure `names`: what is known of the machine, and the rows. `load` gives the model."""
    wanted = check(names)
    rows: list[Row] = []
    machine: dict[str, Any] = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    # The app first: it wants the memory that a model would take.
    for name in (n for n in wanted if n in start.NAMES):
        progress(f"Measuring {name}", len(rows) / len(wanted))
        row = start.measure(name)
        machine |= {"import_gradio_s": row.gradio, "start_drawn": row.drawn}
        rows.append(Row(name, row.seconds, ours_peak_mb=None if row.peak is None else row.peak / 1e6,
                        spread=row.spread))  # fmt: skip
    if any(name in PATHS for name in wanted):
        model = load()
        found = ceilings.measure(model.device)
        machine |= {
            "device": _device(model.device), "model": model.name, "precision": model.precision,
            "bf16_gflops": found.bf16_flops / 1e9, "fp32_gflops": found.fp32_flops / 1e9,
            "bandwidth_gb_s": found.bandwidth / 1e9,
        }  # fmt: skip
        for name in (n for n in wanted if n in PATHS):
            progress(f"Measuring {name}", len(rows) / len(wanted))
            rows.append(one(path(name, model, sizes), model, found))
    progress("Measured", 1.0)
    rows.sort(key=lambda row: NAMES.index(row.name))
    return machine, rows


def one(each: Path, model: ChatModel, found: Ceilings) -> Row:
    """Compare the two ways on a few inputs, time them in turn, compare all they gave."""
    same = each.same(*(way() for way in each.small))
    if not same:
        raise DataError(
            f"{each.name}: the two ways do not give the same result, so nothing was timed.",
            "Please report it, with the model and the precision.",
        )
    timings, results = measure.in_turn([each.ours, each.plain], model.device)
    ours, theirs = timings
    same = each.same(*results)
    return Row(
        each.name,
        ours.median,
        theirs.median * each.scale,
        floors.seconds(each.floor(results[0]), found, model.dtype),
        None if ours.peak is None else ours.peak / 1e6,
        None if theirs.peak is None else theirs.peak / 1e6,
        same,
        (*ours.spread, *(each.scale * seconds for seconds in theirs.spread)),
    )


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
