"""What a layer's figures say, in plain words; nothing beyond them."""

from __future__ import annotations

import numpy as np

from explorer import text
from explorer.layer_views import Morph, Readable, best, onset


def at(morph: Morph, readable: Readable, layer: int) -> str:
    """One layer: what is read there, and how much of it the picture holds."""
    where = {0: " (the embedding)", readable.last: " (after the final norm)"}.get(layer, "")
    head = f"<b>Layer {layer} of {readable.last}{where}.</b> "
    if not morph.frames[layer].any():
        return _note(
            head + "Every query ends in the same token, so all anchors lie on one point: nothing can be read."
        )
    accuracy, low, high = readable.harmfulness[layer]
    parts = [
        f"Harmful or harmless: {accuracy:.0%} [{low:.0%}, {high:.0%}] of left-out anchors lie on their own "
        "side (chance 50%)."
    ]
    if not np.isnan(readable.refusal[layer, 0]):
        value, low, high = readable.refusal[layer]
        parts.append(
            f"Refused or answered, among one prompt's harmful queries: AUC {value:.2f} "
            f"[{low:.2f}, {high:.2f}] (chance 0.50)."
        )
    if not np.isnan(readable.cosine[layer]):
        parts.append(
            f"Refusal direction: cosine {readable.cosine[layer]:+.2f} with the last layer's "
            f"(two random ones: ±{2 / np.sqrt(readable.d_model):.2f})."
        )
    seen = f" and {morph.seen[layer]:.0%} of that direction's length" if morph.seen[layer] else ""
    away = f"; {morph.outside[layer]:,} points lie outside it" if morph.outside[layer] else ""
    parts.append(f"This plane holds {morph.explained[layer]:.0%} of the variance{seen}{away}.")
    return _note(head + " ".join(parts))


def summary(readable: Readable) -> str:
    """From which layer on each is readable, and where most."""
    lines = [_line("Harmful or harmless", readable.harmfulness, "", "{:.0%}")]
    if not np.isnan(readable.refusal).all():
        what = "Refused or answered, among one prompt's harmful queries"
        lines.append(_line(what, readable.refusal, "AUC ", "{:.2f}"))
    items = "".join(f"<li>{line}</li>" for line in lines)
    claim = text.LAYERS_CLAIM.format(width=readable.width)
    return f"<ul class='onsets'>{items}</ul><p class='caption'>{claim}</p>"


def legend() -> str:
    """What colours and shapes mean."""
    keys = (
        '<i class="dot harmful"></i>harmful', '<i class="dot harmless"></i>harmless',
        '<i class="shape">◆</i>refused', '<i class="shape">●</i>answered',
        '<i class="shape">■</i>mean under a prompt',
        '<i class="arrow">➜</i>refusal direction',
    )  # fmt: skip
    spans = "".join(f'<span class="key">{key}</span>' for key in keys)
    return f'<div class="legend">{spans}</div>'


def _line(what: str, estimates: np.ndarray, unit: str, form: str) -> str:
    known = np.where(np.isnan(estimates), 0.0, estimates)
    first, top = onset(known), best(estimates)
    value, low, high = (form.format(v) for v in estimates[top])
    if first is None:
        return f"<b>{what}</b>: not readable above chance at the last layer."
    where = "at every layer" if first == 0 else f"from layer {first} on"
    return (
        f"<b>{what}</b>: readable above chance {where}; highest at layer {top} "
        f"({unit}{value}, 95% {low} to {high})."
    )


def _note(words: str) -> str:
    return f"<p class='layer-note'>{words}</p>"
