"""A Space: the frozen, named frame in which queries are placed. Projection + Probes + provenance.

New queries and new runs are placed in it and never refitted silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dro.errors import DroError, StoreError
from dro.models import key_of
from dro.probes import Probe
from dro.projection import Projection
from dro.prompts import SafetyPrompt
from dro.sources import cache_folder
from dro.store import content_hash, read_json, write_bytes, write_json

if TYPE_CHECKING:
    # torch comes with these: a space can be drawn without it.
    from dro.first_token import Openings
    from dro.models import ChatModel
    from dro.states import PrefixCache

FORMAT = 1
ARRAYS_FILE, DESCRIPTION_FILE = "space.safetensors", "space.json"
SHIPPED = Path(__file__).resolve().parent.parent / "assets" / "spaces"


@dataclass(frozen=True, eq=False)
class Anchors:
    """The states a space was fitted on, as coordinates: one row per (condition, query).

    Attributes
    ----------
    queries: the anchor queries, in order. harmful: (q,) bool. pair: (q,) int.
    conditions: prompt names, in order; rows go condition by condition.
    coordinates: (c·q, m). refusal_rate: (c·q,), share of the model's own answers that refused.
    residual: (c·q,), squared distance from V, per direction outside it.
    """

    queries: tuple[str, ...]
    harmful: np.ndarray
    pair: np.ndarray
    conditions: tuple[str, ...]
    coordinates: np.ndarray
    refusal_rate: np.ndarray
    residual: np.ndarray

    def __post_init__(self) -> None:
        rows = len(self.conditions) * len(self.queries)
        lengths = {len(self.coordinates), len(self.refusal_rate), len(self.residual)}
        if lengths != {rows} or len(self.harmful) != len(self.queries) != len(self.pair):
            raise StoreError(f"The anchors of this space have {lengths} rows, not {rows}.", "Fit it anew.")

    def rows(self, condition: str) -> slice:
        """The rows of one condition."""
        start = self.conditions.index(condition) * len(self.queries)
        return slice(start, start + len(self.queries))


@dataclass(frozen=True)
class Point:
    """Where one query lies under one prompt.

    coordinates: m numbers. The refusal fields are None in a space without a refusal probe.
    beyond: it lies farther out than any anchor, where the probes were never fitted (`Space.beyond`).
    """

    prompt: str
    coordinates: tuple[float, ...]
    refusal_logit: float | None
    refusal_probability: float | None
    harmfulness_logit: float
    beyond: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "coordinates": list(self.coordinates),
            "refusal_logit": self.refusal_logit,
            "refusal_probability": self.refusal_probability,
            "harmfulness_logit": self.harmfulness_logit,
        }


@dataclass(frozen=True, eq=False)
class Space:
    """A frozen space.

    Attributes
    ----------
    projection: states -> coordinates. harmfulness, refusal: probes on coordinates; `refusal` is None
        where fewer than ten refusals were found, and `why_no_refusal` then says so.
    provenance: model, revision, precision, prompts, anchors, labels, m, seed.
    health: the report of the fit, a list of checks.
    openings: first tokens of the answers behind the labels, each with how many of its answers refused
        and how many it opened (see `first_token`); empty in spaces fitted before they were counted.
    """

    projection: Projection
    harmfulness: Probe
    refusal: Probe | None
    anchors: Anchors
    provenance: Mapping[str, Any]
    health: Sequence[Mapping[str, Any]]
    why_no_refusal: str = ""
    openings: Openings = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Model, precision, m and the hash of everything the space was fitted from."""
        made = self.provenance
        return f"{made['model']}-{made['precision']}-m{self.projection.m}-{content_hash(dict(made))[:8]}"

    @property
    def key(self) -> str:
        """The key of the model it belongs to."""
        made = self.provenance
        return key_of(made["model"], made["revision"], made["precision"])

    def need_refusal(self) -> Probe:
        """The refusal probe, or a StoreError that says why there is none."""
        if self.refusal is None:
            raise StoreError(f"{self.name} has no refusal probe: {self.why_no_refusal}",
                             "Fit a space with more anchors, or choose another model.")  # fmt: skip
        return self.refusal

    def need_openings(self) -> Openings:
        """The first tokens of refusals, or a StoreError that says what to do without them."""
        from dro import first_token

        if not first_token.known(self.openings):
            raise StoreError(f"{self.name} does not know how this model opens a refusal.", "Fit it anew.")
        return self.openings

    def offsets(self) -> tuple[float, float]:
        """c_r and c_h in f(x) = wᵀVᵀx + c, of the refusal and the harmfulness probe."""
        centre = self.projection.mean @ self.projection.basis
        refusal = self.need_refusal()
        return (
            float(refusal.bias - centre @ refusal.weight),
            float(self.harmfulness.bias - centre @ self.harmfulness.weight),
        )

    def points(self, prompt: str, states: np.ndarray) -> list[Point]:
        """Place states (n, d_model), taken under `prompt`."""
        coordinates = self.projection.coordinates(states)
        harmfulness = self.harmfulness.logits(coordinates)
        refusal = None if self.refusal is None else self.refusal.logits(coordinates)
        rates = None if self.refusal is None else self.refusal.probabilities(coordinates)
        beyond = self.beyond(states)
        return [
            Point(
                prompt,
                tuple(map(float, coordinates[i])),
                None if refusal is None else float(refusal[i]),
                None if rates is None else float(rates[i]),
                float(harmfulness[i]),
                bool(beyond[i]),
            )
            for i in range(len(coordinates))
        ]

    def beyond(self, states: np.ndarray) -> np.ndarray:
        """Which states (n, d_model) lie farther out than any anchor: (n,) bool.

        Farther from the anchors' mean inside V (Mahalanobis), or farther from V itself.
        """
        coordinates = self.projection.coordinates(states)
        inside, outside = self._reach
        return (self.mahalanobis(coordinates) > inside) | (self.projection.residual(states) > outside)

    @cached_property
    def _reach(self) -> tuple[float, float]:
        """The largest distances of anchors inside V and from V, with room for rounding."""
        inside = self.mahalanobis(self.anchors.coordinates).max()
        return float(inside) * 1.001, float(self.anchors.residual.max()) * 1.001

    def mahalanobis(self, coordinates: np.ndarray) -> np.ndarray:
        """Squared distance from the anchors' mean in units of their covariance, (n,)."""
        away = coordinates - self.anchors.coordinates.mean(axis=0)
        return np.einsum("ni,ij,nj->n", away, self._precision, away)

    @cached_property
    def _precision(self) -> np.ndarray:
        """Inverse covariance of the anchors' coordinates, (m, m)."""
        return np.linalg.pinv(np.cov(self.anchors.coordinates.T).reshape(self.projection.m, -1))

    def check_model(self, model: ChatModel) -> None:
        """Raise StoreError unless the space was fitted on this very model, in this precision."""
        made = self.provenance
        ours = (model.name, model.revision, model.precision)
        theirs = (made["model"], made["revision"], made["precision"])
        if ours != theirs:
            raise StoreError(
                f"This space belongs to {theirs[0]} ({theirs[1][:8]}, {theirs[2]}), but the model is "
                f"{ours[0]} ({ours[1][:8]}, {ours[2]}).",
                "Fit one for this model: python -m dro fit --model …, or load that model and precision.",
            )


def locate(
    space: Space,
    model: ChatModel,
    query: str,
    prompts: Sequence[SafetyPrompt],
    prefixes: PrefixCache | None = None,
    checkpoint: Callable[[], None] = lambda: None,
) -> list[Point]:
    """Where `query` lies under each prompt, in their order; one pass for all of them."""
    from dro.states import states_by_prompt

    space.check_model(model)
    if not prompts:
        return []
    checkpoint()
    states = states_by_prompt(model, prompts, query, prefixes)
    return [space.points(prompt.name, states[[row]])[0] for row, prompt in enumerate(prompts)]


def save(space: Space, folder: Path) -> None:
    """Write the space into `folder`; the description goes last, so a folder with one is whole."""
    from safetensors.numpy import save as to_bytes

    anchors, projection = space.anchors, space.projection
    arrays = {
        "mean": projection.mean,
        "basis": projection.basis,
        "variance": projection.variance,
        "harmfulness_weight": space.harmfulness.weight,
        "anchor_harmful": anchors.harmful.astype(np.uint8),
        "anchor_pair": anchors.pair.astype(np.int64),
        "anchor_coordinates": anchors.coordinates.astype(np.float32),
        "anchor_refusal_rate": anchors.refusal_rate.astype(np.float32),
        "anchor_residual": anchors.residual.astype(np.float32),
    }
    if space.refusal is not None:
        arrays["refusal_weight"] = space.refusal.weight
    body = to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_bytes(folder / ARRAYS_FILE, body)
    write_json(
        folder / DESCRIPTION_FILE,
        {
            "format": FORMAT,
            "name": space.name,
            "arrays_sha256": hashlib.sha256(body).hexdigest(),
            "total_variance": projection.total_variance,
            "harmfulness": {"bias": space.harmfulness.bias, "strength": space.harmfulness.strength},
            "refusal": space.refusal and {"bias": space.refusal.bias, "strength": space.refusal.strength},
            "why_no_refusal": space.why_no_refusal,
            "provenance": dict(space.provenance),
            "health": [dict(check) for check in space.health],
            "conditions": list(anchors.conditions),
            "queries": list(anchors.queries),
            "openings": {str(token): list(counts) for token, counts in space.openings.items()},
        },
    )


def load(folder: str | Path) -> Space:
    """Read a space from its folder; StoreError names the file where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    folder = Path(folder)
    if not (folder / DESCRIPTION_FILE).is_file():
        raise StoreError(
            f"{folder} holds no space ({DESCRIPTION_FILE} is missing).",
            f"Fit one: python -m dro fit --out {folder}",
        )
    told = read_json(folder / DESCRIPTION_FILE)
    if told.get("format") != FORMAT:
        raise StoreError(f"{folder} has format {told.get('format')}, not {FORMAT}.", "Fit it anew.")
    try:
        body = (folder / ARRAYS_FILE).read_bytes()
        # A kill between the two files of a new fit: neither belongs to the other.
        if told.get("arrays_sha256", hashlib.sha256(body).hexdigest()) != hashlib.sha256(body).hexdigest():
            raise ValueError(f"{ARRAYS_FILE} belongs to another fit")
        arrays = from_bytes(body)
        probes = {
            kind: Probe(arrays[f"{kind}_weight"], told[kind]["bias"], told[kind]["strength"])
            for kind in ("harmfulness", "refusal")
            if told[kind] is not None
        }
        return Space(
            Projection(arrays["mean"], arrays["basis"], arrays["variance"], told["total_variance"]),
            probes["harmfulness"],
            probes.get("refusal"),
            Anchors(
                tuple(told["queries"]),
                arrays["anchor_harmful"].astype(bool),
                arrays["anchor_pair"],
                tuple(told["conditions"]),
                arrays["anchor_coordinates"].astype(np.float64),
                arrays["anchor_refusal_rate"].astype(np.float64),
                arrays["anchor_residual"].astype(np.float64),
            ),
            told["provenance"],
            told["health"],
            told["why_no_refusal"],
            {int(token): (int(r), int(n)) for token, (r, n) in told.get("openings", {}).items()},
        )
    except (
        OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, SafetensorError,
        DroError,
    ) as error:  # fmt: skip
        raise StoreError(
            f"The space in {folder} is damaged ({type(error).__name__}: {error}).",
            f"Fit it anew: python -m dro fit --out {folder}",
        ) from None


def shipped(key: str) -> Space | None:
    """The space the repository ships for a model's key, found without the model itself."""
    folder = SHIPPED / key
    return load(folder) if (folder / DESCRIPTION_FILE).is_file() else None


def cached_folder(model: ChatModel | Space, recipe: str = "") -> Path:
    """Where `fit` keeps a space for this model and precision, or this space, when no folder is named."""
    return cache_folder() / "spaces" / _folder_name(model, recipe)


def find(model: ChatModel, folder: str | Path | None = None, recipe: str = "") -> Space:
    """The space for a model: from `folder`, else the shipped one, else the cached one.

    recipe: "paper" for the paper's own space; "" for the one that everything else uses.
    """
    if folder is None:
        places = (SHIPPED / _folder_name(model, recipe), cached_folder(model, recipe))
        found = next((p for p in places if (p / DESCRIPTION_FILE).is_file()), None)
        if found is None:
            raise StoreError(
                f"There is no space for {model.name} in {model.precision} yet.",
                f"Fit one first: python -m dro fit --model {model.name}"
                + (f" --recipe {recipe}" if recipe else ""),
            )
        folder = found
    space = load(folder)
    space.check_model(model)
    return space


def _folder_name(model: ChatModel | Space, recipe: str) -> str:
    return f"{model.key}-{recipe}" if recipe else model.key
