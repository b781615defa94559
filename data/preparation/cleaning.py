"""Finds what is not from the brain: bad channels (pyprep) and components of wake EEG (ICA, ICLabel)."""

import logging
import warnings
from collections.abc import Collection
from functools import partial
from importlib.util import find_spec

import mne
import numpy as np
from scipy import signal

from sleep_interpreter.data.preparation.channels import Plan, make_info, matrix
from sleep_interpreter.data.preparation.settings import BadChannels, Steps
from sleep_interpreter.data.preparation.signal import SignalFile, pieces, without_line
from sleep_interpreter.utils.core.errors import UserError

log = logging.getLogger(__name__)
_RATE = 250.0  # Hz; ICLabel was trained on 1 to 100 Hz, pyprep's noise criterion looks above 50 Hz
_LEAST_ICA = 4
_LEAST_PYPREP = 16  # channels; with the six of a polysomnography, pyprep calls four of them bad for want of neighbours
PYPREP = "pyprep: "
"""What the reasons of `find_bad` begin with; the names of pyprep's criteria follow."""
CRITERIA = {
    "nan": "not a number",
    "flat": "flat",
    "deviation": "amplitude far from that of the others",
    "hf_noise": "much power above 50 Hz",
    "correlation": "goes with no other channel",
    "SNR": "goes with no other channel, and much power above 50 Hz",
    "dropout": "still for a while",
    "ransac": "not what the others predict",
    "psd": "power spectrum unlike the others'",
}
"""What pyprep's criteria mean."""


def require_package(method: str) -> None:
    """Refuse a method whose package is not installed, before hours of work."""
    package = {"pyprep": "pyprep", "iclabel": "mne-icalabel", "autoreject": "autoreject"}.get(method)
    if package is not None and find_spec(package.replace("-", "_")) is None:
        raise UserError(f"the package {package} is not installed: pip install -e '.[prepare]'")


def find_bad(file: SignalFile, plan: Plan, settings: BadChannels, seed: int, positions: str) -> dict[str, str]:
    """Return {channel: reason} of montage channels that pyprep takes for bad in the unfiltered file.

    Its criteria are called one by one, so that those alone count which the settings name.
    """
    if settings.method == "none":
        return {}
    if len(plan.eeg) < _LEAST_PYPREP:
        few = f"{len(plan.eeg)} channels are too few to compare with each other ({_LEAST_PYPREP} are needed)"
        plan.notes.append(f"{few}: no search for bad channels")
        return {}
    from pyprep.find_noisy_channels import NoisyChannels  # lazy: optional dependency

    rows = [plan.rows[name] for name in plan.eeg]
    straight = (signal.detrend(piece.astype(float), axis=1) for piece in pieces(file, rows, settings.minutes))
    data = np.concatenate([signal.decimate(piece, 2, axis=1) for piece in straight], axis=1)
    made, _ = make_info(plan.eeg, positions, _RATE)
    with warnings.catch_warnings(action="ignore"), mne.use_log_level("error"):
        raw = mne.io.RawArray(data * 1e-6, made, verbose="error")
        noisy = NoisyChannels(raw, do_detrend=True, random_state=seed, ransac=settings.ransac)  # finds flat ones
        noisy.find_bad_by_deviation()
        noisy.find_bad_by_hfnoise()
        noisy.find_bad_by_correlation()
        noisy.find_bad_by_SNR()
        if settings.psd:
            noisy.find_bad_by_PSD()
        if settings.ransac:
            noisy.find_bad_by_ransac()
    reasons: dict[str, list[str]] = {}
    for kind, names in noisy.get_bads(as_dict=True).items():
        for name in names if kind != "bad_all" else ():
            reasons.setdefault(str(name), []).append(kind.removeprefix("bad_by_"))
    return {name: f"{PYPREP}{', '.join(kinds)}" for name, kinds in reasons.items()}


def artefact_operator(
    file: SignalFile, plan: Plan, bad: Collection[str], steps: Steps, seed: int, positions: str
) -> tuple[np.ndarray | None, list[str], list[dict]]:
    """Find components of wake EEG that are no brain's in an unfiltered file.

    Returns the matrix (n, n) that takes them out, None where nothing is done; the n channels that it is over, not
    the bad ones; and {"component", "label", "probability", "removed", "topography"} of every component.
    """
    settings = steps.ica
    _, unplaced = make_info(plan.eeg, positions)
    names = [name for name in plan.eeg if name not in bad and name not in unplaced]
    if settings.method == "none" or len(names) < _LEAST_ICA:
        return None, [], []
    log.info("ICA of %d channels over up to %g min of the recording: it may take minutes", len(names), settings.minutes)
    from mne_icalabel import label_components  # lazy: optional dependency

    rows = [plan.rows[name] for name in names]
    data = [signal.decimate(without_line(p, steps.line_noise), 2, axis=1) for p in pieces(file, rows, settings.minutes)]
    made, _ = make_info(names, positions, _RATE)
    with warnings.catch_warnings(action="ignore"):
        raw = mne.io.RawArray(np.concatenate(data, axis=1) * 1e-6, made, verbose="error")
        raw.filter(1.0, 100.0, verbose="error")
        raw.set_eeg_reference("average", verbose="error")
        components = settings.components if settings.components < 1 else int(settings.components)
        ica = mne.preprocessing.ICA(
            components, method="infomax", fit_params={"extended": True}, random_state=seed, max_iter=500,
            verbose="error",
        ).fit(raw, verbose="error")  # fmt: skip
        labels = label_components(raw, ica, method="iclabel")
    topographies = ica.get_components().T
    found = []
    for k, (label, p) in enumerate(zip(labels["labels"], labels["y_pred_proba"], strict=True)):
        row = {"component": k, "label": label, "probability": float(p)}
        removed = bool(label in settings.remove and p >= settings.probability)
        found.append(row | {"removed": removed, "topography": topographies[k]})
    if not (exclude := [row["component"] for row in found if row["removed"]]):
        return None, names, found

    def clean(r: mne.io.BaseRaw, size: int = 1) -> mne.io.BaseRaw:
        r._data *= size
        return ica.apply(r.set_eeg_reference("average", verbose="error"), exclude=exclude, verbose="error")

    # the components' means only move a channel's offset, which no trial keeps
    operator = matrix(names, positions, clean, "ICA") - matrix(names, positions, partial(clean, size=0), "ICA")
    average = np.eye(len(names)) - 1 / len(names)
    # what is taken out is taken out of the recorded reference, so that others can still be chosen
    return np.eye(len(names)) - (average - operator), names, found
