"""What is shown, as plain numpy records: no torch, no gradio, no plotly, nothing of dro.

A view says where things lie on the page's axes. The geometry is honest about being a shadow: the plane
shows two of m components, the boundary is drawn where the unseen ones have the anchors' mean, and
`Shadow` counts what that gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Axes = Literal["components", "pair", "probes", "three", "umap"]
_ROOM = 0.06
"""Share of the extent left free on each side of a plot."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A space as a picture needs it; all arrays in coordinates of V, m long.

    Attributes
    ----------
    harmfulness, refusal: probe weights w; refusal is None in a space without that probe.
    explained: share of the states' variance that each component holds.
    anchors: (n, m), all anchors under all conditions.
    pair: components that the axes "pair" show. umap: coordinates (n, m) to places (n, 2) on a map that
    keeps neighbours together; None before one is fitted.
    """

    harmfulness: np.ndarray
    harmfulness_bias: float
    refusal: np.ndarray | None
    refusal_bias: float
    explained: np.ndarray
    anchors: np.ndarray
    pair: tuple[int, int] = (0, 1)
    umap: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def m(self) -> int:
        return len(self.harmfulness)

    @property
    def centre(self) -> np.ndarray:
        """The anchors' mean, (m,)."""
        return self.anchors.mean(axis=0)

    def refusal_logits(self, coordinates: np.ndarray) -> np.ndarray | None:
        """f_r of coordinates (n, m): (n,), or None without the probe."""
        return None if self.refusal is None else coordinates @ self.refusal + self.refusal_bias

    def harmfulness_logits(self, coordinates: np.ndarray) -> np.ndarray:
        """f_h of coordinates (n, m): (n,)."""
        return coordinates @ self.harmfulness + self.harmfulness_bias

    def place(self, coordinates: np.ndarray, axes: Axes) -> np.ndarray:
        """Coordinates (n, m) on the page's axes: (n, 2) or (n, 3)."""
        if axes == "umap" and self.umap is not None:
            return self.umap(coordinates) if len(coordinates) else np.empty((0, 2))
        refusal = self.refusal_logits(coordinates)
        if axes == "probes" and refusal is not None:
            return np.stack([refusal, self.harmfulness_logits(coordinates)], axis=1)
        return _taken(coordinates, self.columns(axes))

    def columns(self, axes: Axes) -> tuple[int, ...]:
        """The components that these axes show, where they show components."""
        return (0, 1, 2) if axes == "three" else self.pair if axes == "pair" else (0, 1)

    def shown(self, axes: Axes) -> Axes:
        """These axes, or the first two components where the space does not have them."""
        missing = (axes == "probes" and self.refusal is None) or (axes == "umap" and self.umap is None)
        return "components" if missing else axes


@dataclass(frozen=True, eq=False)
class Cloud:
    """The anchors under one prompt.

    coordinates: (n, m). harmful: (n,) bool. refusal_rate: (n,) share of the model's answers that
    refused, NaN where it was never asked. queries: n texts.
    """

    prompt: str
    coordinates: np.ndarray
    harmful: np.ndarray
    refusal_rate: np.ndarray
    queries: Sequence[str]


@dataclass(frozen=True, eq=False)
class Located:
    """A visitor's query under several prompts: coordinates (k, m); outside (k,) bool, far from all that
    the probes were fitted on."""

    query: str
    prompts: Sequence[str]
    coordinates: np.ndarray
    outside: np.ndarray


@dataclass(frozen=True, eq=False)
class Asked:
    """More queries of a visitor under one prompt, a "batch" or "pin"s: coordinates (k, m); refusal_rate
    (k,), 1 where the answer refused, 0 where it did not, NaN where there is none."""

    kind: str
    prompt: str
    queries: Sequence[str]
    coordinates: np.ndarray
    refusal_rate: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Points of one kind on the page's axes: xy (n, 2 or 3) and what is known of each. number: of the
    prompt, in the list of all."""

    prompt: str
    xy: np.ndarray
    harmful: np.ndarray
    refusal_rate: np.ndarray
    refusal_logit: np.ndarray | None
    queries: Sequence[str]
    number: int = 0
    kind: str = "anchor"


@dataclass(frozen=True, eq=False)
class Shadow:
    """What the drawn boundary hides: anchors that the line puts on another side than f_r does, of all,
    and the share of ‖w_r‖ that the plane holds."""

    wrong: int
    total: int
    share: float


@dataclass(frozen=True, eq=False)
class Scatter:
    """One picture. Points are in axis units; `ranges` holds (low, high) for each axis.

    clouds: faint ones first, the one in focus last. means: {True: (k, ·), False: (k, ·)}, mean of the
    harmful and of the harmless anchors under each of `mean_prompts`. arrow: (start, end) of the refusal
    direction. boundary: (2, 2) segment of f_r = 0 inside the ranges, or None. moves: (j, 2, ·), from the
    query's first place to each other one. asked: batches and pins. located_logit: f_r of located, or None.
    """

    axes: Axes
    titles: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    clouds: tuple[Group, ...]
    mean_prompts: tuple[str, ...]
    means: dict[bool, np.ndarray]
    arrow: tuple[np.ndarray, np.ndarray] | None
    boundary: np.ndarray | None
    shadow: Shadow | None
    located: Located | None = None
    located_xy: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    located_logit: np.ndarray | None = None
    moves: np.ndarray = field(default_factory=lambda: np.empty((0, 2, 2)))
    asked: tuple[Group, ...] = ()


def scatter(
    geometry: Geometry,
    clouds: Sequence[Cloud],
    shown: Sequence[str],
    located: Located | None = None,
    axes: Axes = "components",
    asked: Sequence[Asked] = (),
) -> Scatter:
    """The picture of `clouds`; those named in `shown` (faint first, focus last) as points, all of them
    by their means, in their order."""
    axes = geometry.shown(axes)
    by_name = {cloud.prompt: cloud for cloud in clouds}
    numbers = {cloud.prompt: number for number, cloud in enumerate(clouds)}
    groups = tuple(_group(geometry, by_name[n], axes, numbers[n]) for n in shown if n in by_name)
    xy = geometry.place(located.coordinates, axes) if located else np.empty((0, 2))
    others = tuple(_asked(geometry, each, axes, numbers.get(each.prompt, 0)) for each in asked)
    extent = [geometry.place(geometry.anchors, axes), xy, *(other.xy for other in others)]
    if axes == "umap":
        extent += [group.xy for group in groups]  # others need not be placed
    else:
        extent += [geometry.place(cloud.coordinates, axes) for cloud in clouds]
    ranges = _ranges(extent)
    width = len(ranges)
    averaged = [] if axes == "umap" else clouds  # a map keeps neighbours, not averages or directions
    means = {
        kind: np.array([_mean(geometry, cloud, kind, axes) for cloud in averaged]).reshape(-1, width)
        for kind in (True, False)
    }
    boundary, shadow = _boundary(geometry, axes, ranges)
    moves = np.array([[xy[0], end] for end in xy[1:]]).reshape(-1, 2, width)
    return Scatter(
        axes, _titles(geometry, axes), ranges, groups, tuple(c.prompt for c in averaged), means,
        _arrow(geometry, axes, ranges), boundary, shadow, located, xy,
        geometry.refusal_logits(located.coordinates) if located else None, moves, others,
    )  # fmt: skip


def _group(geometry: Geometry, cloud: Cloud, axes: Axes, number: int) -> Group:
    return Group(
        cloud.prompt, geometry.place(cloud.coordinates, axes), cloud.harmful, cloud.refusal_rate,
        geometry.refusal_logits(cloud.coordinates), cloud.queries, number,
    )  # fmt: skip


def _asked(geometry: Geometry, asked: Asked, axes: Axes, number: int) -> Group:
    return Group(
        asked.prompt, geometry.place(asked.coordinates, axes),
        geometry.harmfulness_logits(asked.coordinates) > 0, asked.refusal_rate,
        geometry.refusal_logits(asked.coordinates), asked.queries, number, asked.kind,
    )  # fmt: skip


def _mean(geometry: Geometry, cloud: Cloud, harmful: bool, axes: Axes) -> np.ndarray:
    mean = cloud.coordinates[cloud.harmful == harmful].mean(axis=0, keepdims=True)
    return geometry.place(mean, axes)[0]


def _titles(geometry: Geometry, axes: Axes) -> tuple[str, ...]:
    if axes == "probes":
        return ("refusal logit f_r", "harmfulness logit f_h")
    if axes == "umap":
        return ("UMAP 1", "UMAP 2")
    shares = [*geometry.explained, 0.0, 0.0]
    return tuple(f"component {i + 1} ({shares[i]:.0%} of variance)" for i in geometry.columns(axes))


def _ranges(extent: Sequence[np.ndarray]) -> tuple[tuple[float, float], ...]:
    """Ranges that hold the anchors, and, in whole quarters of their size, whatever lies further out:
    so an axis rarely changes, and a point never leaves the picture."""
    base, extent = extent[0], [points for points in extent if len(points)]
    result = []
    for axis in range(base.shape[1]):
        low, high = float(base[:, axis].min()), float(base[:, axis].max())
        size = (high - low) or 1.0
        far_low = min(float(points[:, axis].min()) for points in extent)
        far_high = max(float(points[:, axis].max()) for points in extent)
        low -= size * (_ROOM + 0.25 * np.ceil(max(0.0, low - far_low) / size / 0.25))
        high += size * (_ROOM + 0.25 * np.ceil(max(0.0, far_high - high) / size / 0.25))
        result.append((float(low), float(high)))
    return tuple(result)


def joined(
    ranges: Sequence[tuple[tuple[float, float], ...]],
) -> tuple[tuple[float, float], ...]:
    """Ranges of axes that hold all of these; () of none."""
    return tuple(
        (min(low for low, _ in axis), max(high for _, high in axis)) for axis in zip(*ranges, strict=True)
    )


def _arrow(
    geometry: Geometry, axes: Axes, ranges: Sequence[tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray] | None:
    """w_r as the axes show it, from the anchors' mean."""
    if geometry.refusal is None or axes == "umap":
        return None
    start = geometry.place(geometry.centre[None], axes)[0]
    tip = geometry.place((geometry.centre + geometry.refusal)[None], axes)[0]
    direction = tip - start
    if not direction.any():
        return None
    sizes = np.array([high - low for low, high in ranges])
    # As long as fits into a third of the picture both ways, whatever the axes' scales.
    reach = 0.3 / np.abs(direction / sizes).max()
    return start, start + direction * reach


def _boundary(
    geometry: Geometry, axes: Axes, ranges: Sequence[tuple[float, float]]
) -> tuple[np.ndarray | None, Shadow | None]:
    """Where f_r = 0 crosses the picture when the unseen components have the anchors' mean."""
    if geometry.refusal is None or axes in ("three", "umap"):
        return None, None
    if axes == "probes":
        return np.array([[0.0, ranges[1][0]], [0.0, ranges[1][1]]]), None
    columns = geometry.columns(axes)
    seen = _taken(geometry.refusal[None], columns)[0]
    unseen = [i for i in range(geometry.m) if i not in columns]
    offset = float(geometry.centre[unseen] @ geometry.refusal[unseen]) + geometry.refusal_bias
    drawn = _taken(geometry.anchors, columns) @ seen + offset
    true = geometry.refusal_logits(geometry.anchors)
    assert true is not None
    norm = float(np.linalg.norm(geometry.refusal))
    shadow = Shadow(
        int(np.sum((drawn > 0) != (true > 0))), len(true), float(np.linalg.norm(seen)) / norm if norm else 0.0
    )
    return _clip_line(seen, offset, ranges), shadow


def _clip_line(normal: np.ndarray, offset: float, ranges: Sequence[tuple[float, float]]) -> np.ndarray | None:
    """The part of normal·p + offset = 0 inside the rectangle of ranges, (2, 2), or None."""
    crossings = []
    for axis in (0, 1):
        other = 1 - axis
        if abs(normal[other]) < 1e-12:
            continue
        for value in ranges[axis]:
            point = np.empty(2)
            point[axis] = value
            point[other] = -(normal[axis] * value + offset) / normal[other]
            if ranges[other][0] - 1e-9 <= point[other] <= ranges[other][1] + 1e-9:
                crossings.append(point)
    if len(crossings) < 2:
        return None
    ends = np.array(crossings)
    distances = np.linalg.norm(ends[:, None] - ends[None], axis=-1)
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    return ends[[first, second]]


def _taken(coordinates: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """These columns; a space of fewer components has zeros in the missing ones."""
    width = coordinates.shape[1]
    padded = np.pad(coordinates, ((0, 0), (0, max(0, max(columns) + 1 - width))))
    return padded[:, list(columns)]


@dataclass(frozen=True, eq=False)
class Watch:
    """Queries that are watched while a run trains, on the plane (f_r, f_h): start and now are (n, 2);
    harmful, trained (n,) bool. direct: whether f_r itself is what the run raises."""

    start: np.ndarray
    now: np.ndarray
    harmful: np.ndarray
    trained: np.ndarray
    queries: Sequence[str]
    ranges: tuple[tuple[float, float], ...]
    direct: bool = True


def watch(
    geometry: Geometry,
    start: np.ndarray,
    now: np.ndarray,
    harmful: np.ndarray,
    trained: np.ndarray,
    queries: Sequence[str],
    direct: bool = True,
) -> Watch:
    """The watch set from coordinates (n, m) before training and now."""
    before, after = (geometry.place(c, "probes") for c in (start, now))
    ranges = _ranges([geometry.place(geometry.anchors, "probes"), before, after])
    return Watch(before, after, harmful, trained, queries, ranges, direct)


@dataclass(frozen=True, eq=False)
class Curve:
    """Loss terms of a run by step, weighted as they count in the sum; `planned` steps in all."""

    steps: Sequence[int]
    terms: Mapping[str, Sequence[float]]
    labels: Mapping[str, str]
    planned: int


@dataclass(frozen=True)
class Frontier:
    """Prompts by their refusal rates: harmful, harmless are (n, 3) arrays of rate, low, high in [0, 1]."""

    prompts: Sequence[str]
    harmful: np.ndarray
    harmless: np.ndarray
    trained: Sequence[bool]
