"""Stagers: the last 30 s of EEG, EOG and EMG to four probabilities, or to a reason why not.

One interface, `Stager`, for the real-time loop (realtime/Session/session.py) and for offline evaluation
(utils/staging/replay.py): both call the same `update` with the same windows, so both get the same stages.
A new stager is a class in a file of its own and a line in utils/staging/registry.py.
"""

import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.preprocessing import staging_window
from sleep_interpreter.utils.signal.resample import Resampler
from sleep_interpreter.utils.staging.registry import STAGERS
from sleep_interpreter.utils.staging.settings import StagingSettings

if TYPE_CHECKING:
    import pandas as pd
    import yasa

logger = logging.getLogger(__name__)

ROWS = ("EEG", "EOG", "EMG")
WINDOW = round(STAGING_SECONDS * STREAM_RATE)
_YASA_RATE = 100
_VOLTS = 0.5e-6
"""SD of a quiet EEG (0.5 µV) as a number of volts."""
_EPOCH = STAGING_SECONDS * _YASA_RATE
_SECOND = round(STREAM_RATE)
_PREPARED_FLAT = 1e-6
"""SD below which a channel of a z-scored window counts as flat: what was constant is 0 there."""
_RAIL = 1e-3
"""Samples this close to a channel's highest or lowest value, as a share of its range, are on a rail."""


class Stager(Protocol):
    """What every stager can do."""

    @abstractmethod
    def update(self, window: np.ndarray, end: int) -> "StageEstimate":
        """Return the `StageEstimate` of the 30 s before sample `end`, which rises from call to call.

        The window (3, 15000) holds EEG, EOG and EMG derivations in µV at 500 Hz, as recorded; an absent channel's row
        is NaN.
        """

    @abstractmethod
    def warm_up(self) -> None:
        """Do what the first prediction would have to wait for."""


class Network(Protocol):
    """What a stager asks of a staging network."""

    def predict_proba(self, windows: np.ndarray) -> np.ndarray:
        """Return probabilities (B, 4) of prepared windows (B, 3, 15000)."""


Present = Sequence[bool]
"""Whether there is an EEG, an EOG and an EMG channel."""
Restore = Callable[[str], Network]
"""Opens a checkpoint of one of the project's staging networks."""


BuildStager = Callable[[StagingSettings, Present, Restore], Stager]
"""What is registered: it returns a stager that has seen nothing yet; `settings.checkpoint` is the user's
--stager-checkpoint. A checkpoint where none is wanted, or none where one is, or a needed channel that is absent, is a
`UserError`."""


@dataclass(frozen=True)
class StageEstimate:
    """Probabilities (4,) in the order of `utils.core.constants.STAGES`, or None and the reason."""

    probabilities: np.ndarray | None
    reason: str | None = None


def fault(window: np.ndarray, present: Present, flat: float, dead_share: float = 1.0) -> str | None:
    """Return why a window (3, n) in µV cannot be staged, or None.

    A dead channel (disconnected, or stuck at the end of the amplifier's range) is named for itself. The reason stays
    the same from window to window, so that it is reported once. A channel counts as flat below an SD of `flat` µV; a
    dead stretch from `dead_share` of the window on makes it unknown.
    """
    for name, row, there in zip(ROWS, window, present, strict=True):
        if there and (reason := _dead(np.asarray(row, float), flat, dead_share)):
            return f"{name} {reason}"
    return None


def _dead(row: np.ndarray, flat: float, dead_share: float) -> str | None:
    if not np.isfinite(row).all():
        return "holds samples that are not finite"
    deviation = row.std()
    if deviation < flat:
        tiny = f", yet not constant: volts taken for µV? Check its unit (SD below {flat:g} µV)"
        return f"is flat{tiny if deviation >= _VOLTS else ''}"
    seconds = row[: len(row) // _SECOND * _SECOND].reshape(-1, _SECOND)
    low, high = row.min(), row.max()
    near = _RAIL * (high - low)
    railed = max(np.mean(row >= high - near), np.mean(row <= low + near))
    if railed >= dead_share:
        return f"is railed: it rests at one end of its range for {dead_share:.0%} of the window or more"
    if len(seconds) and np.mean(seconds.std(axis=1) < flat) >= dead_share:
        return f"is flat for {dead_share:.0%} of the window or more"
    return None


class YasaStager:
    """YASA's shipped classifier on the past of the stream; it needs EEG and takes EOG and EMG when they are there.

    Every update extracts YASA's features from the history that ends now, cut to whole 30 s epochs that end now, and
    classifies the last epoch; W and N1 are summed. Samples that are not finite are replaced by the last finite value
    in the history (the window that holds them is not staged).

    Unlike a whole-night YASA run, no future is used: the normalisation and the smoothing over 7.5 min see the past
    alone, and time of night is counted from the start of the history. `restore` is not used: every stager is built
    alike (`BuildStager`).
    """

    def __init__(self, settings: StagingSettings, present: Present, restore: Restore | None = None) -> None:
        if settings.checkpoint is not None:
            raise UserError("--stager-checkpoint belongs to --stager sistaging; yasa brings its own")
        self._settings, self._present = settings, tuple(present)
        self._rows = [i for i, there in enumerate(present) if there]
        self._names = [ROWS[i] for i in self._rows]
        if not present[0]:
            raise UserError("--stager yasa needs an EEG channel (channels.eeg)")
        self._classifier = None
        self._limit = round(settings.yasa.history_minutes * 60 * _YASA_RATE)
        self._reset()

    def warm_up(self) -> None:
        """Load the classifier and compile YASA's feature code, so that the first update is as fast as any."""
        noise = np.random.default_rng(0).standard_normal((len(self._rows), 10 * _EPOCH)) * 20
        self._classify(noise)

    def update(self, window: np.ndarray, end: int) -> StageEstimate:
        self._append(window, end)
        reason = fault(window, self._present, self._settings.flat_microvolts, self._settings.dead_share)
        if reason:
            return StageEstimate(None, reason)
        count = self._history.shape[1] // _EPOCH * _EPOCH
        minutes = self._settings.yasa.minimum_minutes
        if count < minutes * 60 * _YASA_RATE:
            return StageEstimate(None, f"YASA needs {minutes:g} min")
        return StageEstimate(self._classify(self._history[:, -count:]))

    def _reset(self) -> None:
        self._resampler = Resampler(STREAM_RATE, _YASA_RATE, len(self._rows))
        self._history = np.zeros((len(self._rows), 0))
        self._last = np.zeros((len(self._rows), 1))
        self._end: int | None = None

    def _append(self, window: np.ndarray, end: int) -> None:
        new = window.shape[1] if self._end is None else end - self._end
        if new <= 0:
            raise ValueError(f"update for sample {end} after one for sample {self._end}")
        if new > window.shape[1]:
            logger.warning("YASA's history starts again: %.1f s were not staged", new / STREAM_RATE)
            self._reset()
            new = window.shape[1]
        self._end = end
        samples = _fill_forward(np.asarray(window[self._rows, -new:], float), self._last)
        self._last = samples[:, -1:]
        history = np.concatenate([self._history, self._resampler.push(samples)], axis=1)
        self._history = history[:, -self._limit :]

    def _classify(self, history: np.ndarray) -> np.ndarray:
        staging, features = _yasa_features(history, self._names)
        if self._classifier is None:
            self._classifier = _load_classifier(staging)
        return _yasa_probabilities(self._classifier, features.iloc[[-1]])[0]


class SIStagingStager:
    """The project's staging network, which needs all three channels.

    `prepared` windows are filtered and z-scored already, as those of the released data set are.
    """

    def __init__(
        self, settings: StagingSettings, network: Network, present: Present = (True, True, True), prepared: bool = False
    ) -> None:
        lacking = [name for name, there in zip(ROWS, present, strict=True) if not there]
        if lacking:
            raise UserError(
                f"--stager sistaging needs EEG, EOG and EMG, but {', '.join(lacking)} is null "
                "(channels.*); use --stager yasa"
            )
        self._network, self._present, self._prepared = network, tuple(present), prepared
        self._flat = _PREPARED_FLAT if prepared else settings.flat_microvolts
        self._dead_share = settings.dead_share
        filters = settings.filters
        self._corners = (filters.eeg, filters.eog, filters.emg)

    @classmethod
    def build(cls, settings: StagingSettings, present: Present, restore: Restore) -> "SIStagingStager":
        """Return the stager of a session; see `BuildStager`."""
        if settings.checkpoint is None:
            raise UserError("--stager sistaging needs --stager-checkpoint FILE (or use --stager yasa)")
        return cls(settings, restore(settings.checkpoint), present)

    def warm_up(self) -> None:
        """Trace the network, so that the first update is as fast as any."""
        self._predict([np.random.default_rng(0).standard_normal((3, WINDOW))])

    def update(self, window: np.ndarray, end: int) -> StageEstimate:
        return self.estimates([window])[0]

    def estimates(self, windows: Sequence[np.ndarray] | np.ndarray) -> list[StageEstimate]:
        """Return the `StageEstimate` of each of several windows (n, 3, 15000), predicted as one batch."""
        reasons = [fault(w, self._present, self._flat, self._dead_share) for w in windows]
        good = [window for window, reason in zip(windows, reasons, strict=True) if reason is None]
        found = iter(self._predict(good) if good else ())
        return [StageEstimate(next(found)) if r is None else StageEstimate(None, r) for r in reasons]

    def _predict(self, windows: list[np.ndarray]) -> np.ndarray:
        ready = np.stack([w if self._prepared else staging_window(w, STREAM_RATE, self._corners) for w in windows])
        result = np.asarray(self._network.predict_proba(ready.astype(np.float32)), float)
        if result.shape != (len(ready), len(STAGES)) or not np.isfinite(result).all():
            raise ValueError(f"the staging network returned {result}, expected {len(STAGES)} probabilities")
        return result


def build_without_checkpoint(settings: StagingSettings, present: Present) -> dict[str, Stager]:
    """Return every registered stager that needs no checkpoint, by name: what others are compared with."""
    found = {}
    for name in STAGERS.names():
        own = settings.model_copy(update={"stager": name, "checkpoint": None})
        try:
            found[name] = STAGERS.make(name, own, present, None)
        except UserError as error:
            logger.debug("not compared with: %s", error)
    return found


def yasa_whole_night(signal: np.ndarray, present: Present, minimum_minutes: float) -> np.ndarray:
    """Return what YASA says of a whole recording at once, the future included, as in the papers.

    `signal` (3, n) is EEG, EOG and EMG in µV at 500 Hz; samples that are not finite are replaced by the last finite
    one. Returns probabilities (m, 4), one row a whole epoch of 30 s, NaN throughout if the recording is shorter than
    `minimum_minutes` (YASA's own recommendation is 5).
    """
    count = signal.shape[1] // WINDOW
    if count < minimum_minutes * 60 / STAGING_SECONDS:
        return np.full((count, len(STAGES)), np.nan)
    rows = [i for i, there in enumerate(present) if there]
    samples = _fill_forward(np.asarray(signal[rows, : count * WINDOW], float), np.zeros((len(rows), 1)))
    # The resampler keeps back what it needs the future for: a second more, and every sample comes out.
    resampler = Resampler(STREAM_RATE, _YASA_RATE, len(rows))
    history = resampler.push(np.concatenate([samples, np.repeat(samples[:, -1:], _SECOND, axis=1)], axis=1))
    staging, features = _yasa_features(history[:, : count * _EPOCH], [ROWS[i] for i in rows])
    return _yasa_probabilities(_load_classifier(staging), features)


def _yasa_features(history: np.ndarray, names: list[str]) -> tuple["yasa.SleepStaging", "pd.DataFrame"]:
    """Return yasa.SleepStaging on (channels, n) µV at 100 Hz, and its features, one row an epoch."""
    import mne  # lazy: start-up
    import yasa  # lazy: start-up

    info = mne.create_info(names, _YASA_RATE, [n.lower() for n in names])
    raw = mne.io.RawArray(history * 1e-6, info, verbose="error")
    # a flat stretch divides by a spread of zero; LightGBM takes the NaN as "missing"
    with np.errstate(invalid="ignore", divide="ignore"):
        staging = yasa.SleepStaging(raw, **{f"{n.lower()}_name": n for n in names})
        return staging, staging.get_features()


def _yasa_probabilities(classifier: Any, features: "pd.DataFrame") -> np.ndarray:
    """Return probabilities (m, 4) in the order of `STAGES`, W and N1 summed."""
    proba = classifier.predict_proba(features[classifier.feature_name_])
    found = dict(zip(classifier.classes_, proba.T, strict=True))
    return np.column_stack([found["W"] + found["N1"], found["N2"], found["N3"], found["R"]])


def _fill_forward(data: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Replace samples that are not finite by the last finite one before them."""
    if np.isfinite(data).all():
        return data
    joined = np.concatenate([last, data], axis=1)
    index = np.where(np.isfinite(joined), np.arange(joined.shape[1]), 0)
    return np.take_along_axis(joined, np.maximum.accumulate(index, axis=1), axis=1)[:, 1:]


def _load_classifier(staging: "yasa.SleepStaging") -> Any:
    # YASA offers no public way to load its classifier once; predict() would read the file at every update.
    from sklearn.exceptions import InconsistentVersionWarning  # lazy: start-up

    with warnings.catch_warnings():
        # YASA ships a label encoder of scikit-learn 0.24; only its list of class names is used.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        return staging._load_model("auto")
