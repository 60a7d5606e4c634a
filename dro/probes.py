"""Linear probes on projected states: f(x) = wᵀ g(x) + b. A fitter learns, a frozen Probe applies.

Soft targets: scikit-learn's logistic regression takes hard labels, so every state enters twice, as
y = 1 with weight p and as y = 0 with weight 1 − p. The loss is then the cross-entropy with target p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dro.errors import DataError

STRENGTHS = tuple(float(10.0**k) for k in np.arange(-4.0, 3.01, 0.5))
"""Candidate values of C, the inverse of the L2 penalty."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Probe:
    """A frozen logistic probe. weight: w, (m,). bias: b. strength: the C it was fitted with."""

    weight: np.ndarray
    bias: float
    strength: float

    def logits(self, coordinates: np.ndarray) -> np.ndarray:
        """wᵀ g + b for coordinates (n, m): (n,)."""
        return np.asarray(coordinates) @ self.weight + self.bias

    def probabilities(self, coordinates: np.ndarray) -> np.ndarray:
        """Logistic function of the logits, (n,)."""
        return _expit(self.logits(coordinates))


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A probe and how it does on queries that its folds left out.

    held_out: (n,) logits, each from a fit without any state of that state's pair. log_loss: their mean
    cross-entropy with the targets, in nats.
    """

    probe: Probe
    held_out: np.ndarray
    log_loss: float


def fit(coordinates: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int = 0) -> FittedProbe:
    """Fit a converged, L2-regularised logistic probe.

    Parameters
    ----------
    coordinates: (n, m). targets: (n,) probabilities in [0, 1].
    groups: (n,) pair numbers; all states of a pair fall into one fold. C is chosen on log-loss.
    """
    from sklearn.model_selection import GroupKFold

    targets = np.asarray(targets, dtype=np.float64)
    if not ((targets >= 0) & (targets <= 1)).all():
        raise DataError("Probe targets are probabilities.", "Pass values between 0 and 1.")
    folds = min(FOLDS, len(np.unique(groups)))
    if folds < 2 or min(targets.sum(), (1 - targets).sum()) < 2:
        raise DataError(
            f"{targets.sum():.1f} of {len(targets)} states count as positive: a probe needs both kinds.",
            "Use more anchors.",
        )
    # One scale for all components: it conditions the solver and keeps the penalty isotropic.
    scale = float(coordinates.std())
    inputs = coordinates / scale
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(inputs, groups=groups))
    best: tuple[float, float, np.ndarray] | None = None
    for strength in STRENGTHS:
        held_out = np.empty(len(inputs))
        for train, test in splits:
            weight, bias = _fit_once(inputs[train], targets[train], strength)
            held_out[test] = inputs[test] @ weight + bias
        loss = log_loss(held_out, targets)
        if best is None or loss < best[0] - 1e-6:
            best = (loss, strength, held_out)
    assert best is not None
    loss, strength, held_out = best
    weight, bias = _fit_once(inputs, targets, strength)
    return FittedProbe(Probe(weight / scale, bias, strength), held_out, loss)


def log_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean cross-entropy of logits with soft targets, in nats."""
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def auc(logits: np.ndarray, targets: np.ndarray, fewest: float = 1) -> float | None:
    """Area under the ROC curve with soft targets: positives weigh p, negatives 1 − p; None where there are
    fewer than `fewest` of either."""
    from sklearn.metrics import roc_auc_score

    if min(targets.sum(), (1 - targets).sum()) < fewest:
        return None
    doubled = np.repeat([1, 0], len(targets))
    weights = np.concatenate([targets, 1 - targets])
    return float(roc_auc_score(doubled, np.tile(logits, 2), sample_weight=weights))


def calibration_error(logits: np.ndarray, targets: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean |predicted − observed| over bins of equal size."""
    order = np.argsort(logits)
    predicted, observed = _expit(logits)[order], np.asarray(targets)[order]
    parts = np.array_split(np.arange(len(order)), min(bins, len(order)))
    gaps = [len(p) * abs(predicted[p].mean() - observed[p].mean()) for p in parts if len(p)]
    return float(sum(gaps) / len(order))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of logits on the right side of zero for boolean labels."""
    return float(np.mean((logits > 0) == labels))


def _fit_once(inputs: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import LogisticRegression

    doubled = np.concatenate([inputs, inputs])
    labels = np.repeat([1, 0], len(inputs))
    weights = np.concatenate([targets, 1 - targets])
    kept = weights > 0
    if min(targets.sum(), (1 - targets).sum()) < 1e-9:
        # A fold may hold out every positive: the best that is left is the (capped) base rate.
        share = float(np.clip(targets.mean(), 1e-3, 1 - 1e-3))
        return np.zeros(inputs.shape[1]), float(np.log(share / (1 - share)))
    model = LogisticRegression(C=strength, tol=1e-8, max_iter=2000)
    model.fit(doubled[kept], labels[kept], sample_weight=weights[kept])
    return model.coef_[0].copy(), float(model.intercept_[0])


def _expit(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -np.asarray(logits, dtype=np.float64)))
