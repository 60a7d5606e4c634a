"""Html of trained prompts: the gallery, and one of them, or two, opened up. What was typed is text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from explorer import text
from explorer.cards import duration, prompt_label, quiet
from explorer.looking_cards import button, visible

Measured = tuple[float, float, float]
"""A rate and its 95% interval."""


@dataclass(frozen=True)
class Card:
    """One run in the gallery.

    phase: in words. before, after: refusal rates by class. mine: who looks may rename
    and delete it. chosen: it is opened or compared now.
    """

    name: str
    preset: str
    created: float
    phase: str
    steps: int
    before: Mapping[str, Measured]
    after: Mapping[str, Measured]
    pictures: Sequence[str]
    mine: bool
    chosen: bool


def gallery(cards: Sequence[Card], total: int) -> str:
    """Cards of runs, in the order given; total: how many runs there are."""
    if not cards:
        return quiet(text.NO_RUN)
    cut = f"<p class='caption'>{text.GALLERY_CUT.format(most=len(cards))}</p>" if len(cards) < total else ""
    return f"{cut}<div class='gallery' role='list'>{''.join(map(_card, cards))}</div>"


def _card(card: Card) -> str:
    begun = date(card.created)
    open_, compare = (button(what, card.name, label) for what, label in
                      (("open", text.OPEN), ("compare", text.COMPARE_RUN)))  # fmt: skip
    own = "".join(button(what, card.name, label) for what, label in
                  (("rename", text.RENAME), ("delete", text.DELETE))) if card.mine else ""  # fmt: skip
    rates = "".join(
        f"<li class='{label}'>{label} refused <b>{_moved(card, label)}</b></li>" for label in card.after
    )
    chosen = " chosen" if card.chosen else ""
    return (
        f"<article class='run{chosen}' role='listitem' aria-label='{escape(card.name)}'>"
        f"<header>{prompt_label(card.name)}<small>{begun}</small></header>"
        f"<div class='thumbs'>{''.join(card.pictures)}</div><ul>{rates or f'<li>{text.UNMEASURED}</li>'}</ul>"
        f"<p class='quiet'>{escape(card.preset)}, {card.steps} steps · {escape(card.phase)}</p>"
        f"<div class='buttons'>{open_}{compare}{own}</div></article>"
    )


def _moved(card: Card, label: str) -> str:
    now = f"{card.after[label][0]:.0%}"
    return f"{card.before[label][0]:.0%} → {now}" if label in card.before else now


def date(seconds: float) -> str:
    """A moment on the server's clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def trash(runs: Mapping[str, tuple[str, float]]) -> str:
    """Deleted runs that may come back: by key, name and date."""
    if not runs:
        return ""
    rows = "".join(
        f"<li>{prompt_label(name)} <small>{date(created)}</small> {button('restore', key, text.RESTORE)}</li>"
        for key, (name, created) in runs.items()
    )
    summary = text.TRASH.format(count=len(runs))
    return f"<details class='trash'><summary>{summary}</summary><ul>{rows}</ul></details>"


def undo(name: str, key: str) -> str:
    """What was deleted just now, with the way back."""
    told = text.DELETED.format(name=prompt_label(name))
    return f"<p class='undo' role='status'>{told} {button('restore', key, text.UNDO) if key else ''}</p>"


def settings(
    names: Sequence[str],
    told: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    usual: Mapping[str, Any],
) -> str:
    """Settings of one run, those that differ from `usual` set off; or those in which two differ."""
    keys = [key for key in told[0] if len(told) == 1 or told[0][key] != told[1].get(key)]
    if not keys:
        return f"<p class='caption'>{text.SAME_SETTINGS}</p>"
    lines = []
    for key in keys:
        label = escape(labels.get(key, key.replace("_", " ")))
        odd = len(told) == 1 and bool(usual) and usual.get(key) != told[0][key]
        note = f"<small>{text.USUALLY.format(value=_value(usual[key]))}</small>" if odd else ""
        cells = "".join(f"<td>{_value(each.get(key))}{note}</td>" for each in told)
        lines.append(f"<tr><th scope='row'>{label}</th>{cells}</tr>")
    heads = "".join(f"<th scope='col'>{prompt_label(name)}</th>" for name in names)
    said = f"<p class='caption'>{text.OTHER_SETTINGS}</p>" if len(told) == 2 else ""
    return (
        f"<div class='scroll'><table class='facts settings'><thead><tr><th scope='col'>{text.SETTING}</th>"
        f"{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>{said}"
    )


def _value(value: Any) -> str:
    told = f"{value:g}" if isinstance(value, float) else str(value)
    if told.startswith("text:"):
        told = f"“{told.removeprefix('text:')}”"
    return escape(told) or "–"


@dataclass(frozen=True)
class VectorRow:
    """One vector: its token at the start, lengths, and the nearest tokens now with their cosines."""

    token: str
    norm: float
    start_norm: float
    drift: float
    nearest: Sequence[tuple[str, float]]


def vectors(rows: Sequence[VectorRow]) -> str:
    """The vectors of a trained prompt, in order, and what became of them in a sentence."""
    lines = []
    for number, row in enumerate(rows, 1):
        near = " ".join(f"<span class='token'>{_token(t)} {c:.2f}</span>" for t, c in row.nearest)
        lines.append(
            f"<tr><td class='number'>{number}</td><th scope='row'>{_token(row.token)}</th>"
            f"<td class='number'>{row.start_norm:.3f}</td><td class='number'>{row.norm:.3f}</td>"
            f"<td class='number'>{row.drift:.3f}</td><td>{near}</td></tr>"
        )
    shares = sorted(row.drift / row.start_norm for row in rows if row.start_norm > 0)
    kept = sum(bool(row.nearest) and row.nearest[0][0] == row.token for row in rows)
    told = text.VECTORS_TOLD.format(
        kept=kept, count=len(rows), share=shares[len(shares) // 2] if shares else 0.0
    )
    heads = "".join(f"<th scope='col'>{head}</th>" for head in text.VECTOR_HEADS)
    return (
        f"<p class='caption'>{told}</p><div class='scroll tall' tabindex='0'><table class='facts vectors'>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _token(told: str) -> str:
    return f"<code>{escape(visible(told)) or '&nbsp;'}</code>"


def provenance(card: Mapping[str, Any], digest: str, created: float, seconds: float) -> str:
    """Where a trained prompt comes from: the file beside its vectors, in words."""
    revision = str(card.get("revision"))[:12]
    facts = {
        "model": f"{card.get('base_model')}, revision {revision}, {card.get('precision')}",
        "space": card.get("space"),
        "started from": str(card.get("init")).removeprefix("text:"),
        "vectors": f"{card.get('n_tokens')} × {card.get('d_model')}, content {digest}",
        "steps": f"{card.get('steps')} taken; that of step {card.get('chosen', card.get('steps'))} was kept",
        "begun": f"{date(created)}, {duration(seconds)} in steps",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(str(told))}</dd>" for name, told in facts.items())
    return f"<dl class='provenance'>{rows}</dl>"
