"""What colours and shapes of points say; every difference of colour is a difference of shape as well.

Harmful points are filled and harmless ones are rings, in every colouring. The colours were chosen for
people who confuse red with green, or blue with yellow, too: tests hold their distances.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Colour = Literal["class", "verdict", "prompt", "refusal"]
HARMFUL, HARMLESS, DIRECTION, QUERY = "#e4572e", "#2e86ab", "#8f6bd1", "#f2b134"
VERDICTS = {"refused": "#7a4fd0", "answered": "#2bb39b", "unknown": "#8c8c8c"}
PROMPTS = ("#0072b2", "#e69f00", "#56b4e9", "#d55e00", "#cc79a7", "#7f7f7f")
PROMPT_SHAPES = ("octagon", "diamond", "triangle-up", "pentagon", "triangle-down", "hexagon")
"""Two prompts of one colour, where there are more than six, have neither the same shape nor lie beside
each other in the list."""
REFUSAL_SCALE = [[0.0, "#2e6fb0"], [0.5, "#b9b9b9"], [1.0, "#e08a00"]]
# Octagons, not circles: plotly glides a shape's outline, and that of a circle cannot turn into a diamond.
REFUSED, ANSWERED, UNASKED = "diamond", "octagon", "triangle-up"
_FLAT = {"octagon": "circle", "pentagon": "circle", "hexagon": "circle", "triangle-up": "square",
         "triangle-down": "square"}  # fmt: skip
"""Three dimensions have fewer shapes."""


def verdict_of(rate: float) -> str:
    """refused, answered, or unknown, from the share of answers that refused."""
    return "unknown" if np.isnan(rate) else "refused" if rate >= 0.5 else "answered"


def probability(logits: np.ndarray) -> np.ndarray:
    """σ(logits)."""
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


def key(kind: str, prompt: str, index: int) -> str:
    """What names a point in the events of a plot: nothing of what was typed."""
    return f"{kind}.{hashlib.sha256(prompt.encode()).hexdigest()[:10]}.{index}"


def marks(
    colour: Colour,
    harmful: bool | np.ndarray,
    rates: np.ndarray,
    logits: np.ndarray | None,
    numbers: Sequence[int] | np.ndarray,
    three: bool = False,
) -> dict[str, Any]:
    """Colours and shapes of n points as plotly's marker has them.

    harmful: of all, or (n,) bool. rates: (n,) share of refusals, NaN where unknown. logits: (n,) f_r.
    numbers: (n,) each point's prompt, by its place in the list of prompts.
    """
    filled = np.broadcast_to(harmful, rates.shape)
    verdicts = [verdict_of(rate) for rate in rates]
    shapes = [{"refused": REFUSED, "answered": ANSWERED, "unknown": UNASKED}[v] for v in verdicts]
    made: dict[str, Any] = {}
    if colour == "verdict":
        made["color"] = [VERDICTS[v] for v in verdicts]
    elif colour == "prompt":
        made["color"] = [PROMPTS[n % len(PROMPTS)] for n in numbers]
        shapes = [PROMPT_SHAPES[(n + n // len(PROMPTS)) % len(PROMPT_SHAPES)] for n in numbers]
    elif colour == "refusal" and logits is not None:
        made |= {"color": [round(float(p), 3) for p in probability(logits)], "colorscale": REFUSAL_SCALE,
                 "cmin": 0, "cmax": 1}  # fmt: skip
        shapes = [REFUSED if logit >= 0 else ANSWERED for logit in logits]
    else:
        made["color"] = [HARMFUL if each else HARMLESS for each in filled]
    if three:
        shapes = [_FLAT.get(shape, shape) for shape in shapes]
    made["symbol"] = [s if full else f"{s}-open" for s, full in zip(shapes, filled, strict=True)]
    return made
