"""Sleep stages of a recording: the expert's, or YASA's."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np

from sleep_interpreter.data.formats.scoring_readers import UNSCORED, Hypnogram, from_annotations, make, read_hypnogram
from sleep_interpreter.data.preparation.channels import KINDS, Derivation, Plan
from sleep_interpreter.data.preparation.inputs import Session, scorings
from sleep_interpreter.data.preparation.pauses import scoring_in_time
from sleep_interpreter.data.preparation.settings import Stages
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.utils.core.constants import STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.preprocessing import staging_window
from sleep_interpreter.utils.signal.recording import Recording

_YASA_RATE = 100
_LEAST_SECONDS = 300  # YASA's classifier needs five minutes


def find_stages(
    session: Session, annotations: mne.Annotations, recording: Recording, file: SignalFile, plan: Plan,
    settings: Stages, counted: bool | None = None,
) -> tuple[Hypnogram, str, list[str]]:  # fmt: skip
    """Return the hypnogram of a sleep recording, where it comes from, and remarks.

    `counted` says whether the times of a scoring beside the recording count its gaps (`pauses.scoring_in_time`).
    The file is unfiltered, with rows as in the plan. Stages come from "expert: FILE", "expert: annotations", or
    "YASA". Refuses a source that is not there, and a scoring that is unreadable or that by its clock lies elsewhere.
    """
    where = display_path(session.path)
    if settings.source in ("auto", "file") and (path := scoring_file(session, settings)) is not None:
        found, source = read_hypnogram(path, settings.numbers, settings.epoch_seconds), f"expert: {path.name}"
    elif settings.source == "file":
        raise UserError(f"{where}: stages.source is file, but there is no {settings.file or 'stages.file'} beside it")
    else:
        rows = from_annotations(annotations, settings.annotation, recording.first_time)
        if settings.source == "annotations" and not rows:
            raise UserError(f"{where}: no annotation matches stages.annotation = {settings.annotation!r}")
        if settings.source in ("auto", "annotations") and rows:
            found, source = make(rows, where, settings.numbers), "expert: annotations"
        else:
            return stage_with_yasa(file, plan, where), "YASA", ["staged by YASA, not by an expert"]
    later, remarks = 0.0, list[str]()
    if settings.use_clock and found.clock is not None and recording.clock is not None:
        later = _clock_offset(found.clock, recording.clock, found, file.seconds, f"{where}: the scoring ({source})")
        remarks += [f"by the clocks, the scoring begins {later:g} s after the recording"] if later else []
    found = replace(found, onset=found.onset + (later + settings.offset_seconds))
    if source != "expert: annotations":
        found = scoring_in_time(found, recording.timeline, counted, f"{where}: the scoring ({source})")
    return found, source, remarks + length_remarks(found, file.seconds)


def _clock_offset(scoring: float, recording: float, hypnogram: Hypnogram, seconds: float, what: str) -> float:
    """Return how many s after a recording's first sample a scoring begins, by the time of day of both.

    Refuses a scoring of which less than half lies in the recording then.
    """
    day = 86400.0
    later = (scoring - recording + day / 2) % day - day / 2
    if abs(later) < 1:  # clocks in whole seconds
        return 0.0
    begin, end = hypnogram.onset + later, hypnogram.onset + hypnogram.duration + later
    inside = np.clip(np.minimum(end, seconds) - np.maximum(begin, 0), 0, None).sum()
    if inside < hypnogram.duration.sum() / 2:
        raise UserError(
            f"{what} begins {later:g} s after the recording by their clocks, and less than half of it lies "
            "in the recording; if it begins with the recording, set stages.use_clock=false"
        )
    return round(later, 3)


def scoring_file(session: Session, settings: Stages) -> Path | None:
    """Return the hypnogram file of a recording, or None; refuse several that match `stages.file`."""
    found = scorings(session.path, settings.file)
    if len(found) > 1:
        raise UserError(f"{session.path}: stages.file matches {', '.join(p.name for p in found)}: make it match one")
    return found[0] if found else None


def length_remarks(hypnogram: Hypnogram, seconds: float) -> list[str]:
    """Return what there is to say where hypnogram and recording disagree in length, as sentences."""
    remarks = []
    first, last = float(hypnogram.onset.min(initial=0.0)), hypnogram.seconds
    if first < 0:
        remarks.append(f"the hypnogram begins {-first:g} s before the recording")
    if last > seconds + 1:
        remarks.append(f"the hypnogram ends {last - seconds:g} s after the recording; that part is left out")
    if last < seconds - STAGING_SECONDS:
        remarks.append(f"the last {seconds - last:g} s of the recording are not scored")
    return remarks


def stage_with_yasa(file: SignalFile, plan: Plan, where: str) -> Hypnogram:
    """Return the hypnogram that YASA's pretrained classifier gives for the whole recording.

    Refuses a recording without EEG for staging, or of less than five minutes.
    """
    import yasa  # lazy: start-up

    if plan.derivations[0] is None:
        raise UserError(f"{where}: YASA needs an EEG channel (channels.eeg), and there is no hypnogram")
    if file.seconds < _LEAST_SECONDS:
        raise UserError(
            f"{where}: {file.seconds:.0f} s are too short for YASA ({_LEAST_SECONDS} s), and there is no hypnogram"
        )
    signals = {}
    for kind, pair in zip(KINDS, plan.derivations, strict=True):
        if pair is not None:
            signal = _derived(file, pair, 0, file.shape[1]).astype(float)
            signals[kind] = mne.filter.resample(signal, down=5.0, method="polyphase", verbose="error")
    with warnings.catch_warnings(action="ignore"):
        info = mne.create_info(list(signals), _YASA_RATE, "eeg")
        raw = mne.io.RawArray(np.stack(list(signals.values())) * 1e-6, info, verbose="error")
        names = {f"{kind}_name": kind for kind in signals}
        predicted = yasa.SleepStaging(raw, **names).predict()
    stages = getattr(predicted, "hypno", predicted)
    epoch = float(STAGING_SECONDS)
    return make([(k * epoch, epoch, str(stage)) for k, stage in enumerate(stages)], where)


def _derived(file: SignalFile, pair: Derivation, start: int, stop: int) -> np.ndarray:
    """Return one derivation (n,) of the stager in µV, raw: channel minus its reference."""
    plus, minus = pair
    signal = file.read(start, stop, plus)
    return signal if minus is None else signal - file.read(start, stop, minus)


def scored_span(codes: np.ndarray) -> tuple[int, int]:
    """Return (first, last + 1) of the scored epochs; (0, 0) where there is none."""
    scored = np.flatnonzero(codes != UNSCORED)
    return (int(scored[0]), int(scored[-1]) + 1) if len(scored) else (0, 0)


def staging_windows(
    file: SignalFile, plan: Plan, codes: np.ndarray, settings: Stages
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the stager's windows of the scored part of a night, one every 3 s, as in real time.

    The file is unfiltered; `codes` are the stages of its 30 s epochs. A window, float32 (3, 15000), comes with the
    code of the epoch that it begins in, -1 where nobody scored it, or a gap of the recording lies in it.
    """
    first, last = scored_span(codes)
    length = round(STAGING_SECONDS * STREAM_RATE)
    step = length // 10
    for k in range(max(0, 10 * (last - first) - 9)):
        start = first * length + k * step
        rows = [
            np.zeros(length, np.float32) if pair is None else _derived(file, pair, start, start + length)
            for pair in plan.derivations
        ]
        gap = any(begin < start + length and end > start for begin, end in file.gaps)
        yield (
            UNSCORED if gap else int(codes[first + k // 10]),
            staging_window(np.stack(rows), STREAM_RATE, settings.filters),
        )
