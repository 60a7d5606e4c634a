"""How densely points lie on a plane: a smoothed histogram, numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CELLS = 56
"""Cells of the grid on each side."""


def estimate(
    xy: np.ndarray, ranges: Sequence[tuple[float, float]], cells: int = CELLS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A Gaussian kernel estimate of points (n, 2) inside `ranges`: centres x (cells,), y (cells,), and
    the share of points in each cell, (cells, cells), rows by y. The bandwidth is Scott's, axis by axis."""
    edges = [np.linspace(low, high, cells + 1) for low, high in ranges]
    counts, _, _ = np.histogram2d(xy[:, 0], xy[:, 1], bins=edges)
    bandwidths = np.maximum(xy.std(axis=0) * len(xy) ** (-1 / 6), 1e-12)
    for axis in (0, 1):
        width = edges[axis][1] - edges[axis][0]
        distance = (np.arange(cells)[:, None] - np.arange(cells)[None]) * width / bandwidths[axis]
        kernel = np.exp(-(distance**2) / 2)
        kernel /= kernel.sum(axis=0, keepdims=True)  # nothing leaks over the edges
        counts = kernel @ counts if axis == 0 else counts @ kernel.T
    centres = [(each[1:] + each[:-1]) / 2 for each in edges]
    return centres[0], centres[1], counts.T / len(xy)


def enclosed(density: np.ndarray) -> np.ndarray:
    """For each cell, the share of the whole that lies in cells at least as dense: its contour at 0.5 holds
    half of the points, by the estimate itself."""
    ordered = np.argsort(-density, axis=None, kind="stable")
    shares = np.empty(density.size)
    shares[ordered] = np.cumsum(density.ravel()[ordered]) / density.sum()
    return shares.reshape(density.shape)
