"""The anchors of a space at every layer of its model: where they lie, and what is linearly readable there.

Each layer has a projection of its own, as wide as the space's; the last layer's is the space's itself.
Pictures show the first two components. A layer's components come in any order and sign, so its picture is
turned, and mirrored where need be, onto the next layer's (orthogonal Procrustes), from the last to the first:
axes neither swap nor flip between two pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dro import probes, projection, readable
from dro.errors import StoreError
from dro.readable import Estimate
from dro.sources import Progress, silent
from dro.space import Space

if TYPE_CHECKING:
    # torch comes with these: a result can be drawn without it.
    from dro.models import ChatModel
    from dro.states import PrefixCache

SHOWN = 2
"""Components of a picture."""
BASE = "none"
"""Shifts are told against this prompt."""
_STATES = 0.5
"""Share of the work that is taking states; the rest is fitting."""


@dataclass(frozen=True)
class Reading:
    """What is linearly readable at one layer, on pairs left out of the fit.

    harmfulness: accuracy over all anchors. refusal: AUC among one prompt's harmful queries, median over
    prompts; by_prompt: each prompt's own. cosine: of the layer's refusal direction with the last layer's,
    both in d_model dimensions. shifts: ‖mean under a prompt − mean under none‖, by prompt, in the layer's
    spread. The refusal fields are None in a space without a refusal probe, and `cosine` also where all
    states are alike.
    """

    harmfulness: Estimate
    refusal: Estimate | None
    by_prompt: Mapping[str, float | None]
    cosine: float | None
    shifts: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        return {
            "harmfulness_accuracy": self.harmfulness.as_dict(),
            "refusal_auc": self.refusal and self.refusal.as_dict(),
            "refusal_auc_by_prompt": _rounded(self.by_prompt),
            "cosine_with_last": None if self.cosine is None else round(self.cosine, 4),
            "shifts": _rounded(self.shifts),
        }


@dataclass(frozen=True, eq=False)
class Layers:
    """The frozen result; layer 0 is the embedding, the last one is after the final norm.

    Attributes
    ----------
    coordinates: (layers, rows, 2) from the anchors' mean, in the layer's spread; rows as in the space's
        anchors. arrows: (layers, 2), the unit refusal direction (d_model,) as the plane holds it, so its
        length is the share that is seen; zero where there is none.
    spread: (layers,), root mean squared distance of a state from its prompt's mean, over all d_model.
    explained: (layers,), share of the states' variance that the plane holds.
    readings: one for each layer. provenance: the space's name, and what its figures were made with.
    """

    coordinates: np.ndarray
    arrows: np.ndarray
    spread: np.ndarray
    explained: np.ndarray
    readings: tuple[Reading, ...]
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        count = len(self.readings)
        shapes = (self.coordinates.shape[::2], self.arrows.shape, self.spread.shape, self.explained.shape)
        if shapes != ((count, SHOWN), (count, SHOWN), (count,), (count,)):
            raise StoreError(f"Layers of {count} readings have arrays of {shapes}.", "Fit them anew.")

    def __len__(self) -> int:
        return len(self.readings)

    def check_space(self, space: Space) -> None:
        """Raise StoreError unless these are the layers of that very space, and so of its model."""
        rows = len(space.anchors.coordinates)
        if self.provenance["space"] != space.name or self.coordinates.shape[1] != rows:
            raise StoreError(
                f"These layers belong to {self.provenance['space']}, not to {space.name}.",
                "Fit them for this model and space: python -m dro layers",
            )


def fit(
    space: Space,
    model: ChatModel,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
    prefixes: PrefixCache | None = None,
) -> Layers:
    """Take the anchors' states at every layer under the space's prompts, one pass over them, and read them.

    checkpoint: called between passes and between layers; may raise to stop. StoreError for a model that
    is not the space's.
    """
    from dro.prompts import resolve
    from dro.states import states_by_layer

    space.check_model(model)
    names, queries = space.anchors.conditions, space.anchors.queries
    states = []
    for number, name in enumerate(names):

        def note(label: str, share: float, number: int = number) -> None:
            progress(label, _STATES * (number + share) / len(names))

        states.append(states_by_layer(model, resolve(name, model), queries, prefixes, note, checkpoint))
    return build(space, np.concatenate(states), progress, checkpoint)


def build(
    space: Space,
    states: np.ndarray,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> Layers:
    """The result from states (rows, layers, d_model); rows as in the space's anchors."""
    count = states.shape[1]
    anchors, seed = space.anchors, int(space.provenance["seed"])
    prompts = np.repeat(np.arange(len(anchors.conditions)), len(anchors.queries))
    views: list[_View] = []
    last: np.ndarray | None = None
    for layer in range(count - 1, -1, -1):
        checkpoint()
        progress(f"Reading layer {layer}", _STATES + (1 - _STATES) * (count - 1 - layer) / count)
        there = states[:, layer].astype(np.float64)
        view = _view(space, there, prompts, seed, layer == count - 1, last)
        if last is None:
            last = view.direction
        views.insert(0, view)
    turned = chained([view.plane for view in views])
    progress("Reading layers", 1.0)
    return Layers(
        np.stack([v.plane @ turn for v, turn in zip(views, turned, strict=True)]).astype(np.float32),
        np.stack([v.arrow @ turn for v, turn in zip(views, turned, strict=True)]).astype(np.float32),
        np.array([v.spread for v in views]),
        np.array([v.explained for v in views]),
        tuple(v.reading for v in views),
        {
            "space": space.name,
            **{key: space.provenance[key] for key in ("model", "revision", "precision", "projection", "m")},
            "layers": "0 is the embedding of the last token, the last one is after the final norm",
            "interval": f"95%, {readable.DRAWS} draws of whole pairs",
            "seed": seed,
        },
    )


def chained(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """For each picture (n, k) the orthogonal (k, k) that lays it, so turned, best onto the next one as that
    was turned; the last one stays as it is. A picture of no extent is passed over."""
    width = pictures[-1].shape[1]
    turns = [np.eye(width)]
    target = pictures[-1]
    for picture in reversed(pictures[:-1]):
        if picture.any():
            turns.insert(0, procrustes(picture, target))
            target = picture @ turns[0]
        else:
            turns.insert(0, turns[0])
    return turns


def procrustes(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The orthogonal R (k, k) that minimises ‖source R − target‖; both (n, k), centred (Schönemann 1966)."""
    left, _, right = np.linalg.svd(source.T @ target)
    return left @ right


@dataclass(frozen=True, eq=False)
class _View:
    """One layer before it is turned. plane: (rows, 2) in spreads. direction: (d_model,), unit, or None."""

    plane: np.ndarray
    arrow: np.ndarray
    direction: np.ndarray | None
    spread: float
    explained: float
    reading: Reading


def _view(
    space: Space, states: np.ndarray, prompts: np.ndarray, seed: int, is_last: bool, last: np.ndarray | None
) -> _View:
    """One layer's states (rows, d_model); `last`: the last layer's refusal direction, once it is known."""
    anchors = space.anchors
    kinds = len(anchors.conditions)
    harmful, pair = np.tile(anchors.harmful, kinds), np.tile(anchors.pair, kinds)
    means = np.stack([states[prompts == k].mean(axis=0) for k in range(kinds)])
    spread = float(np.sqrt(((states - means[prompts]) ** 2).sum(axis=1).mean()))
    alike = spread <= 1e-6 * float(np.abs(states).max())
    base = means[anchors.conditions.index(BASE)]
    shifts = {
        name: 0.0 if alike else float(np.linalg.norm(mean - base)) / spread
        for name, mean in zip(anchors.conditions, means, strict=True) if name != BASE
    }  # fmt: skip
    if alike:
        # The same token for every query, as at the embedding: nothing can be read there.
        by_prompt = dict.fromkeys(anchors.conditions)
        refusal = readable.CHANCE if space.refusal else None
        reading = Reading(readable.CHANCE, refusal, by_prompt, None, shifts)
        return _View(np.zeros((len(states), SHOWN)), np.zeros(SHOWN), None, spread, 0.0, reading)
    fitted = space.projection if is_last else projection.fit(
        states, harmful, min(space.projection.m, min(states.shape)),
        pair if space.provenance["projection"] == "PCA within pairs" else None,
    )  # fmt: skip
    coordinates = anchors.coordinates if is_last else fitted.coordinates(states)
    left_out = probes.fit(coordinates, harmful.astype(float), pair, seed).held_out
    harmfulness = readable.accuracy(left_out, harmful, pair, seed)
    refusal, direction, arrow = None, None, np.zeros(SHOWN)
    each: list[float | None] = [None] * kinds
    basis = np.pad(fitted.basis, ((0, 0), (0, max(0, SHOWN - fitted.m))))
    if space.refusal is not None:
        found = probes.fit(coordinates, anchors.refusal_rate, pair, seed)
        groups = [np.flatnonzero((prompts == k) & harmful) for k in range(kinds)]
        refusal, each = readable.auc_among(found.held_out, anchors.refusal_rate, groups, pair, seed)
        weight = space.refusal.weight if is_last else found.probe.weight
        direction = fitted.basis @ weight
        direction /= np.linalg.norm(direction)
        arrow = direction @ basis[:, :SHOWN]
    cosine = None if direction is None else float(direction @ (direction if last is None else last))
    reading = Reading(harmfulness, refusal, dict(zip(anchors.conditions, each, strict=True)), cosine, shifts)
    plane = (coordinates @ np.eye(fitted.m, SHOWN)) / spread
    plane -= plane.mean(axis=0)
    explained = float(fitted.explained[:SHOWN].sum())
    return _View(plane, arrow, direction, spread, explained, reading)


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in values.items()}
