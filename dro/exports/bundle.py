"""A trained prompt with all that is known of it: read from a run, a file or an export, checked, written.

The layout is that of a run's folder: soft_prompt.safetensors, dro_prompt.json and, where it was measured,
held_out.json. A file by itself, with one tensor `soft_prompt` as the paper's authors share theirs, says
nothing of its model: only its width can be held against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dro import prompts, store
from dro.errors import DataError, StoreError
from dro.exports import INNER
from dro.held_out import FILE as HELD_OUT_FILE
from dro.outline import Outline
from dro.prompts import SafetyPrompt

_RATE = {"prompt": str, "set": str, "class": str, "n": int, "rate": float, "low": float, "high": float,
         "judge": str}  # fmt: skip
_ANOTHER = "Give the model it was trained on: --model NAME."


@dataclass(frozen=True, eq=False)
class Bundle:
    """A soft prompt, its card as in dro_prompt.json ({} without one), its rates on held-out queries."""

    prompt: SafetyPrompt
    card: Mapping[str, Any]
    rates: tuple[Mapping[str, Any], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(n_tokens, d_model)."""
        assert self.prompt.vectors is not None
        return self.prompt.vectors.shape

    def started_from(self, text: str) -> Bundle:
        """The same with another starting text, which decides where the slot is cut."""
        return replace(self, prompt=replace(self.prompt, text=text))


def read(source: str | Path) -> Bundle:
    """The bundle in a run's folder, an exported folder, or a .safetensors file.

    Raises
    ------
    StoreError: a file is missing, damaged, or not what its card says.
    """
    if (Path(source) / INNER).is_dir():
        source = Path(source) / INNER
    vectors, card = prompts.read(source)
    text = card.get("init_text", prompts.HUMAN["short"])
    prompt = SafetyPrompt(str(source), text, vectors)
    digest = card.get("digest")
    if digest is not None and digest != prompt.digest:
        raise StoreError(
            f"The vectors in {source} have the hash {prompt.digest}; their card says {digest}.",
            "One of the two files was changed: fetch both anew.",
        )
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    path = folder / HELD_OUT_FILE
    rates = checked_rates(store.read_json(path).get("results"), path) if card and path.is_file() else ()
    return Bundle(prompt, card, rates)


def checked_rates(rows: Any, path: Path) -> tuple[Mapping[str, Any], ...]:
    """Rows of an evaluation; StoreError where they are none."""
    if not isinstance(rows, list) or not all(_is_rate(row) for row in rows):
        raise StoreError(f"{path} holds no rates.", "Write it anew: python -m dro evaluate --json.")
    return tuple(rows)


def _is_rate(row: Any) -> bool:
    return isinstance(row, dict) and all(
        isinstance(row.get(name), int | float if kind is float else kind) for name, kind in _RATE.items()
    )


def check(bundle: Bundle, model: Outline, force: bool = False) -> list[str]:
    """Hold a prompt against a model; returns warnings.

    Raises
    ------
    StoreError: the width, the model or the template is another (both are named); so is the revision, and
        `force` is not set.
    """
    width, card = bundle.shape[1], bundle.card
    if width != model.d_model:
        raise StoreError(
            f"The soft prompt has width {width}, but {model.name} has width {model.d_model}.", _ANOTHER
        )
    if not card:
        return [f"Nothing but the width says that this prompt belongs to {model.name}: it comes without a "
                f"{prompts.CARD_FILE}."]  # fmt: skip
    theirs, ours = str(card.get("base_model", "")), {model.name, model.hub_id, model.source}
    if theirs not in ours and card.get("hub_id") not in ours - {None}:
        named = theirs or "no model that it names"
        raise StoreError(f"The prompt was trained on {named}, but this is {model.name}.", _ANOTHER)
    template = str(card.get("rendering", ""))
    if template != model.template:
        raise StoreError(
            f"The prompt was trained with the template {template or '(not named)'}, but {model.name} writes "
            f"its turns with the template {model.template}.",
            "Give the rendering it was trained with: --rendering FILE.",
        )
    revision = str(card.get("revision", ""))
    if not revision or not model.revision:
        return [f"The revision could not be compared: {revision or 'not named'} in the card, "
                f"{model.revision or 'not known without loading'} here."]  # fmt: skip
    if revision == model.revision:
        return []
    told = (
        f"The prompt was trained on revision {revision} of {theirs}, but this is revision {model.revision}."
    )
    if not force:
        raise StoreError(told, "Use that revision, or --force to take the risk; then measure it anew.")
    return [f"{told} Measure it anew before you trust it."]


def described(bundle: Bundle, model: Outline) -> dict[str, Any]:
    """The card as it leaves: what it said, and what a reader elsewhere needs to know beside it."""
    if not bundle.card:
        raise DataError(
            f"{bundle.prompt.name} says nothing of the model it is for.",
            "Import it first: python -m dro import FILE --model NAME --out FOLDER.",
        )
    return {
        **bundle.card,
        "hub_id": bundle.card.get("hub_id") or model.hub_id,
        "licence": bundle.card.get("licence") or model.licence,
        "dtype": "float32",
        "digest": bundle.prompt.digest,
    }


def adopted(bundle: Bundle, model: Outline) -> dict[str, Any]:
    """The card of an imported prompt: its own, or what importing it into a model says."""
    rows, width = bundle.shape
    return {
        "format": 1, "base_model": model.name, "revision": model.revision, "precision": "unknown",
        "rendering": model.template, "n_tokens": rows, "d_model": width, "origin": "imported",
        **{name: value for name, value in bundle.card.items() if name != "init_text"},
        "digest": bundle.prompt.digest,
    }  # fmt: skip


def write(bundle: Bundle, folder: Path, card: Mapping[str, Any]) -> None:
    """Write the layout of a run's folder."""
    prompts.save(bundle.prompt, folder, card)
    if bundle.rates:
        store.write_json(folder / HELD_OUT_FILE, {"results": list(bundle.rates)})


def own_rates(bundle: Bundle, more: Sequence[Mapping[str, Any]]) -> Bundle:
    """The same with further rates, which replace those of the same prompt, set and class."""
    kept = {(row["prompt"], row["set"], row["class"]): row for row in (*bundle.rates, *more)}
    return replace(bundle, rates=tuple(kept.values()))
