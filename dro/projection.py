"""PCA of last-token states: a fitter learns, a frozen Projection applies.

g(x) = Vᵀ(x − mean), centred and not whitened. Signs are fixed, so that a refit gives the same picture.

Anchors come in pairs that share form, length and a word. With `pairs` given, V is found on the states
less their pair's mean: what is asked about, and how, then does not fill the first components, and what
sets harmful from harmless and one prompt from another does. Without, it is the plain PCA of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dro.errors import DataError


@dataclass(frozen=True, eq=False)
class Projection:
    """A frozen linear map from states (n, d_model) to coordinates (n, m).

    Attributes
    ----------
    mean: (d_model,). basis: V, (d_model, m), orthonormal columns.
    variance: (m,), variance of the fitted states along each component.
    total_variance: their variance over all d_model dimensions, ≥ variance.sum().
    """

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray
    total_variance: float

    def __post_init__(self) -> None:
        d_model, m = self.basis.shape
        if self.mean.shape != (d_model,) or self.variance.shape != (m,):
            raise DataError(
                f"A projection with mean {self.mean.shape}, basis {self.basis.shape} and variance "
                f"{self.variance.shape} does not fit together.",
                "Fit the space anew.",
            )

    @property
    def m(self) -> int:
        return self.basis.shape[1]

    @property
    def d_model(self) -> int:
        return self.basis.shape[0]

    @property
    def explained(self) -> np.ndarray:
        """Share of the variance that each component holds, (m,)."""
        return self.variance / self.total_variance

    @property
    def residual_variance(self) -> float:
        """Mean variance of the fitted states over the d_model − m directions outside V."""
        return (self.total_variance - float(self.variance.sum())) / max(1, self.d_model - self.m)

    def coordinates(self, states: np.ndarray) -> np.ndarray:
        """g(x) for states (n, d_model): float64 (n, m)."""
        return (np.asarray(states, dtype=np.float64) - self.mean) @ self.basis

    def residual(self, states: np.ndarray) -> np.ndarray:
        """Squared distance of states (n, d_model) from V, per direction outside it: (n,).

        By Pythagoras: what is left of the squared distance from the mean.
        """
        away = np.asarray(states, dtype=np.float64) - self.mean
        rest = (away**2).sum(axis=1) - (self.coordinates(states) ** 2).sum(axis=1)
        return np.maximum(rest, 0.0) / max(1, self.d_model - self.m)


def fit(states: np.ndarray, harmful: np.ndarray, m: int = 4, pairs: np.ndarray | None = None) -> Projection:
    """PCA of states (n, d_model) to m components; `harmful` (n,) bool only fixes the first sign.

    pairs: (n,) pair numbers, or None for plain PCA. Mean and variances are those of the states as they
    are in either case.

    The first component points from the harmless to the harmful mean; every other one so that its
    largest loading is positive.
    """
    from sklearn.decomposition import PCA

    if not 1 <= m <= min(states.shape):
        raise DataError(
            f"m is {m}; {len(states)} states of width {states.shape[1]} allow 1 to {min(states.shape)}.",
            "Choose a smaller m, or more anchors.",
        )
    states = np.asarray(states, dtype=np.float64)
    pca = PCA(n_components=m, svd_solver="full").fit(states if pairs is None else within(states, pairs))
    basis = pca.components_.T.copy()
    signs = np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(m)])
    first = (states[harmful].mean(axis=0) - states[~harmful].mean(axis=0)) @ basis[:, 0]
    signs[0] = 1.0 if first >= 0 else -1.0
    mean, basis = states.mean(axis=0), basis * signs
    variance = ((states - mean) @ basis).var(axis=0, ddof=1)
    return Projection(mean, basis, variance, float(states.var(axis=0, ddof=1).sum()))


def within(states: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """States (n, d_model) less the mean of their pair."""
    _, index, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), states.shape[1]))
    np.add.at(means, index, states)
    return states - (means / counts[:, None])[index]
