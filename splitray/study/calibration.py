"""Probabilities that mean shares, how far they are from it, and thresholds on them."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from splitray.errors import UserError

_Z = 1.2816  # of a normal, 90 % below
_BINS = 15  # as Guo et al. 2017 (arXiv 1706.04599) have them


@dataclass(frozen=True)
class Calibration:
    """Probability of the topic from a classifier's log odds: sigmoid(slope x log odds + offset)."""

    slope: float
    offset: float

    @staticmethod
    def fit(log_odds: np.ndarray, labels: np.ndarray) -> "Calibration":
        """Platt scaling (Platt 1999), with his targets: (n + 1) / (n + 2) and 1 / (n + 2), and not 1 and 0.

        Args:
            log_odds: of documents that the classifier was not fitted on, float64 [documents].
            labels: bool [documents].
        """
        topic = int(labels.sum())
        other = len(labels) - topic
        target = np.where(labels, (topic + 1) / (topic + 2), 1 / (other + 2))

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            logit = values[0] * log_odds + values[1]
            off = expit(logit) - target
            return float((np.logaddexp(0, logit) - target * logit).sum()), np.array([off @ log_odds, off.sum()])

        prior = np.log((topic + 1) / (other + 1))
        found = minimize(loss, np.array([0.0, prior]), jac=True, method="L-BFGS-B")
        return Calibration(float(found.x[0]), float(found.x[1]))

    def shifted(self, labelled: float, share: float) -> "Calibration":
        """The same for text in which the topic has another share than among the labels (Saerens et al. 2002)."""
        moved = np.log(share / (1 - share)) - np.log(labelled / (1 - labelled))
        return Calibration(self.slope, self.offset + float(moved))

    def probability(self, log_odds: np.ndarray) -> np.ndarray:
        """Probability of the topic, float64 [documents]."""
        probability: np.ndarray = expit(self.slope * log_odds + self.offset)
        return probability


def calibration_error(probability: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error: mean over documents of |mean probability - share of the topic| of their bin.

    Arguments as of `precision_and_recall`.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    place = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(place, weights * (probability - labels), minlength=_BINS)
    return float(np.abs(gap).sum() / weights.sum())


def precision_and_recall(
    probability: np.ndarray, labels: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Of keeping all from a threshold up; precision is 1 where nothing is kept.

    Args:
        weights: of the documents, where labels have other shares than the corpus; None for equal ones.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    kept = probability >= threshold
    right = float(weights[kept & labels].sum())
    all_kept, all_topic = float(weights[kept].sum()), float(weights[labels].sum())
    return (right / all_kept if all_kept else 1.0), right / all_topic


def threshold_by_precision(
    probability: np.ndarray, labels: np.ndarray, precision: float, weights: np.ndarray | None = None
) -> float:
    """The lowest threshold at which held-out labels show a precision: it keeps most.

    They show it where the lower end of its interval (Wilson 1927, one-sided, 90 %) reaches it. The share among those
    kept is not enough: of labels drawn at random the best few documents were right by chance, and 0.99 was reached.

    Raises:
        UserError: no threshold shows it.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(-probability, kind="stable")
    ranked, weighted = probability[order], weights[order]
    kept = np.cumsum(weighted)
    share, count = np.cumsum(weighted * labels[order]) / kept, kept**2 / np.cumsum(weighted**2)
    low = _wilson(share, count)
    last = np.append(ranked[1:] < ranked[:-1], True)  # equal probabilities are kept together
    good = np.flatnonzero(last & (low >= precision))
    if not len(good):
        raise UserError(
            f"precision {precision:g}: held-out labels show at most {low[last].max():.3f} (the lower end of its 90 % "
            "interval); ask for less, or give more examples of both classes"
        )
    return float(ranked[good[-1]])


def _wilson(share: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Lower end of a one-sided 90 % interval of a share among `count` documents."""
    z = _Z**2 / count
    low: np.ndarray = (share + z / 2 - np.sqrt(z * (share * (1 - share) + z / 4))) / (1 + z)
    return low


def best_by_size(score: np.ndarray, order: np.ndarray, sizes: np.ndarray, wanted: float) -> np.ndarray:
    """The fewest best documents that have a size together, such as bytes or tokens: bool [documents].

    Many have one score, such as the best one that there is. A threshold would keep all of them, whatever their size;
    here those with the lowest `order` are kept.

    Args:
        order: a hash of each document's id, uint64; of equal ones those that come first are kept.

    Raises:
        UserError: all documents together are smaller.
    """
    if sizes.sum() < wanted:
        raise UserError(f"{wanted:,.0f} are wanted, and all documents together have {sizes.sum():,.0f}: ask for less")
    best = np.lexsort((order, -score))
    kept = np.zeros(len(score), dtype=bool)
    kept[best[: int(np.searchsorted(np.cumsum(sizes[best]), wanted)) + 1]] = True
    return kept
