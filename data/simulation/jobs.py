"""The files of a simulated data set job by job: the published layout, the recording, the truth, raw nights.

Each job writes the files of one subject; they depend on the settings and the subject's number only, and not on the
process that writes them. Every trial carries the mark of simulation (`utils.core.provenance.MARK`), first in its dict.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.hypnograms import segments_of
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.tfrecords import STAGING, Record, sleep_schema, whole_schema, write_records
from sleep_interpreter.data.simulation import bids, trials, truth
from sleep_interpreter.data.simulation.night import hypnogram, memory_table, recorded_night
from sleep_interpreter.data.simulation.settings import Simulation
from sleep_interpreter.data.simulation.subject import Subject, subject_name
from sleep_interpreter.utils.core import data_card
from sleep_interpreter.utils.core.constants import STAGES, STREAM_RATE
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.signal.brainvision_writer import SUFFIXES

RECORDING = "recordings/simulated_night.vhdr"
LABELS = "SI Staging Label/Whole_label_data.pickle"
PARTS = ("recording", "trials", "bids")
"""What a data set may hold: the short recording, the published layout with its truth, raw nights in BIDS."""

_WINDOW_BYTES = 3 * 15000 * 4
_TRUTH_BYTES = 170_000
_MARKED = {MARK: True}

_Files = dict[str, str]
"""A job's files by what they hold."""
_Counts = dict[str, int]
"""Numbers of sleep trials by kind, "N2N3" and "REM"."""


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
    jobs = []
    if "bids" in parts:
        jobs += _bids_jobs(settings)
    if "recording" in parts:
        seconds = 60 * sum(minutes for _, minutes in settings.recording.stages)
        size = int(seconds * STREAM_RATE) * (len(settings.head.montage) + 6) * 4
        files = tuple(Path(RECORDING).with_suffix(suffix).as_posix() for suffix in SUFFIXES)
        jobs.append(Job(files, size, _write_recording, (settings,)))
    if "trials" in parts:
        jobs += _trial_jobs(settings)
    if settings.card != data_card.published():
        jobs.append(Job((data_card.FILE,), 10_000, _write_card, (settings,)))
    if parts != ("recording",):
        jobs.append(Job((truth.OVERVIEW,), 10_000, truth.write_overview, (settings,)))
    return [job for job in jobs if job.files]


def _write_card(out: Path, settings: Simulation) -> None:
    data_card.write(settings.card, out)


def _bids_jobs(settings: Simulation) -> list[Job]:
    night, jobs = settings.night, []
    n_channels = len(settings.head.montage) + 6
    for session in bids.tasks(settings):
        for group, count in (("train", night.train_subjects), ("test", night.test_subjects)):
            for number in range(count):
                files = bids.session_files(settings, group, number, session)
                size = bids.seconds(settings, group, number, session) * STREAM_RATE * n_channels * 2
                arguments = (settings, group, number, session)
                jobs.append(Job(files, int(1.01 * size), bids.write_session, arguments))
    return [*jobs, Job(bids.DATASET_FILES, 10_000, bids.write_dataset_files, (settings,))]


def _write_recording(out: Path, settings: Simulation) -> None:
    recorded_night(settings).write(out / RECORDING)


def _trial_jobs(settings: Simulation) -> list[Job]:
    cohort, staging = settings.cohort, settings.staging
    subjects = cohort.train_subjects + cohort.test_subjects + staging.train_subjects + staging.test_subjects
    jobs = [_training_job(settings, number) for number in range(cohort.train_subjects)]
    jobs += [_test_job(settings, number) for number in range(cohort.test_subjects)]
    for group, count in (("train", staging.train_subjects), ("test", staging.test_subjects)):
        jobs += [_staging_job(settings, group, number) for number in range(count)]
    if staging.train_subjects + staging.test_subjects:
        jobs.append(Job((LABELS,), 4000 * subjects, _write_labels, (settings,)))
    return jobs


def _training_job(settings: Simulation, number: int) -> Job:
    name = subject_name("train", number)
    counts = _counts(settings, settings.cohort.train_trials)
    files: _Files = {}
    for stage, count in counts.items():
        if count:
            if settings.modalities:
                files[f"{stage} Whole"] = f"SI Main Train_tfrecords/{stage}/Whole_{name}.tfrecord"
            folder, suffix = ("pickle", "pickle") if stage == "REM" else ("tfrecords", "tfrecord")
            files[f"{stage} sleep"] = f"SI Main Train_{folder}/{stage}/sleep_{name}.{suffix}"
    if files or (settings.modalities and not settings.sleep_kinds):
        files["all"] = f"SI Main Train/{name}/Whole_data.pickle"
        files["truth"] = truth.file_name(name, "trials")
    size = _size_of_trials(settings, counts) if files else 0
    return Job(tuple(files.values()), size, _write_training, (settings, number, counts, files))


def _counts(settings: Simulation, n2n3: int) -> _Counts:
    """Return how many sleep trials of each kind a subject of the data set has."""
    return {kind: count for kind, count in (("N2N3", n2n3), ("REM", settings.cohort.rem_trials))
            if kind in settings.sleep_kinds}  # fmt: skip


def _write_training(out: Path, settings: Simulation, number: int, counts: _Counts, files: _Files) -> None:
    subject = Subject(settings, "train", number)
    awake, sleep = _simulated(subject, counts)
    for stage in [stage for stage, count in counts.items() if count]:
        own = sleep[stage]
        if awake:
            beside = zip(_records(subject, own), _beside(subject, stage, own, awake, "feature_"), strict=True)
            whole = (record | more for record, more in beside)
            write_records(out / files[f"{stage} Whole"], whole_schema(subject.card), whole, simulated=True)
        if stage == "REM":
            write_pickle(_pickled(subject, own), out / files["REM sleep"])
        else:
            records = _records(subject, own)
            write_records(out / files[f"{stage} sleep"], sleep_schema(subject.card), records, simulated=True)
    _write_all(out, files, subject, awake, sleep)


def _test_job(settings: Simulation, number: int) -> Job:
    name = subject_name("test", number)
    counts = _counts(settings, settings.cohort.test_trials)
    folder = f"SI Main Test/{name}"
    files = {stage: f"{folder}/{stage}_data.pickle" for stage in counts}
    files |= {f"{stage} before": f"{folder}/precue_{stage}_data.pickle" for stage in counts}
    files |= {"all": f"{folder}/Whole_data.pickle", "truth": truth.file_name(name, "trials")}
    if settings.cohort.so_trials and "N2N3" in counts:
        files["SO"] = f"{folder}/SO_data.pickle"
    size = _size_of_trials(settings, counts) + len(SO_GROUPS) * settings.cohort.so_trials * _bytes(settings)[0]
    return Job(tuple(files.values()), size, _write_test, (settings, number, counts, files))


def _write_test(out: Path, settings: Simulation, number: int, counts: _Counts, files: _Files) -> None:
    subject = Subject(settings, "test", number)
    awake, sleep = _simulated(subject, counts)
    for stage, count in counts.items():
        parts = trials.data_types(subject, stage, count)
        content = _pickled(subject, sleep[stage], parts)
        for trial, more in zip(content, _beside(subject, stage, sleep[stage], awake), strict=True):
            trial |= more
        write_pickle(content, out / files[stage])
        before = trials.precue_trials(subject, stage, count)
        write_pickle(_pickled(subject, before, parts), out / files[f"{stage} before"])
    if "SO" in files:
        groups = {
            group: {**_MARKED, "label": _one_hot(items, subject.card.items), "decode_data": eeg}
            for group, (items, eeg) in trials.so_trials(subject, settings.cohort.so_trials).items()
        }
        write_pickle(groups, out / files["SO"])
    _write_all(out, files, subject, awake, sleep)


def _size_of_trials(settings: Simulation, counts: _Counts) -> int:
    trial, one_awake = _bytes(settings)
    kinds, beside = len(settings.modalities), settings.card.awake_per_sleep
    awake = kinds * len(settings.card.items) * settings.cohort.awake_trials * one_awake
    return awake + sum(counts.values()) * (kinds * beside * one_awake + 3 * trial) + _TRUTH_BYTES


def _bytes(settings: Simulation) -> tuple[int, int]:
    """Return the bytes of a sleep trial and of an awake one."""
    return 4 * math.prod(settings.card.sleep_shape), 4 * math.prod(settings.card.awake_shape)


def _simulated(subject: Subject, counts: _Counts) -> tuple[dict[str, np.ndarray], dict[str, trials.SleepTrials]]:
    """Return a subject's awake trials by modality and sleep trials by kind."""
    awake = {modality: trials.awake_trials(subject, modality) for modality in subject.settings.modalities}
    return awake, {stage: trials.sleep_trials(subject, stage, count) for stage, count in counts.items()}


def _beside(
    subject: Subject, stage: str, sleep: trials.SleepTrials, awake: dict[str, np.ndarray], prefix: str = ""
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the awake trials stored beside each sleep trial, their fields with a prefix."""
    for place, item in enumerate(sleep.item):
        yield {
            f"{prefix}awake_{modality}_erp": trials.draw_awake(subject, stage, place, pool[item])
            for modality, pool in awake.items()
        }


def _records(subject: Subject, sleep: trials.SleepTrials) -> Iterator[Record]:
    for item, eeg in zip(sleep.item, sleep.eeg, strict=True):
        yield {"category_name": _one_hot(item, subject.card.items), "feature_Sleep_EEG": eeg}


def _pickled(subject: Subject, sleep: trials.SleepTrials, parts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return sleep trials as pickles hold them, with the part (train, val, test) that each is for."""
    content: list[dict[str, Any]] = [
        {**_MARKED, "category": _one_hot(item, subject.card.items), "Sleep_EEG": eeg}
        for item, eeg in zip(sleep.item, sleep.eeg, strict=True)
    ]
    for trial, part in zip(content, parts, strict=False):
        trial["data_type"] = part
    return content


def _write_all(
    out: Path, files: _Files, subject: Subject, awake: dict[str, np.ndarray], sleep: dict[str, trials.SleepTrials]
) -> None:
    """Write all trials in one file, and what is planted in a subject and its trials, in that order."""
    write_pickle(trials.whole_data(subject.n_items, awake, sleep), out / files["all"])
    cues = {stage: own.truth for stage, own in sleep.items() if len(own.item)}
    tables = {f"trials/{stage}": table for stage, table in cues.items()}
    if cues:
        tables["trials/memory"] = memory_table(subject, pd.concat(cues.values()))
    truth.write_truth(out / files["truth"], tables, truth.subject_arrays(subject))


def _staging_job(settings: Simulation, group: str, number: int) -> Job:
    name, epochs = subject_name(group, number), settings.staging.epochs
    files = {"windows": f"SI Staging/Train/{name}/Whole_{name}.tfrecord"}
    if group == "test":
        folder = f"SI Staging/Test/{name}"
        files = {"windows": f"{folder}/Whole_{name}.pickle", "stages": f"{folder}/raw_{name}.pickle"}
    size = max(0, 10 * epochs - 9) * _WINDOW_BYTES
    return Job(tuple(files.values()), size, _write_staging, (settings, group, number, files))


def _write_staging(out: Path, settings: Simulation, group: str, number: int, files: _Files) -> None:
    windows, stages = trials.staging_night(Subject(settings, group, number), settings.staging.epochs)
    codes = np.repeat(stages, 10)[: len(windows)]
    if group == "train":
        records = (
            {"category_name": _one_hot(c, STAGES), "feature_label": np.array([c], np.int32), "feature_data": w}
            for w, c in zip(windows, codes, strict=True)
        )
        write_records(out / files["windows"], STAGING, records, simulated=True)
    else:
        content = [{**_MARKED, "label": int(c), "data": w} for w, c in zip(windows, codes, strict=True)]
        write_pickle(content, out / files["windows"])
        write_pickle(stages.tolist(), out / files["stages"])


def _write_labels(out: Path, settings: Simulation) -> None:
    """Write the hypnograms of all subjects' whole nights, as the published labels hold them."""
    cohort, staging, content = settings.cohort, settings.staging, {}
    for group, *counts in (
        ("train", cohort.train_subjects, staging.train_subjects),
        ("test", cohort.test_subjects, staging.test_subjects),
    ):
        for number in range(max(counts)):
            segments = segments_of(hypnogram(settings.night, settings.seed, group, number))
            onset = [float(second) for second in segments["onset"]]
            content[subject_name(group, number)] = {**_MARKED, **segments, "onset": onset}
    write_pickle(content, out / LABELS)


def _one_hot(index: int | np.ndarray, names: Sequence[Any]) -> np.ndarray:
    return np.eye(len(names), dtype=np.float32)[index]
