"""The files of a simulated data set job by job: the published layout, the recording, the truth, raw nights.

Each job writes the files of one subject; they depend on the settings and the subject's number only, and not
on the process that writes them. Every trial carries the mark of simulation (`utils.core.provenance.MARK`), first
in its dict.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.tfrecords import SLEEP, STAGING, WHOLE, write_records
from sleep_interpreter.data.simulation import bids, truth
from sleep_interpreter.data.simulation.items import MODALITIES
from sleep_interpreter.data.simulation.memory import Subject
from sleep_interpreter.data.simulation.night import hypnogram, memory_table, recorded_night
from sleep_interpreter.data.simulation.so import so_trials
from sleep_interpreter.data.simulation.trials import (
    awake_trials,
    data_types,
    draw_awake,
    precue_trials,
    sleep_trials,
    staging_night,
    whole_data,
)
from sleep_interpreter.utils.core.constants import ITEMS, STAGES, STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.signal.brainvision_writer import SUFFIXES

RECORDING = "recordings/simulated_night.vhdr"
LABELS = "SI Staging Label/Whole_label_data.pickle"
PARTS = ("recording", "trials", "bids")
"""What a data set may hold: the short recording, the published layout with its truth, raw nights in BIDS."""

_TRIAL_BYTES = 55 * 200 * 4
_AWAKE_BYTES = 55 * 80 * 4
_WINDOW_BYTES = 3 * 15000 * 4
_TRUTH_BYTES = 170_000
_MARKED = {MARK: True}


class Job(NamedTuple):
    """One piece of work: the files it writes (relative to the data set), their size in bytes, the call."""

    files: tuple
    size: int
    function: Any
    arguments: tuple

    def write(self, out):
        """Write the files into the data set `out`."""
        self.function(Path(out), *self.arguments)


def all_jobs(settings, parts=PARTS[:2]):
    """Return the jobs of a data set that holds some of `PARTS`, the longest ones first."""
    jobs = []
    if "bids" in parts:
        jobs += _bids_jobs(settings)
    if "recording" in parts:
        jobs.append(_recording_job(settings))
    if "trials" in parts:
        jobs += _trial_jobs(settings)
    if parts != ("recording",):
        jobs.append(Job((truth.OVERVIEW,), 10_000, truth.write_overview, (settings,)))
    return [job for job in jobs if job.files]


def _bids_jobs(settings):
    night, jobs = settings.night, []
    n_channels = len(settings.head.montage) + 6
    for session in ("night", "wake"):
        for group, count in (("train", night.train_subjects), ("test", night.test_subjects)):
            for number in range(count):
                files = bids.session_files(group, number, session)
                size = bids.seconds(settings, group, number, session) * STREAM_RATE * n_channels * 2
                jobs.append(
                    Job(files, int(1.01 * size), bids.write_session, (settings, group, number, session))
                )
    return [*jobs, Job(bids.DATASET_FILES, 10_000, bids.write_dataset_files, (settings,))]


def _recording_job(settings):
    seconds = 60 * sum(minutes for _, minutes in settings.recording.stages)
    files = tuple(Path(RECORDING).with_suffix(suffix).as_posix() for suffix in SUFFIXES)
    size = int(seconds * STREAM_RATE) * (len(settings.head.montage) + 6) * 4
    return Job(files, size, _write_recording, (settings,))


def _write_recording(out, settings):
    recorded_night(settings).write(out / RECORDING)


def _trial_jobs(settings):
    cohort, staging = settings.cohort, settings.staging
    subjects = cohort.train_subjects + cohort.test_subjects + staging.train_subjects + staging.test_subjects
    jobs = [_training_job(settings, number) for number in range(cohort.train_subjects)]
    jobs += [_test_job(settings, number) for number in range(cohort.test_subjects)]
    for group, count in (("train", staging.train_subjects), ("test", staging.test_subjects)):
        jobs += [_staging_job(settings, group, number) for number in range(count)]
    if staging.train_subjects + staging.test_subjects:
        jobs.append(Job((LABELS,), 4000 * subjects, _write_labels, (settings,)))
    return jobs


def _training_job(settings, number):
    name, files, size = Subject(settings, "train", number).name, {}, 0
    counts = {"N2N3": settings.cohort.train_trials, "REM": settings.cohort.rem_trials}
    for stage, count in counts.items():
        if count:
            files[stage, "Whole"] = f"SI Main Train_tfrecords/{stage}/Whole_{name}.tfrecord"
            files[stage, "sleep"] = (
                f"SI Main Train_tfrecords/{stage}/sleep_{name}.tfrecord"
                if stage == "N2N3"
                else f"SI Main Train_pickle/REM/sleep_{name}.pickle"
            )
            size += count * (30 * _AWAKE_BYTES + 2 * _TRIAL_BYTES)
    if files:
        files["all"] = f"SI Main Train/{name}/Whole_data.pickle"
        files["truth"] = truth.file_name(name, "trials")
        size += _whole_size(settings, counts)
    return Job(tuple(files.values()), size, _write_training, (settings, number, counts, files))


def _write_training(out, settings, number, counts, files):
    subject = Subject(settings, "train", number)
    pools = {modality: awake_trials(subject, modality) for modality in MODALITIES}
    sleep = {stage: sleep_trials(subject, stage, count) for stage, count in counts.items()}
    for stage in [stage for stage, count in counts.items() if count]:
        trials = sleep[stage]
        whole = _whole(subject, stage, trials, pools)
        write_records(out / files[stage, "Whole"], WHOLE, whole, simulated=True)
        if stage == "N2N3":
            write_records(out / files[stage, "sleep"], SLEEP, _sleep(trials), simulated=True)
        else:
            content = [
                {**_MARKED, "category": _one_hot(item, ITEMS), "Sleep_EEG": eeg}
                for item, eeg in zip(trials.item, trials.eeg, strict=True)
            ]
            write_pickle(content, out / files[stage, "sleep"])
    write_pickle(whole_data(pools, sleep), out / files["all"])
    _write_truth(out / files["truth"], subject, sleep)


def _test_job(settings, number):
    name = Subject(settings, "test", number).name
    counts = {"N2N3": settings.cohort.test_trials, "REM": settings.cohort.rem_trials}
    folder = f"SI Main Test/{name}"
    files = {stage: f"{folder}/{stage}_data.pickle" for stage in counts}
    files |= {("before", stage): f"{folder}/precue_{stage}_data.pickle" for stage in counts}
    files |= {"all": f"{folder}/Whole_data.pickle", "truth": truth.file_name(name, "trials")}
    if settings.cohort.so_trials:
        files["SO"] = f"{folder}/SO_data.pickle"
    size = sum(counts.values()) * (30 * _AWAKE_BYTES + 2 * _TRIAL_BYTES) + _whole_size(settings, counts)
    size += len(SO_GROUPS) * settings.cohort.so_trials * _TRIAL_BYTES
    return Job(tuple(files.values()), size, _write_test, (settings, number, counts, files))


def _write_test(out, settings, number, counts, files):
    subject = Subject(settings, "test", number)
    pools = {modality: awake_trials(subject, modality) for modality in MODALITIES}
    sleep = {stage: sleep_trials(subject, stage, count) for stage, count in counts.items()}
    for stage, count in counts.items():
        parts = data_types(subject, stage, count)
        content = _test_trials(sleep[stage], parts)
        for place, trial in enumerate(content):
            item = int(trial["category"].argmax())
            for modality in MODALITIES:
                awake = draw_awake(subject, stage, place, pools[modality][item])
                trial[f"awake_{modality}_erp"] = awake
        write_pickle(content, out / files[stage])
        write_pickle(_test_trials(precue_trials(subject, stage, count), parts), out / files["before", stage])
    if "SO" in files:
        content = {
            group: {**_MARKED, "label": _one_hot(items, ITEMS), "decode_data": eeg}
            for group, (items, eeg) in so_trials(subject, settings.cohort.so_trials).items()
        }
        write_pickle(content, out / files["SO"])
    write_pickle(whole_data(pools, sleep), out / files["all"])
    _write_truth(out / files["truth"], subject, sleep)


def _write_truth(path, subject, sleep):
    """Write what is planted in a subject, and in its trials in the order of the files."""
    cues = {stage: trials.truth for stage, trials in sleep.items() if len(trials.item)}
    tables = {f"trials/{stage}": table for stage, table in cues.items()}
    if cues:
        tables["trials/memory"] = memory_table(subject, pd.concat(cues.values()))
    truth.write_truth(path, tables, truth.subject_arrays(subject))


def _whole_size(settings, counts):
    awake = 2 * len(ITEMS) * settings.cohort.awake_trials * _AWAKE_BYTES
    return awake + sum(counts.values()) * _TRIAL_BYTES + _TRUTH_BYTES


def _test_trials(trials, parts):
    return [
        {**_MARKED, "category": _one_hot(item, ITEMS), "Sleep_EEG": eeg, "data_type": part}
        for item, eeg, part in zip(trials.item, trials.eeg, parts, strict=True)
    ]


def _staging_job(settings, group, number):
    name, epochs = Subject(settings, group, number).name, settings.staging.epochs
    files = {"windows": f"SI Staging/Train/{name}/Whole_{name}.tfrecord"}
    if group == "test":
        folder = f"SI Staging/Test/{name}"
        files = {"windows": f"{folder}/Whole_{name}.pickle", "stages": f"{folder}/raw_{name}.pickle"}
    size = max(0, 10 * epochs - 9) * _WINDOW_BYTES
    return Job(tuple(files.values()), size, _write_staging, (settings, group, number, files))


def _write_staging(out, settings, group, number, files):
    windows, stages = staging_night(Subject(settings, group, number), settings.staging.epochs)
    codes = np.repeat(stages, 10)[: len(windows)]
    if group == "train":
        records = map(_staging_record, windows, codes)
        write_records(out / files["windows"], STAGING, records, simulated=True)
    else:
        content = [{**_MARKED, "label": int(c), "data": w} for w, c in zip(windows, codes, strict=True)]
        write_pickle(content, out / files["windows"])
        write_pickle(stages.tolist(), out / files["stages"])


def _write_labels(out, settings):
    """Write the hypnograms of all subjects' whole nights."""
    cohort, staging, content = settings.cohort, settings.staging, {}
    for group, *counts in (
        ("train", cohort.train_subjects, staging.train_subjects),
        ("test", cohort.test_subjects, staging.test_subjects),
    ):
        for number in range(max(counts)):
            codes = hypnogram(settings.night, settings.seed, group, number)
            content[Subject(settings, group, number).name] = _runs(codes)
    write_pickle(content, out / LABELS)


def _whole(subject, stage, trials, pools):
    for place, (item, sleep) in enumerate(zip(trials.item, trials.eeg, strict=True)):
        yield {
            "category_name": _one_hot(item, ITEMS),
            "feature_Sleep_EEG": sleep,
            **{
                f"feature_awake_{modality}_erp": draw_awake(subject, stage, place, pools[modality][item])
                for modality in MODALITIES
            },
        }


def _sleep(trials):
    for item, sleep in zip(trials.item, trials.eeg, strict=True):
        yield {"category_name": _one_hot(item, ITEMS), "feature_Sleep_EEG": sleep}


def _staging_record(window, code):
    return {
        "category_name": _one_hot(code, STAGES),
        "feature_label": np.array([code], np.int32),
        "feature_data": window,
    }


def _one_hot(index, names):
    return np.eye(len(names), dtype=np.float32)[index]


def _runs(codes):
    """Return runs of equal stages as the published labels hold them: n + 1 onsets in s, n stages."""
    starts = [i for i, code in enumerate(codes) if i == 0 or code != codes[i - 1]]
    return {
        **_MARKED,
        "onset": [float(STAGING_SECONDS * start) for start in (*starts, len(codes))],
        "label": [int(codes[start]) for start in starts],
    }
