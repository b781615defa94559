"""Calibration: whether a decoder is right as often as it says it is."""

import numpy as np

from sleep_interpreter.utils.metrics.statistics import proportion, true_rank


def calibration(label, probability, bins):
    """Return how far a decoder's confidence can be taken at its word.

    The expected calibration error is that of Guo et al. (2017, On calibration of modern neural networks,
    ICML, eq. 3): trials are binned by confidence (the highest probability) into `bins` intervals of equal
    width, open on the left; ECE is the mean over trials of |accuracy - confidence| of their bin. It is
    biased upwards when bins hold few trials.

    Parameters
    ----------
    label : int array (n,)
    probability : array (n, K)
    bins : int

    Returns
    -------
    result : dict
        ece, log_loss (mean of -ln p(true class), p at least 1e-12; ln K for a uniform guess), confidence
        (mean), bins (list of {from, to, n, confidence, accuracy, low, high (Wilson 95 %)}, None in an empty
        bin); None where there are no trials.
    """
    if not len(label):
        return {"ece": None, "log_loss": None, "confidence": None, "bins": []}
    probability = np.asarray(probability, np.float32)
    confidence = probability.max(axis=1).astype(float)
    of_label = probability[np.arange(len(label)), label].astype(float)
    correct = true_rank(label, probability) == 0
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    rows, error = [], 0.0
    for index in range(bins):
        own = place == index
        hits = proportion(int(correct[own].sum()), int(own.sum()), chance=1 / probability.shape[1])
        row = {"from": float(edges[index]), "to": float(edges[index + 1]), "n": hits["n"], "confidence": None}
        if row["n"]:
            row["confidence"] = float(confidence[own].mean())
            error += row["n"] * abs(hits["accuracy"] - row["confidence"])
        rows.append(row | {key: hits[key] for key in ("accuracy", "low", "high")})
    return {
        "ece": error / len(label),
        "log_loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        "confidence": float(confidence.mean()),
        "bins": rows,
    }
