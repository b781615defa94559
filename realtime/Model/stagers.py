"""Stagers: the last 30 s of EEG, EOG and EMG to four probabilities, or to a reason why not.

A stager has `update(window, end)` and `warm_up()`. `window` is (3, 15000) float µV, raw derivations at
500 Hz, `end` the sample index just after it; an absent channel's row is NaN.
"""

import logging
import warnings
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.preprocessing import staging_window
from utils.resample import Resampler
from utils.vocabulary import STAGES, STAGING_SECONDS, STREAM_RATE

logger = logging.getLogger(__name__)

ROWS = ("EEG", "EOG", "EMG")
WINDOW = round(STAGING_SECONDS * STREAM_RATE)
_YASA_RATE = 100
_VOLTS = 0.5e-6
"""SD of a quiet EEG (0.5 µV) as a number of volts."""
_EPOCH = STAGING_SECONDS * _YASA_RATE


@dataclass(frozen=True)
class StageEstimate:
    """Probabilities (4,) in the order of `utils.vocabulary.STAGES`, or None and the reason."""

    probabilities: np.ndarray | None
    reason: str | None = None


def fault(window, present, flat):
    """Return why a window cannot be staged, or None.

    Parameters
    ----------
    window : array, shape (3, n)
        µV.
    present : sequence of 3 bools
        Rows that hold a channel.
    flat : float
        SD in µV below which a channel counts as flat.
    """
    for name, row, there in zip(ROWS, window, present, strict=True):
        if not there:
            continue
        if not np.isfinite(row).all():
            return f"{name} holds samples that are not finite"
        deviation = row.std(dtype=float)
        if deviation < flat:
            # the reason stays the same from window to window, so that it is reported once
            tiny = f", yet not constant: volts taken for µV? Check its unit (SD below {flat:g} µV)"
            return f"{name} is flat{tiny if deviation >= _VOLTS else ''}"
    return None


class YasaStager:
    """YASA's shipped classifier on the past of the stream.

    Every update extracts YASA's features from the history that ends now, cut to whole 30 s epochs that
    end now, and classifies the last epoch; W and N1 are summed. Samples that are not finite are replaced
    by the last finite value in the history (the window that holds them is not staged).

    Unlike a whole-night YASA run, no future is used: the normalisation and the smoothing over 7.5 min
    see the past alone, and time of night is counted from the start of the history.

    Parameters
    ----------
    settings : StagingSettings
    present : sequence of 3 bools
        EEG, EOG, EMG; YASA needs EEG and takes the others when they are there.
    """

    def __init__(self, settings, present):
        import yasa

        self._settings = settings
        self._present = tuple(present)
        self._rows = [i for i, there in enumerate(present) if there]
        self._names = [ROWS[i] for i in self._rows]
        if not present[0]:
            raise UserError("--stager yasa needs an EEG channel (channels.eeg)")
        self._staging = yasa.SleepStaging
        self._classifier = None
        self._limit = round(settings.yasa.history_minutes * 60 * _YASA_RATE)
        self._restart()

    def warm_up(self):
        """Load the classifier and compile YASA's feature code, so that the first update is as fast as any."""
        noise = np.random.default_rng(0).standard_normal((len(self._rows), 10 * _EPOCH)) * 20
        self._classify(noise)

    def update(self, window, end):
        """Return the `StageEstimate` of the 30 s before sample `end`."""
        self._remember(window, end)
        reason = fault(window, self._present, self._settings.flat_microvolts)
        if reason:
            return StageEstimate(None, reason)
        count = self._history.shape[1] // _EPOCH * _EPOCH
        minutes = self._settings.yasa.minimum_minutes
        if count < minutes * 60 * _YASA_RATE:
            return StageEstimate(None, f"YASA needs {minutes:g} min")
        return StageEstimate(self._classify(self._history[:, -count:]))

    def _restart(self):
        self._resampler = Resampler(STREAM_RATE, _YASA_RATE, len(self._rows))
        self._history = np.zeros((len(self._rows), 0))
        self._last = np.zeros((len(self._rows), 1))
        self._end = None

    def _remember(self, window, end):
        new = window.shape[1] if self._end is None else end - self._end
        if new <= 0:
            raise ValueError(f"update for sample {end} after one for sample {self._end}")
        if new > window.shape[1]:
            logger.warning(
                "YASA's history starts again: %.1f s were not staged", (end - self._end) / STREAM_RATE
            )
            self._restart()
            new = window.shape[1]
        self._end = end
        fresh = _hold(np.asarray(window[self._rows, -new:], float), self._last)
        self._last = fresh[:, -1:]
        self._history = np.concatenate([self._history, self._resampler.push(fresh)], axis=1)[
            :, -self._limit :
        ]

    def _classify(self, history):
        import mne

        info = mne.create_info(self._names, _YASA_RATE, [n.lower() for n in self._names])
        raw = mne.io.RawArray(history * 1e-6, info, verbose="error")
        names = {f"{n.lower()}_name": n for n in self._names}
        # a flat stretch in the past divides by a spread of zero; LightGBM takes the NaN as "missing"
        with np.errstate(invalid="ignore", divide="ignore"):
            staging = self._staging(raw, **names)
            features = staging.get_features()
        if self._classifier is None:
            self._classifier = _load_classifier(staging)
        table = features[self._classifier.feature_name_].iloc[[-1]]
        found = dict(zip(self._classifier.classes_, self._classifier.predict_proba(table)[0], strict=True))
        return np.array([found["W"] + found["N1"], found["N2"], found["N3"], found["R"]])


class SIStagingStager:
    """The project's staging network.

    Parameters
    ----------
    settings : StagingSettings
    network : object
        `predict_proba` (B, 3, 15000) -> (B, 4).
    present : sequence of 3 bools
        All three must be there.
    """

    def __init__(self, settings, network, present):
        lacking = [name for name, there in zip(ROWS, present, strict=True) if not there]
        if lacking:
            raise UserError(
                f"--stager sistaging needs EEG, EOG and EMG, but {', '.join(lacking)} is null "
                "(channels.*); use --stager yasa"
            )
        self._network = network
        self._present = tuple(present)
        self._flat = settings.flat_microvolts
        filters = settings.filters
        self._corners = (filters.eeg, filters.eog, filters.emg)

    def warm_up(self):
        """Trace the network, so that the first update is as fast as any."""
        self._predict(np.random.default_rng(0).standard_normal((3, WINDOW)))

    def update(self, window, end):
        """Return the `StageEstimate` of the 30 s before sample `end`."""
        reason = fault(window, self._present, self._flat)
        return StageEstimate(None, reason) if reason else StageEstimate(self._predict(window))

    def _predict(self, window):
        ready = staging_window(window, STREAM_RATE, self._corners)
        result = np.asarray(self._network.predict_proba(ready[None])[0], float)
        if result.shape != (len(STAGES),) or not np.isfinite(result).all():
            raise ValueError(f"the staging network returned {result}, expected {len(STAGES)} probabilities")
        return result


def _hold(data, last):
    """Replace samples that are not finite by the last finite one before them."""
    if np.isfinite(data).all():
        return data
    joined = np.concatenate([last, data], axis=1)
    index = np.where(np.isfinite(joined), np.arange(joined.shape[1]), 0)
    return np.take_along_axis(joined, np.maximum.accumulate(index, axis=1), axis=1)[:, 1:]


def _load_classifier(staging):
    # YASA offers no public way to load its classifier once; predict() would read the file at every update.
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings():
        # YASA ships a label encoder of scikit-learn 0.24; only its list of class names is used.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        return staging._load_model("auto")
