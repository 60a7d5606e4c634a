"""The tour's arithmetic: arrays in, numbers out. Only numpy, so that each answer can be checked by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUND = 1e-9
"""Below this two variances count as equal: what is left is rounding."""


@dataclass(frozen=True, eq=False)
class Components:
    """PCA of points in the plane: mean (2,); axes (2, 2), a unit row a component; variance (2,)."""

    mean: np.ndarray
    axes: np.ndarray
    variance: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Share of the whole variance that each component holds, (2,); zeros where all points agree."""
        total = self.variance.sum()
        return self.variance / total if total > ROUND else np.zeros(2)

    @property
    def angle(self) -> float | None:
        """Direction of component 1 in degrees, [0, 180); None where every direction is as good."""
        if self.variance[0] - self.variance[1] <= ROUND * max(1.0, self.variance[0]):
            return None
        return float(np.degrees(np.arctan2(self.axes[0, 1], self.axes[0, 0])) % 180.0)


def components(points: np.ndarray) -> Components:
    """PCA of points (n, 2): eigenvectors of their covariance, the largest variance first."""
    points = np.asarray(points, dtype=np.float64)
    mean = points.mean(axis=0)
    away = points - mean
    values, vectors = np.linalg.eigh(away.T @ away / len(points))
    axes = vectors.T[::-1]
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])
    return Components(mean, axes * signs[:, None], np.maximum(values[::-1], 0.0))


def unit(degrees: float) -> np.ndarray:
    """The unit vector in this direction, (2,)."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def shadows(points: np.ndarray, degrees: float) -> np.ndarray:
    """Points (n, 2) projected onto the line through their mean in this direction, (n, 2)."""
    mean, direction = points.mean(axis=0), unit(degrees)
    return mean + np.outer((points - mean) @ direction, direction)


def caught(points: np.ndarray, degrees: float) -> float:
    """Share of the variance of points (n, 2) along this direction; 0 where all points agree."""
    away = points - points.mean(axis=0)
    total = float((away**2).sum())
    return float(((away @ unit(degrees)) ** 2).sum()) / total if total > ROUND else 0.0


@dataclass(frozen=True, eq=False)
class Line:
    """A straight line normal·x + offset = 0 in the plane; normal (2,)."""

    normal: np.ndarray
    offset: float

    def sides(self, xy: np.ndarray) -> np.ndarray:
        """Signed value at points (n, 2): (n,)."""
        return xy @ self.normal + self.offset


def dividing_line(xy: np.ndarray, harmful: np.ndarray) -> Line:
    """Fisher's line between two groups of points (n, 2), half-way between their means."""
    one, other = xy[harmful], xy[~harmful]
    spread = np.cov(one.T) + np.cov(other.T)
    normal = np.linalg.pinv(spread) @ (one.mean(axis=0) - other.mean(axis=0))
    return Line(normal, -float(normal @ (one.mean(axis=0) + other.mean(axis=0))) / 2)


def own_side(line: Line, xy: np.ndarray, harmful: np.ndarray) -> int:
    """How many points lie on their group's side of the line."""
    return int(((line.sides(xy) > 0) == harmful).sum())


def clipped(line: Line, across: tuple[float, float], along: tuple[float, float]) -> np.ndarray:
    """The part of a line inside a rectangle, (2, 2); empty (0, 2) where it misses the rectangle."""
    length = float(np.linalg.norm(line.normal))
    if length == 0:
        return np.empty((0, 2))
    foot = -line.offset * line.normal / length**2
    direction = np.array([-line.normal[1], line.normal[0]]) / length
    low, high = -np.inf, np.inf
    for axis, bounds in enumerate((across, along)):
        if abs(direction[axis]) < 1e-12:
            if not bounds[0] <= foot[axis] <= bounds[1]:
                return np.empty((0, 2))
            continue
        ends = sorted((bound - foot[axis]) / direction[axis] for bound in bounds)
        low, high = max(low, ends[0]), min(high, ends[1])
    return np.stack([foot + low * direction, foot + high * direction]) if low < high else np.empty((0, 2))


def logistic_line(xy: np.ndarray, targets: np.ndarray, penalty: float = 1.0, rounds: int = 50) -> Line:
    """Logistic regression on points (n, 2) with targets (n,) in [0, 1], by Newton's method.

    As everywhere else in this program: one scale for all components, and penalty/2 · ‖w‖² on that scale.
    """
    scale = float(xy.std()) or 1.0
    design = np.column_stack([xy / scale, np.ones(len(xy))])
    ridge = np.diag([penalty, penalty, 0.0])
    weights = np.zeros(3)
    for _ in range(rounds):
        likely = expit(design @ weights)
        gradient = design.T @ (likely - targets) + ridge @ weights
        curvature = (design * (likely * (1 - likely))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature + 1e-9 * np.eye(3), gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return Line(weights[:2] / scale, float(weights[2]))


def expit(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−z)."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, dtype=np.float64)))


def slope_of_rates(line: Line, xy: np.ndarray, rates: np.ndarray) -> float:
    """Covariance of the refusal rates (n,) with the way along the line's normal: its sign says where it
    points."""
    along = line.sides(xy)
    return float(np.mean((along - along.mean()) * (rates - rates.mean())))


def ranked_right(scores: np.ndarray, rates: np.ndarray) -> float:
    """Of two points with other refusal rates, how often the higher score has the higher rate: [0, 1]."""
    higher = rates[:, None] > rates[None, :]
    wins = (scores[:, None] > scores[None, :]) + 0.5 * (scores[:, None] == scores[None, :])
    return float(wins[higher].mean()) if higher.any() else 0.5


def binned(scores: np.ndarray, rates: np.ndarray, bins: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Mean score and mean rate in bins of equal size, from the lowest score up."""
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    kept = [part for part in parts if len(part)]
    return np.array([scores[p].mean() for p in kept]), np.array([rates[p].mean() for p in kept])


def left_over(explained: np.ndarray, shown: tuple[int, int]) -> float:
    """Share of the variance that the two shown components (from 1) do not hold."""
    return 1.0 - float(sum(explained[i - 1] for i in set(shown)))


def difference(
    before: tuple[float, float, float], after: tuple[float, float, float]
) -> tuple[float, float, float]:
    """after − before of two rates, each given as (rate, low, high), with its 95% interval.

    Newcombe's, from the two Wilson intervals (1998, method 10); it takes the two groups to be independent,
    which for the same queries under two prompts is on the careful side.
    """
    gain = after[0] - before[0]
    low = gain - np.hypot(after[0] - after[1], before[2] - before[0])
    high = gain + np.hypot(after[2] - after[0], before[0] - before[1])
    return gain, float(low), float(high)


def blocks(count: int, wide: float = 3.0) -> tuple[int, int]:
    """Rows and columns of a picture with this many cells, about `wide` times as wide as it is high."""
    rows = [r for r in range(1, count + 1) if count % r == 0]
    best = min(rows, key=lambda r: abs(np.log(count / r / r / wide)))
    return best, count // best
