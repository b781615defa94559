"""Trials of a recording: cut around events, looked over, scaled as in real time."""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import mne
import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.scoring_readers import UNSCORED, Hypnogram
from sleep_interpreter.data.formats.test_trials import DATA_TYPES
from sleep_interpreter.data.formats.trial_origin import cue_id
from sleep_interpreter.data.preparation.inputs import Session
from sleep_interpreter.data.preparation.settings import Rejection
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.utils.core.constants import N2, N3, REM, STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard, Window
from sleep_interpreter.utils.signal.preprocessing import decimation_of, decoding_window, stream_window

CUED = ("cue", "sham")
"""Modalities of events that a sound belongs to, or its silence."""
SLEEP_STAGES = {"N2N3": (N2, N3), "REM": (REM,)}
_LEAST_FOR_AUTOREJECT = 20


class Trials(NamedTuple):
    """Trials of one kind.

    Rows of `table` hold onset_s, item, item_index, modality, phase, stage, what `with_origin` adds and what is known of
    the slow oscillation of a trial; `eeg` is float32 (n, C, T), channels first, as stored.
    """

    table: pd.DataFrame
    eeg: np.ndarray

    def select(self, keep: np.ndarray) -> "Trials":
        """Return the trials of a mask or of places."""
        return Trials(self.table[keep] if keep.dtype == bool else self.table.iloc[keep], self.eeg[keep])

    @property
    def items(self) -> np.ndarray:
        """Number of each trial's item, int (n,)."""
        return self.table.item_index.to_numpy(int)

    def per_item(self, n_items: int) -> np.ndarray:
        """Return how many trials each of so many items has, int (n_items,)."""
        return np.bincount(self.items, minlength=n_items)


def windows(card: DataCard) -> dict[str, Window]:
    """Return what a trial holds, in s from the event, by kind: the time before a cue is as long as that around it."""
    sleep, wake = card.windows.sleep, card.windows.wake
    return {"image": wake, "audio": wake, "cue": sleep, "precue": Window(begin=-sleep.seconds, end=0.0)}


def with_stage(events: pd.DataFrame, hypnogram: Hypnogram | None) -> pd.DataFrame:
    """Return events with a column `stage`: the code at their onset, -1 where nobody scored."""
    stage = np.full(len(events), UNSCORED) if hypnogram is None else hypnogram.at(events.onset_s.to_numpy())
    return events.assign(stage=stage)


def with_origin(
    events: pd.DataFrame, session: Session, name: str, rate: float, sleep: Hypnogram | None
) -> pd.DataFrame:
    """Return the events of a recording with what `data.formats.trial_origin` keeps of them, but the slow oscillation.

    `name` is what the lab calls the subject, `rate` that of the recording in Hz. Cues and shams are numbered together;
    repetitions count each modality for itself.
    """
    onset, cued = events.onset_s.to_numpy(float), events.modality.isin(CUED).to_numpy()
    sham = [kind == "sham" if kind in CUED else None for kind in events.modality]
    numbers = np.cumsum(cued)
    ids = [cue_id(name, session.path.name, n) if own else None for n, own in zip(numbers, cued, strict=True)]
    scored = np.zeros(0) if sleep is None else sleep.onset[np.isin(sleep.stage, (N2, N3, REM))]
    return events.assign(
        cue_id=pd.Series(ids, events.index, dtype=object),
        recording=session.path.name,
        session=session.label,
        run=session.run,
        onset_sample=np.rint(onset * rate).astype(int),
        repetition=events.groupby(["modality", "item"]).cumcount() + 1,
        minutes_since_sleep_onset=(onset - scored[0]) / 60 if len(scored) else np.nan,
        sham=pd.Series(sham, events.index, dtype=object),
    )


def cut(
    file: SignalFile, events: pd.DataFrame, kind: str, card: DataCard, average: bool
) -> tuple[Trials, np.ndarray, int]:
    """Cut trials out of a cleaned recording, exactly as the real-time loop does from its buffer.

    The file holds cleaned EEG in the order of the montage; `kind` is one of `windows`, and `average` takes the
    common average reference. Where events have a column `samples` (`with_lengths`) a trial has so many, NaN behind
    them; a trial before a cue is as long as the one around it. Returns the trials, their amplitudes from peak to peak
    in µV (float32 (n, C), at 500 Hz, referenced), and how many events are left out because their trial reaches beyond
    the recording.
    """
    window, ratio = windows(card)[kind], decimation_of(card)
    begin, end = stream_window(window)
    onset = np.rint(events.onset_s.to_numpy() * STREAM_RATE).astype(int)
    samples = round(window.seconds * card.rate_hz)
    lengths = events["samples"].to_numpy(int) if "samples" in events else np.full(len(events), samples)
    raw_lengths = np.where(lengths == samples, end - begin, lengths * ratio.numerator // ratio.denominator)
    begins = onset + begin + (end - begin - raw_lengths if kind == "precue" else 0)
    inside = (begins >= 0) & (begins + raw_lengths <= file.shape[1])
    eeg = np.full((int(inside.sum()), file.shape[0], samples), np.nan, np.float32)
    spans = np.empty(eeg.shape[:2], np.float32)
    own = zip(begins[inside], raw_lengths[inside], lengths[inside], strict=True)
    for place, (first, count, length) in enumerate(own):
        raw = file.read(first, first + count)
        referenced = raw - raw.mean(axis=0) if average else raw
        spans[place] = np.ptp(referenced, axis=1)
        eeg[place, :, :length] = decoding_window(raw, ratio, average, card.unit == "robust").T
    return Trials(events[inside].reset_index(drop=True), eeg), spans, int((~inside).sum())


def rejected(spans: np.ndarray, kind: str, settings: Rejection) -> tuple[np.ndarray, float | None]:
    """Return which "wake" or "sleep" trials go for their amplitude, bool (n,), and the threshold in µV.

    `spans` (n, C) are the channels' amplitudes from peak to peak.
    """
    if settings.method == "none" or not len(spans):
        return np.zeros(len(spans), bool), None
    threshold = settings.wake_uv if kind == "wake" else settings.sleep_uv
    if settings.method == "autoreject" and len(spans) >= _LEAST_FOR_AUTOREJECT:
        threshold = _autoreject_threshold(spans)
    beyond = (spans > threshold) | (spans < settings.flat_uv)
    return beyond.mean(axis=1) > settings.share, float(threshold)


def _autoreject_threshold(spans: np.ndarray) -> float:
    """Return autoreject's global threshold for trials of this peak-to-peak amplitude in µV.

    Autoreject looks at nothing but the peak-to-peak amplitudes and how far the trials' mean lies from their
    median; it gets trials of two samples that have those amplitudes.
    """
    from autoreject import get_rejection_threshold  # lazy: optional dependency

    data = np.stack([np.zeros_like(spans), spans], axis=2) * 1e-6
    with warnings.catch_warnings(action="ignore"):
        epochs = mne.EpochsArray(data, mne.create_info(spans.shape[1], 100.0, "eeg"), verbose="error")
        found = get_rejection_threshold(epochs, random_state=0, ch_types="eeg", verbose=False)
    return found["eeg"] * 1e6


def overlapping(events: pd.DataFrame, window: Window, spans: np.ndarray) -> np.ndarray:
    """Return which events' trials overlap one of the spans (n, 2), bool."""
    onset = events.onset_s.to_numpy()[:, None]
    end = events.end_s.to_numpy()[:, None] if "end_s" in events else window.end
    return np.any((onset + window.begin < spans[:, 1]) & (onset + end > spans[:, 0]), axis=1)


def with_lengths(cues: pd.DataFrame, card: DataCard) -> pd.DataFrame:
    """Return all cues of a recording, in order of time, with where their trials end where lengths vary.

    That is at the next cue, or where the window ends: `end_s` from the onset and `samples` of the trial.
    """
    if not card.varying_lengths:
        return cues
    window = card.windows.sleep
    gap = np.diff(cues.onset_s.to_numpy(float), append=np.inf)
    samples = np.floor((np.minimum(gap, window.end) - window.begin) * card.rate_hz + 1e-6).astype(int)
    return cues.assign(samples=samples, end_s=window.begin + samples / card.rate_hz)


def beyond_the_next(events: pd.DataFrame, window: Window) -> int:
    """Return how many trials of one recording reach beyond the onset of the next one, table in order of time."""
    return int((np.diff(events.onset_s.to_numpy(float)) < window.end - 1e-6).sum())


def join(trials: Iterable[Trials], shape: tuple[int, int]) -> Trials:
    """Return trials of several recordings as one; none make empty arrays of trials of this shape."""
    trials = [t for t in trials if len(t.table)]
    if not trials:
        columns = ["onset_s", "item", "item_index", "modality", "phase", "stage", "session", "cue_id"]
        return Trials(pd.DataFrame(columns=columns), np.zeros((0, *shape), np.float32))
    table = pd.concat([t.table for t in trials], ignore_index=True)
    return Trials(table, np.concatenate([t.eeg for t in trials]))


def parts_in_time(table: pd.DataFrame, shares: tuple[float, float, float]) -> np.ndarray:
    """Return "train", "val" or "test" for every trial: each item's trials in order of time, in three blocks.

    Within an item the parts are contiguous, so no test trial lies between two training trials of its item; an
    item with three trials or more has at least one in each part. Items with fewer are cut together, as if
    they were one. The table, with item_index, is in order of session and time.
    """
    parts, items = np.empty(len(table), "U5"), table.item_index.to_numpy(int)
    own = np.where(np.bincount(items)[items] < len(DATA_TYPES), -1, items)
    for item in np.unique(own):
        places = np.flatnonzero(own == item)
        parts[places] = np.repeat(DATA_TYPES, _counts(len(places), shares))
    return parts


def _counts(n: int, shares: tuple[float, float, float]) -> np.ndarray:
    ends = np.rint(np.cumsum(shares) * n).astype(int)
    counts = np.diff([0, *ends[:2], n])
    for k, share in enumerate(shares):  # a part that is wanted gets a trial if there are three
        if n >= 3 and share > 0 and counts[k] == 0:
            counts[k] += 1
            counts[counts.argmax()] -= 1
    return counts
