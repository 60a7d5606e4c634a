"""The command clean: what is stored, and its removal."""

from __future__ import annotations

from typing import Annotated

import typer

from dro.cli.common import AsJson, show, table_of
from dro.errors import DroError


def clean(
    remove: Annotated[
        list[str] | None,
        typer.Option(help="models, spaces, runs, trash, benchmarks, shards, leftovers, or all. May be "
                     "given several times."),
    ] = None,
    older: Annotated[float, typer.Option(min=0, help="Only what was last written so many days ago.")] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what is stored on this machine and where, and remove what is named."""
    from dro import stored
    from dro.sources import cache_folder

    kinds = list(stored.KINDS) if "all" in (remove or ()) else list(remove or ())
    there = stored.kept()
    if not remove:
        rows = [(kind, [each for each in there if each.kind == kind]) for kind in stored.KINDS]
        table = table_of("kind", ">number", ">MB", "what it holds", title=str(cache_folder()))
        for kind, those in rows:
            megabytes = sum(one.bytes for one in those) / 1e6
            table.add_row(kind, str(len(those)), f"{megabytes:,.1f}", stored.KINDS[kind])
        told = [
            {"kind": e.kind, "path": str(e.path), "bytes": e.bytes, "days": round(e.days, 2)} for e in there
        ]
        show({"store": str(cache_folder()), "kept": told}, table, as_json)
        return
    stored.check(kinds)
    chosen = [each for each in there if each.kind in kinds and each.days >= older]
    size = sum(each.bytes for each in chosen) / 1e6
    question = f"Remove {len(chosen)} things, {size:,.1f} MB, from {cache_folder()}?"
    if chosen and not yes and not typer.confirm(question, err=True):
        raise DroError("Nothing was removed.", "Answer y, or give --yes.")
    gone, left = stored.remove(kinds, older)
    table = table_of("removed", ">MB")
    for each in gone:
        table.add_row(str(each.path), f"{each.bytes / 1e6:,.1f}")
    for reason in left:
        table.add_row(f"kept: {reason}", "")
    show({"removed": [str(each.path) for each in gone], "kept": left}, table, as_json)
