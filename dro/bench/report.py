"""The benchmark's rows as json for programs and as a table's cells for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dro.bench.run import Row

COLUMNS = ("path", ">ours, s", ">spread", ">plain, s", ">ratio", ">floor, s", ">ours/floor", ">ours, MB",
           ">plain, MB", "same")  # fmt: skip


def as_json(machine: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """{"ceilings": …, "paths": […]}; the spread of every path's seconds stands with the ceilings."""
    spread = {row.name: list(row.spread) for row in rows if row.spread}
    return {"ceilings": {**machine, "spread": spread}, "paths": [row.as_dict() for row in rows]}


def cells(row: Row) -> list[str]:
    """A row of `COLUMNS`."""
    low, high = row.spread[:2] if row.spread else (row.ours_s, row.ours_s)
    return [
        row.name,
        f"{row.ours_s:.3g}",
        f"{low:.3g}–{high:.3g}",
        _number(row.plain_s),
        _number(row.ratio, "×"),
        _number(row.floor_s),
        _number(row.over_floor, "×"),
        "–" if row.ours_peak_mb is None else f"{row.ours_peak_mb:.0f}",
        "–" if row.plain_peak_mb is None else f"{row.plain_peak_mb:.0f}",
        "–" if row.same_result is None else "yes" if row.same_result else "NO",
    ]


def title(machine: dict[str, Any]) -> str:
    """The machine in a line."""
    parts = [f"{machine['cores']} cores"]
    if "bf16_gflops" in machine:
        parts = [
            f"{machine['model']} in {machine['precision']} on {machine['device']}, {parts[0]}",
            f"bf16 {machine['bf16_gflops']:.0f} and fp32 {machine['fp32_gflops']:.0f} GFLOP/s",
            f"reads {machine['bandwidth_gb_s']:.0f} GB/s",
        ]
    if "import_gradio_s" in machine:
        parts.append(f"importing gradio {machine['import_gradio_s']:.1f} s, page {machine['start_drawn']}")
    return "; ".join(parts)


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.3g}{unit}"
