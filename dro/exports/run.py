"""Export a prompt in one of the formats, and import one: what the command line and the page do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dro import outline, store
from dro.errors import DataError, StoreError
from dro.exports import FORMATS, INNER, bundle, card, hub
from dro.exports.bundle import Bundle
from dro.models import ChatModel
from dro.outline import Outline


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, the files in it, warnings, and where it was pushed to ("": nowhere)."""

    folder: Path
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    address: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "files": list(self.files), "warnings": list(self.warnings),
                "address": self.address}  # fmt: skip


def export(
    source: str | Path,
    kind: str,
    folder: Path,
    known: Outline,
    load: Callable[[], ChatModel],
    force: bool = False,
    push: str = "",
    rates: Sequence[Mapping[str, Any]] = (),
    base: str = "",
    licence: str = "",
) -> Exported:
    """Write the prompt of a run, or of an earlier export, into a new folder.

    Parameters
    ----------
    kind: one of `FORMATS`. known: the model it is for. load: loads that model; called for kinds that need it.
    force: take another revision, with a warning. push: ORG/NAME on the Hub. rates: more rows for the card.
    base: what adapters and servers are told to load (default: where the model was loaded from, or its
        repository on the Hub when it is pushed there). licence: of what is written (default: the model's).

    Raises
    ------
    DataError: an unknown format. StoreError: no finished prompt, another model, a folder that is not empty.
    ModelError: the model cannot take that form.
    """
    if kind not in FORMATS:
        raise DataError(f"There is no format {kind!r}.", f"Use one of {', '.join(FORMATS)}.")
    if push:
        hub.check_name(push)
    taken = bundle.own_rates(bundle.read(source), rates)
    told = bundle.described(taken, known)
    warnings = bundle.check(taken, known, force)
    if licence:
        told["licence"] = licence
    served = base or (known.hub_id if push and known.hub_id else known.source)
    with store.new_folder(folder) as made:
        how = _write(kind, taken, made, served, load)
        bundle.write(taken, made / INNER if kind == "model" else made, told)
        title = f"Safety prompt for {known.hub_id or known.name}"
        text = card.readme(taken, told, kind, title, str(told["licence"]), how)
        store.write_bytes(made / "README.md", text.encode())
    address = hub.push(folder, push) if push else ""
    return Exported(folder, _files(folder), tuple(warnings), address)


def precision_of(source: str | Path) -> str:
    """The precision that a prompt was trained in, as far as a model can be written in it: bf16 or fp32."""
    return "fp32" if bundle.read(source).card.get("precision") == "fp32" else "bf16"


def _write(kind: str, taken: Bundle, made: Path, base: str, load: Callable[[], ChatModel]) -> dict[str, Any]:
    """Write what is special to a format; returns what its card says."""
    if kind == "safetensors":
        return {}
    model = load()
    if outline.of_model(model).d_model != taken.shape[1]:
        raise StoreError(f"{model.name} has another width than was said.", "Name the model again.")
    if kind == "model":
        from dro.exports import drop_in

        return {"tokens": len(drop_in.write(model, taken.prompt, made).ids)}
    if kind == "peft":
        from dro.exports import adapter

        adapter.write(model, taken.prompt, made, base)
        return {"virtual": store.read_json(made / "adapter_config.json")["num_virtual_tokens"]}
    from dro.exports import embeds

    told = embeds.write(model, taken.prompt, made, base)
    return {**told, "way_names": ", ".join(told["ways"])}


def bring_in(source: str, folder: Path, known: Outline, init: str = "", force: bool = False) -> Exported:
    """Import a prompt into a folder that `--prompt` takes, checked against the model it is to be used with.

    source: an exported folder or a run's, a .safetensors file with one tensor `soft_prompt`, or hub:ORG/NAME.
    init: the text it was trained from, where it comes without a card.

    Raises
    ------
    StoreError: not there, damaged, or made for another width, model, template or (without force) revision.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = hub.pull(source, Path(temporary)) if source.startswith(hub.PREFIX) else source
        taken = bundle.read(place)
    if init and taken.card:
        raise DataError("The prompt's card says which text it began with.", "Leave --init out.")
    if init:
        taken = taken.started_from(init)
    warnings = bundle.check(taken, known, force)
    with store.new_folder(folder) as made:
        bundle.write(taken, made, bundle.adopted(taken, known))
    return Exported(folder, _files(folder), tuple(warnings))


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
