"""What is shown, as plain numpy records: no torch, no gradio, no plotly, nothing of dro.

A view says where things lie on the page's axes. The geometry is honest about being a shadow: the plane
shows two of m components, the boundary is drawn where the unseen ones have the anchors' mean, and
`Shadow` counts what that gets wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Axes = Literal["components", "probes", "three"]
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
    """

    harmfulness: np.ndarray
    harmfulness_bias: float
    refusal: np.ndarray | None
    refusal_bias: float
    explained: np.ndarray
    anchors: np.ndarray

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
        if axes == "three":
            return _padded(coordinates, 3)
        refusal = self.refusal_logits(coordinates)
        if axes == "probes" and refusal is not None:
            return np.stack([refusal, self.harmfulness_logits(coordinates)], axis=1)
        return _padded(coordinates, 2)


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
class Group:
    """Points of one kind on the page's axes: xy (n, 2 or 3) and what is known of each."""

    prompt: str
    xy: np.ndarray
    harmful: np.ndarray
    refusal_rate: np.ndarray
    refusal_logit: np.ndarray | None
    queries: Sequence[str]


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
    direction. boundary: (2, 2) segment of f_r = 0 inside the ranges, or None.
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


def scatter(
    geometry: Geometry,
    clouds: Sequence[Cloud],
    shown: Sequence[str],
    located: Located | None = None,
    axes: Axes = "components",
) -> Scatter:
    """The picture of `clouds`; those named in `shown` (faint first, focus last) as points, all of them
    by their means, in their order."""
    if axes == "probes" and geometry.refusal is None:
        axes = "components"
    by_name = {cloud.prompt: cloud for cloud in clouds}
    groups = tuple(_group(geometry, by_name[name], axes) for name in shown if name in by_name)
    xy = geometry.place(located.coordinates, axes) if located else np.empty((0, 2))
    extent = [geometry.place(geometry.anchors, axes), xy]
    extent += [geometry.place(cloud.coordinates, axes) for cloud in clouds]
    ranges = _ranges(extent)
    width = len(ranges)
    means = {
        kind: np.array([_mean(geometry, cloud, kind, axes) for cloud in clouds]).reshape(-1, width)
        for kind in (True, False)
    }
    boundary, shadow = _boundary(geometry, axes, ranges)
    return Scatter(
        axes, _titles(geometry, axes), ranges, groups, tuple(c.prompt for c in clouds), means,
        _arrow(geometry, axes, ranges), boundary, shadow, located, xy,
    )  # fmt: skip


def _group(geometry: Geometry, cloud: Cloud, axes: Axes) -> Group:
    return Group(
        cloud.prompt, geometry.place(cloud.coordinates, axes), cloud.harmful, cloud.refusal_rate,
        geometry.refusal_logits(cloud.coordinates), cloud.queries,
    )  # fmt: skip


def _mean(geometry: Geometry, cloud: Cloud, harmful: bool, axes: Axes) -> np.ndarray:
    mean = cloud.coordinates[cloud.harmful == harmful].mean(axis=0, keepdims=True)
    return geometry.place(mean, axes)[0]


def _titles(geometry: Geometry, axes: Axes) -> tuple[str, ...]:
    if axes == "probes":
        return ("refusal logit f_r", "harmfulness logit f_h")
    count = 3 if axes == "three" else 2
    shares = [*geometry.explained, 0.0, 0.0][:count]
    return tuple(f"component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(shares))


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


def _arrow(
    geometry: Geometry, axes: Axes, ranges: Sequence[tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray] | None:
    """w_r as the axes show it, from the anchors' mean."""
    if geometry.refusal is None:
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
    if geometry.refusal is None or axes == "three":
        return None, None
    if axes == "probes":
        return np.array([[0.0, ranges[1][0]], [0.0, ranges[1][1]]]), None
    seen = _padded(geometry.refusal[None], 2)[0]
    offset = float(geometry.centre[2:] @ geometry.refusal[2:]) + geometry.refusal_bias
    drawn = _padded(geometry.anchors, 2) @ seen + offset
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


def _padded(coordinates: np.ndarray, width: int) -> np.ndarray:
    """The first `width` columns; a space of fewer components has zeros in the missing ones."""
    missing = max(0, width - coordinates.shape[1])
    return np.pad(coordinates[:, :width], ((0, 0), (0, missing)))


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
