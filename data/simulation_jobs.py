"""The files of a simulated data set, in exactly the published layout (docs/data_format.md), job by job.

Each job writes the files of one subject; they depend on the settings and the subject's number only. Every
trial carries the mark of simulation (`utils.provenance.MARK`), first in its dict.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.pickles import write_pickle
from data.simulation_memory import MODALITIES, Subject
from data.simulation_recording import CHANNELS as RECORDED
from data.simulation_recording import simulate_recording, write_recording
from data.simulation_so import so_trials
from data.simulation_trials import (
    awake_trials,
    data_types,
    draw_awake,
    precue_trials,
    sleep_trials,
    staging_night,
)
from data.so_groups import SO_GROUPS
from data.tfrecords import SLEEP, STAGING, WHOLE, write_records
from utils.provenance import MARK
from utils.vocabulary import ITEMS, STAGES, STREAM_RATE

RECORDING = "recordings/simulated_night.vhdr"

_TRIAL_BYTES = 55 * 200 * 4
_AWAKE_BYTES = 2 * 15 * 55 * 80 * 4
_WINDOW_BYTES = 3 * 15000 * 4
_MARKED = {MARK: True}


class Job(NamedTuple):
    """One piece of work: the files it writes (relative to the data set), their size in bytes, the call."""

    files: tuple
    size: int
    write: Any


def all_jobs(settings):
    """Return the jobs of a whole data set."""
    cohort, staging = settings.cohort, settings.staging
    jobs = [_training_job(settings, number) for number in range(cohort.train_subjects)]
    jobs += [_test_job(settings, number) for number in range(cohort.test_subjects)]
    if staging.train_subjects + staging.test_subjects:
        jobs.append(_staging_job(settings))
    return [job for job in jobs if job.files] + recording_jobs(settings)


def recording_jobs(settings):
    """Return the job of the continuous recording."""
    minutes = sum(minutes for _, minutes in settings.recording.stages)
    files = tuple(
        str(Path(RECORDING).with_suffix(suffix).as_posix()) for suffix in (".eeg", ".vmrk", ".vhdr")
    )

    def write(out):
        write_recording(simulate_recording(settings), out / RECORDING)

    return [Job(files, int(minutes * 60 * STREAM_RATE) * len(RECORDED) * 4, write)]


def _training_job(settings, number):
    subject = Subject(settings, "train", number)
    counts = {"N2N3": settings.cohort.train_trials, "REM": settings.cohort.rem_trials}
    names, size = {}, 0
    for stage, count in counts.items():
        if count:
            folder = f"SI Main Train_tfrecords/{stage}"
            names[stage, "Whole"] = f"{folder}/Whole_{subject.name}.tfrecord"
            names[stage, "sleep"] = (
                f"{folder}/sleep_{subject.name}.tfrecord"
                if stage == "N2N3"
                else f"SI Main Train_pickle/REM/sleep_{subject.name}.pickle"
            )
            size += count * (_AWAKE_BYTES + 2 * _TRIAL_BYTES)

    def write(out):
        pools = {modality: awake_trials(subject, modality) for modality in MODALITIES}
        for stage in [stage for stage, count in counts.items() if count]:
            trials = sleep_trials(subject, stage, counts[stage])
            whole = _whole(subject, stage, trials, pools)
            write_records(out / names[stage, "Whole"], WHOLE, whole, simulated=True)
            if stage == "N2N3":
                write_records(out / names[stage, "sleep"], SLEEP, _sleep(trials), simulated=True)
            else:
                content = [
                    {**_MARKED, "category": _one_hot(item, ITEMS), "Sleep_EEG": eeg}
                    for item, eeg in zip(*trials, strict=True)
                ]
                write_pickle(content, out / names[stage, "sleep"])

    return Job(tuple(names.values()), size, write)


def _test_job(settings, number):
    subject = Subject(settings, "test", number)
    counts = {"N2N3": settings.cohort.test_trials, "REM": settings.cohort.rem_trials}
    folder = f"SI Main Test/{subject.name}"
    names = {stage: f"{folder}/{stage}_data.pickle" for stage in counts}
    before = {stage: f"{folder}/precue_{stage}_data.pickle" for stage in counts}
    groups = (f"{folder}/SO_data.pickle",) if settings.cohort.so_trials else ()

    def write(out):
        pools = {modality: awake_trials(subject, modality) for modality in MODALITIES}
        for stage, count in counts.items():
            parts = data_types(subject, stage, count)
            content = _test_trials(sleep_trials(subject, stage, count), parts)
            for place, trial in enumerate(content):
                item = int(trial["category"].argmax())
                for modality in MODALITIES:
                    awake = draw_awake(subject, stage, place, pools[modality][item])
                    trial[f"awake_{modality}_erp"] = awake
            write_pickle(content, out / names[stage])
            write_pickle(_test_trials(precue_trials(subject, stage, count), parts), out / before[stage])
        for file in groups:
            content = {
                group: {**_MARKED, "label": _one_hot(items, ITEMS), "decode_data": eeg}
                for group, (items, eeg) in so_trials(subject, settings.cohort.so_trials).items()
            }
            write_pickle(content, out / file)

    size = sum(counts.values()) * (_AWAKE_BYTES + 2 * _TRIAL_BYTES)
    size += len(SO_GROUPS) * settings.cohort.so_trials * _TRIAL_BYTES
    return Job((*names.values(), *before.values(), *groups), size, write)


def _test_trials(trials, parts):
    return [
        {**_MARKED, "category": _one_hot(item, ITEMS), "Sleep_EEG": eeg, "data_type": part}
        for item, eeg, part in zip(*trials, parts, strict=True)
    ]


def _staging_job(settings):
    plan = settings.staging
    train = [Subject(settings, "train", number) for number in range(plan.train_subjects)]
    test = [Subject(settings, "test", number) for number in range(plan.test_subjects)]
    labels = "SI Staging Label/Whole_label_data.pickle"
    names = {s.name: f"SI Staging/Train/{s.name}/Whole_{s.name}.tfrecord" for s in train}
    names |= {s.name: f"SI Staging/Test/{s.name}/Whole_{s.name}.pickle" for s in test}
    raw = {s.name: f"SI Staging/Test/{s.name}/raw_{s.name}.pickle" for s in test}

    def write(out):
        hypnograms = {}
        for subject in train + test:
            windows, stages = staging_night(subject, plan.epochs)
            codes = np.repeat(stages, 10)[: len(windows)]
            if subject.group == "train":
                records = map(_staging_record, windows, codes)
                write_records(out / names[subject.name], STAGING, records, simulated=True)
            else:
                content = [
                    {**_MARKED, "label": int(c), "data": w} for w, c in zip(windows, codes, strict=True)
                ]
                write_pickle(content, out / names[subject.name])
                write_pickle(stages.tolist(), out / raw[subject.name])
            hypnograms[subject.name] = _hypnogram(stages)
        write_pickle(hypnograms, out / labels)

    windows = max(0, 10 * plan.epochs - 9) * (len(train) + len(test))
    return Job((*names.values(), *raw.values(), labels), windows * _WINDOW_BYTES, write)


def _whole(subject, stage, trials, pools):
    for place, (item, sleep) in enumerate(zip(*trials, strict=True)):
        yield {
            "category_name": _one_hot(item, ITEMS),
            "feature_Sleep_EEG": sleep,
            **{
                f"feature_awake_{modality}_erp": draw_awake(subject, stage, place, pools[modality][item])
                for modality in MODALITIES
            },
        }


def _sleep(trials):
    for item, sleep in zip(*trials, strict=True):
        yield {"category_name": _one_hot(item, ITEMS), "feature_Sleep_EEG": sleep}


def _staging_record(window, code):
    return {
        "category_name": _one_hot(code, STAGES),
        "feature_label": np.array([code], np.int32),
        "feature_data": window,
    }


def _one_hot(index, names):
    return np.eye(len(names), dtype=np.float32)[index]


def _hypnogram(stages):
    """Return runs of equal stages as the published labels hold them: n + 1 onsets in s, n stages."""
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    return {
        **_MARKED,
        "onset": [30.0 * start for start in (*starts, len(stages))],
        "label": [int(stages[start]) for start in starts],
    }
