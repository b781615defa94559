"""Writes a simulated data set in exactly the published layout (docs/data_format.md).

Each job writes the files of one subject; they depend on the settings and the subject's number only.
`simulation.json` is written last: a folder without it is not complete.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.pickles import write_pickle
from data.simulation_memory import MODALITIES, Subject
from data.simulation_recording import CHANNELS as RECORDED
from data.simulation_recording import simulate_recording, write_recording
from data.simulation_trials import awake_trials, data_types, draw_awake, sleep_trials, staging_night
from data.tfrecords import SLEEP, STAGING, WHOLE, write_records
from utils.errors import UserError
from utils.paths import shown, writing
from utils.vocabulary import ITEMS, STAGES, STREAM_RATE

log = logging.getLogger(__name__)

COMPLETE = "simulation.json"
UNFINISHED = "simulation.unfinished.json"
VERSION = 1
"""Raised with every change that makes the simulator write other bytes for the same settings."""
RECORDING = "recordings/simulated_night.vhdr"

_TRIAL_BYTES = 55 * 200 * 4
_AWAKE_BYTES = 2 * 15 * 55 * 80 * 4
_WINDOW_BYTES = 3 * 15000 * 4


class Job(NamedTuple):
    """One piece of work: the files it writes (relative to the data set), their size in bytes, the call."""

    files: tuple
    size: int
    write: Any


def write_dataset(settings, out, recording_only=False, force=False):
    """Write a simulated data set.

    A complete data set of the same settings is left as it is; an unfinished one is gone on with.

    Parameters
    ----------
    settings : data.simulation_settings.Simulation
    out : str | Path
        Folder of the data set.
    recording_only : bool
        Write only the continuous recording.
    force : bool
        Replace a simulated data set of other settings. Only files that the simulator wrote are removed.

    Returns
    -------
    written : bool
        False when the complete data set was there already.

    Raises
    ------
    UserError
        The folder holds something else, or there is not enough room.
    """
    from tqdm import tqdm

    out = Path(out)
    jobs = recording_jobs(settings) if recording_only else all_jobs(settings)
    manifest = _manifest(settings, jobs)
    old = _found(out)
    outdated = []
    if old is not None:
        same = old == manifest
        complete = (out / COMPLETE).is_file()
        if same and complete and all((out / file).is_file() for file in manifest["files"]):
            log.info("%s: complete with these settings already, left as it is", shown(out))
            return False
        if not same and complete and not force:
            raise UserError(
                f"{shown(out)}: holds a simulated data set of other settings; "
                "nothing was changed, give --force to replace it or another folder with --out"
            )
        outdated = [] if same else [out / file for file in old["files"] if (out / file).is_file()]
    waiting = [job for job in jobs if outdated or not all((out / file).is_file() for file in job.files)]
    _check_room(out, sum(job.size for job in waiting) - sum(file.stat().st_size for file in outdated))
    if (out / COMPLETE).is_file():
        (out / COMPLETE).replace(out / UNFINISHED)  # from here on the folder counts as unfinished
    for file in outdated:
        file.unlink()
    _write_json(manifest, out / UNFINISHED)
    for job in tqdm(waiting, desc="simulating", unit="job", disable=None):
        job.write(out)
    _write_json(manifest, out / COMPLETE)
    (out / UNFINISHED).unlink()
    return True


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
            write_records(out / names[stage, "Whole"], WHOLE, _whole(subject, stage, trials, pools))
            if stage == "N2N3":
                write_records(out / names[stage, "sleep"], SLEEP, _sleep(trials))
            else:
                content = [
                    {"category": _one_hot(item, ITEMS), "Sleep_EEG": eeg}
                    for item, eeg in zip(*trials, strict=True)
                ]
                write_pickle(content, out / names[stage, "sleep"])

    return Job(tuple(names.values()), size, write)


def _test_job(settings, number):
    subject = Subject(settings, "test", number)
    counts = {"N2N3": settings.cohort.test_trials, "REM": settings.cohort.rem_trials}
    names = {stage: f"SI Main Test/{subject.name}/{stage}_data.pickle" for stage in counts}

    def write(out):
        pools = {modality: awake_trials(subject, modality) for modality in MODALITIES}
        for stage, count in counts.items():
            trials = sleep_trials(subject, stage, count)
            parts = data_types(subject, stage, count)
            content = [
                {
                    "category": _one_hot(item, ITEMS),
                    "Sleep_EEG": eeg,
                    **{
                        f"awake_{modality}_erp": draw_awake(subject, stage, place, pools[modality][item])
                        for modality in MODALITIES
                    },
                    "data_type": parts[place],
                }
                for place, (item, eeg) in enumerate(zip(*trials, strict=True))
            ]
            write_pickle(content, out / names[stage])

    return Job(tuple(names.values()), sum(counts.values()) * (_AWAKE_BYTES + _TRIAL_BYTES), write)


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
                write_records(out / names[subject.name], STAGING, map(_staging_record, windows, codes))
            else:
                content = [{"label": int(c), "data": w} for w, c in zip(windows, codes, strict=True)]
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
        "onset": [30.0 * start for start in (*starts, len(stages))],
        "label": [int(stages[start]) for start in starts],
    }


def _manifest(settings, jobs):
    subject = Subject(settings, "test", settings.recording.test_subject)
    return {
        "simulated": True,
        "note": "written by data/simulate.py; no figure made from it says anything about people",
        "version": VERSION,
        "settings": settings.model_dump(mode="json"),
        "planted": {
            "chance": 1 / len(ITEMS),
            "item_components_in_sleep_s": subject.planted_latencies(),
            "recording_subject": subject.name,
        },
        "files": sorted(file for job in jobs for file in job.files),
    }


def _found(out):
    """Return the manifest of what the simulator wrote into the folder before, None if it is empty."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)}: is a file; give a folder with --out")
    if not out.exists() or not any(out.iterdir()):
        return None
    path = next((out / name for name in (COMPLETE, UNFINISHED) if (out / name).is_file()), None)
    if path is None:
        raise UserError(
            f"{shown(out)}: holds files that the simulator did not write; "
            "nothing was changed, give an empty folder with --out"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        inside = all((out / file).resolve().is_relative_to(out.resolve()) for file in content["files"])
    except (ValueError, TypeError, KeyError):
        inside = False
    if not inside:
        raise UserError(f"{shown(path)}: not a manifest of the simulator; give another folder with --out")
    return content


def _check_room(out, size):
    place = next(p for p in (out.resolve(), *out.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    needed = int(1.05 * max(size, 0)) + 10_000_000
    if free < needed:
        raise UserError(
            f"{shown(out)}: the data set needs {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free; "
            "make room or give another folder with --out"
        )


def _write_json(content, path):
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
