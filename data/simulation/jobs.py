"""The files of a simulated data set job by job: the published layout, the recording, the truth, raw nights.

Each job writes the files of one subject; they depend on the settings and the subject's number only, and not on the
process that writes them. Every trial carries the mark of simulation (`utils.core.provenance.MARK`), first in its dict.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import subject_writer as layout
from sleep_interpreter.data.formats.hypnograms import segments_of
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.simulation import bids, trials, truth
from sleep_interpreter.data.simulation.night import hypnogram, memory_table, recorded_night
from sleep_interpreter.data.simulation.settings import Simulation
from sleep_interpreter.data.simulation.subject import Subject, subject_name
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.signal.brainvision_writer import SUFFIXES

RECORDING = "recordings/simulated_night.vhdr"
LABELS = "SI Staging Label/Whole_label_data.pickle"
PARTS = ("recording", "trials", "bids")
"""What a data set may hold: the short recording, the published layout with its truth, raw nights in BIDS."""

_WINDOW_BYTES = 3 * 15000 * 4
_TRUTH_BYTES = 170_000


class Job(NamedTuple):
    """One piece of work: the files it writes (relative to the data set), their size in bytes, the call."""

    files: tuple[str, ...]
    size: int
    function: Callable[..., None]
    arguments: tuple

    def write(self, out: str | Path) -> None:
        """Write the files into the data set `out`."""
        self.function(Path(out), *self.arguments)


def all_jobs(settings: Simulation, parts: Sequence[str] = PARTS[:2]) -> list[Job]:
    """Return the jobs of a data set that holds some of `PARTS`, the longest ones first."""
    jobs, channels = list[Job](), len(settings.head.montage) + 6
    if "bids" in parts:
        for session in bids.tasks(settings):
            for one in ((settings, group, number, session) for group, number in settings.night.people):
                size = int(1.01 * bids.seconds(*one) * STREAM_RATE * channels * 2)
                jobs.append(Job(bids.session_files(*one), size, bids.write_session, one))
        jobs.append(Job(bids.DATASET_FILES, 10_000, bids.write_dataset_files, (settings,)))
    if "recording" in parts:
        seconds = 60 * sum(minutes for _, minutes in settings.recording.stages)
        files = tuple(Path(RECORDING).with_suffix(suffix).as_posix() for suffix in SUFFIXES)
        jobs.append(Job(files, int(seconds * STREAM_RATE) * channels * 4, _write_recording, (settings,)))
    if "trials" in parts:
        cohort, staging = settings.cohort.people, settings.staging.people
        jobs += [_trial_job(settings, group, number) for group, number in cohort]
        size = max(0, 10 * settings.staging.epochs - 9) * _WINDOW_BYTES
        for group, number in staging:
            files = tuple(layout.staging_files(subject_name(group, number)))
            jobs.append(Job(files, size, _write_staging, (settings, group, number)))
        if staging:
            jobs.append(Job((LABELS,), 4000 * len(cohort + staging), _write_labels, (settings,)))
    if settings.card != data_card.published():
        jobs.append(Job((data_card.FILE,), 10_000, _write_card, (settings,)))
    if parts != ("recording",):
        jobs.append(Job((truth.OVERVIEW,), 10_000, truth.write_overview, (settings,)))
    return [job for job in jobs if job.files]


def _write_card(out: Path, settings: Simulation) -> None:
    data_card.write(settings.card, out)


def _write_recording(out: Path, settings: Simulation) -> None:
    recorded_night(settings).write(out / RECORDING)


def _counts(settings: Simulation, group: str) -> dict[str, int]:
    """Return how many sleep trials of each kind ("N2N3", "REM") a subject of the data set has."""
    cohort = settings.cohort
    n2n3 = cohort.train_trials if group == "train" else cohort.test_trials
    return {kind: cohort.rem_trials if kind == "REM" else n2n3 for kind in settings.sleep_kinds}


def _trial_job(settings: Simulation, group: str, number: int) -> Job:
    """Return the job of one subject's trials, awake and asleep, and of what is planted in them."""
    name, counts, cohort, card = subject_name(group, number), _counts(settings, group), settings.cohort, settings.card
    trial, one_awake = 4 * math.prod(card.sleep_shape), 4 * math.prod(card.awake_shape)
    by_phase = cohort.so_trials if group == "test" and "N2N3" in counts else 0
    if group == "test":
        pickles = [f"{when}{stage}_data" for when in ("", "precue_") for stage in counts] + ["SO_data"] * bool(by_phase)
        files = [layout.main_file(name, pickle) for pickle in pickles]
    else:
        kinds = (layout.whole_file, layout.sleep_file) if settings.card.awake_kinds else (layout.sleep_file,)
        files = [kind(name, stage) for stage, count in counts.items() if count for kind in kinds]
    if files or not settings.sleep_kinds:
        files += [layout.main_file(name, "Whole_data"), truth.file_name(name, "trials")]
    pool, beside = len(card.items) * cohort.awake_trials, sum(counts.values()) * card.awake_per_sleep
    size = len(settings.card.awake_kinds) * (pool + beside) * one_awake + _TRUTH_BYTES
    size += (3 * sum(counts.values()) + len(SO_GROUPS) * by_phase) * trial
    return Job(tuple(files), size, _write_trials, (settings, group, number))


def _write_trials(out: Path, settings: Simulation, group: str, number: int) -> None:
    subject = Subject(settings, group, number)
    writer = layout.SubjectWriter(out, subject.name, settings.card, simulated=True)
    awake = {modality: trials.awake_trials(subject, modality) for modality in settings.card.awake_kinds}
    sleep = {stage: trials.sleep_trials(subject, stage, n) for stage, n in _counts(settings, group).items()}
    for stage, (items, eeg, _) in sleep.items():
        beside = _beside(subject, stage, items, awake)
        if group == "test":
            parts = trials.data_types(subject, stage, len(items))
            writer.test(f"{stage}_data", items, eeg, parts, beside)
            before = trials.precue_trials(subject, stage, len(items))
            writer.test(f"precue_{stage}_data", before.item, before.eeg, parts)
        elif len(items):
            writer.training(stage, items, eeg, beside if awake else None)
    if group == "test" and settings.cohort.so_trials and "N2N3" in sleep:
        writer.by_phase(trials.so_trials(subject, settings.cohort.so_trials))
    kinds = {
        f"awake_{modality}": (np.repeat(np.arange(len(pool)), pool.shape[1]), np.concatenate(pool))
        for modality, pool in awake.items()
    }
    writer.single_trials(kinds | {stage: (own.item, own.eeg) for stage, own in sleep.items()})
    cues = {stage: own.truth for stage, own in sleep.items() if len(own.item)}
    tables = {f"trials/{stage}": table for stage, table in cues.items()}
    if cues:
        tables["trials/memory"] = memory_table(subject, pd.concat(cues.values()))
    truth.write_truth(out / truth.file_name(subject.name, "trials"), tables, truth.subject_arrays(subject))


def _beside(subject: Subject, stage: str, items: np.ndarray, awake: dict[str, np.ndarray]) -> layout.Beside:
    """Yield the awake trials stored beside each sleep trial."""
    for place, item in enumerate(items):
        yield place, {kind: trials.draw_awake(subject, stage, place, pool[item]) for kind, pool in awake.items()}


def _write_staging(out: Path, settings: Simulation, group: str, number: int) -> None:
    subject = Subject(settings, group, number)
    windows, stages = trials.staging_night(subject, settings.staging.epochs)
    pairs = zip(np.repeat(stages, 10)[: len(windows)].tolist(), windows, strict=True)
    layout.SubjectWriter(out, subject.name, settings.card, simulated=True).staging(pairs, stages.tolist())


def _write_labels(out: Path, settings: Simulation) -> None:
    """Write the hypnograms of all subjects' whole nights, as the published labels hold them."""
    content, people = {}, {*settings.cohort.people, *settings.staging.people}
    for group, number in sorted(people, key=lambda one: (one[0] == "test", one[1])):
        segments = segments_of(hypnogram(settings.night, settings.seed, group, number))
        onset = [float(second) for second in segments["onset"]]
        content[subject_name(group, number)] = {MARK: True, **segments, "onset": onset}
    write_pickle(content, out / LABELS)
