"""Writes one prepared subject's files, in the published layout (docs/data_format.md)."""

import logging

import numpy as np

from sleep_interpreter.data.formats.scoring_readers import UNSCORED
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.test_trials import TRIAL_STAGES
from sleep_interpreter.data.formats.tfrecords import (
    AWAKE_PER_SLEEP,
    CHANNELS,
    SLEEP,
    STAGING,
    WHOLE,
    write_records,
)
from sleep_interpreter.data.preparation.stages import epoch_codes, scored_span, staging_windows
from sleep_interpreter.data.preparation.trials import parts_in_time
from sleep_interpreter.utils.core.constants import ITEMS, STAGES, STAGING_SECONDS, WAKE
from sleep_interpreter.utils.core.paths import writing
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import write_pickle

log = logging.getLogger(__name__)
MODALITIES = ("image", "audio")


def write_trials(folder, name, trials, precue, settings, simulated, notes):
    """Write the trial files of one subject.

    Parameters
    ----------
    folder : Path
        Root of the layout.
    name : str
        "subject_3" or "subject_test_0".
    trials : dict of str to Trials
        "image", "audio", "N2N3", "REM".
    precue : dict of str to Trials
        "N2N3", "REM": the trials before those cues, in their order.
    settings : sleep_interpreter.data.preparation.settings.Preparation
    simulated : bool
    notes : list
        What the user should know is appended.

    Returns
    -------
    counts : dict
        Trials by kind (and part), for the manifest.
    """
    mark = {MARK: True} if simulated else {}
    parts = {stage: parts_in_time(trials[stage].table, settings.split.parts) for stage in TRIAL_STAGES}
    counts = {kind: len(own.table) for kind, own in trials.items()}
    if len(settings.channels.montage) != CHANNELS:
        notes.append(
            f"{len(settings.channels.montage)} channels: the scripts read {CHANNELS}, so trials are in "
            f"Prepared/{name}/trials.npz only"
        )
        _write_npz(folder / "Prepared" / name / "trials.npz", trials, parts, settings, simulated)
        return counts
    test = name.startswith("subject_test_")
    main = folder / ("SI Main Test" if test else "SI Main Train") / name
    write_pickle(
        {
            **mark,
            **{f"awake_{m}": _single(trials[m], mark) for m in MODALITIES},
            **{stage: _single(trials[stage], mark) for stage in TRIAL_STAGES},
        },
        main / "Whole_data.pickle",
    )
    for stage in TRIAL_STAGES:
        draws = _awake_draws(trials, stage, name, settings.seed, notes)
        if test:
            _write_test(main, stage, trials, draws, parts[stage], precue.get(stage), mark)
            counts |= {
                f"{stage} {part}": int((parts[stage] == part).sum()) for part in ("train", "val", "test")
            }
        elif len(trials[stage].table):
            _write_training(folder, name, stage, trials, draws, mark)
    if test:
        write_pickle(_groups(trials["N2N3"], mark), main / "SO_data.pickle")
        groups = trials["N2N3"].table.get("so_group")
        counts["SO"] = {g: 0 if groups is None else int((groups == g).sum()) for g in SO_GROUPS}
    return counts


def _one_hot(index, names=ITEMS):
    return np.eye(len(names), dtype=np.float32)[int(index)]


def _single(trials, mark):
    return [
        {**mark, "category": _one_hot(item), "EEG": eeg}
        for item, eeg in zip(trials.table.item_index, trials.eeg, strict=True)
    ]


def _awake_draws(trials, stage, name, seed, notes):
    """Return {place of a sleep trial: {modality: 15 places}} for those whose item has awake trials of both
    kinds.

    15 different ones where there are 15, otherwise some repeatedly. The draw depends on the seed, the subject
    and the trial's place only.
    """
    pools = {
        m: [np.flatnonzero(trials[m].table.item_index.to_numpy() == k) for k in range(len(ITEMS))]
        for m in MODALITIES
    }
    draws = {}
    for place, item in enumerate(trials[stage].table.item_index.to_numpy(int)):
        own = [pools[m][item] for m in MODALITIES]
        if all(len(pool) for pool in own):
            rng = np.random.default_rng([seed, *f"{name} {stage}".encode(), place])
            draws[place] = {
                m: np.resize(rng.permutation(pool), AWAKE_PER_SLEEP)
                for m, pool in zip(MODALITIES, own, strict=True)
            }
    lacking = len(trials[stage].table) - len(draws)
    if lacking:
        notes.append(
            f"{stage}: {lacking} of {len(trials[stage].table)} sleep trials have no awake trials of "
            "their item"
        )
    few = [
        ITEMS[k] for k in range(len(ITEMS)) if 0 < min(len(pools[m][k]) for m in MODALITIES) < AWAKE_PER_SLEEP
    ]
    if few and draws:
        which = "all items" if len(few) == len(ITEMS) else ", ".join(few)
        notes.append(
            f"{stage}: fewer than {AWAKE_PER_SLEEP} awake trials of {which}: some are stored repeatedly"
        )
    return draws


def _write_test(main, stage, trials, draws, parts, precue, mark):
    """Write a test subject's pickles; awake trials go in only if every sleep trial has them."""
    own, complete = trials[stage], len(draws) == len(trials[stage].table)
    content = []
    for place, (item, eeg, part) in enumerate(zip(own.table.item_index, own.eeg, parts, strict=True)):
        trial = {**mark, "category": _one_hot(item), "Sleep_EEG": eeg, "data_type": str(part)}
        if complete:
            trial |= {f"awake_{m}_erp": trials[m].eeg[draws[place][m]] for m in MODALITIES}
        content.append(trial)
    write_pickle(content, main / f"{stage}_data.pickle")
    if precue is not None:
        before = [
            {**mark, "category": _one_hot(item), "Sleep_EEG": eeg, "data_type": str(part)}
            for item, eeg, part in zip(
                precue.table.item_index, precue.eeg, parts[precue.table.index], strict=True
            )
        ]
        write_pickle(before, main / f"precue_{stage}_data.pickle")


def _write_training(folder, name, stage, trials, draws, mark):
    own = trials[stage]
    tfrecords = folder / "SI Main Train_tfrecords" / stage
    if draws:
        whole = (
            {
                "category_name": _one_hot(own.table.item_index.iloc[place]),
                "feature_Sleep_EEG": own.eeg[place],
                **{f"feature_awake_{m}_erp": trials[m].eeg[places[m]] for m in MODALITIES},
            }
            for place, places in draws.items()
        )
        write_records(tfrecords / f"Whole_{name}.tfrecord", WHOLE, whole, bool(mark))
    items = own.table.item_index
    if stage == "N2N3":
        sleep = (
            {"category_name": _one_hot(item), "feature_Sleep_EEG": eeg}
            for item, eeg in zip(items, own.eeg, strict=True)
        )
        write_records(tfrecords / f"sleep_{name}.tfrecord", SLEEP, sleep, bool(mark))
    else:
        content = [
            {**mark, "category": _one_hot(item), "Sleep_EEG": eeg}
            for item, eeg in zip(items, own.eeg, strict=True)
        ]
        write_pickle(content, folder / "SI Main Train_pickle" / "REM" / f"sleep_{name}.pickle")


def _groups(trials, mark):
    """Return the content of an SO pickle: all eight groups, samples first as published."""
    group = trials.table.get("so_group")
    content = {}
    for name in SO_GROUPS:
        places = np.flatnonzero(group == name) if group is not None else np.zeros(0, int)
        items = trials.table.item_index.to_numpy(int)[places]
        eeg = np.ascontiguousarray(trials.eeg[places].transpose(0, 2, 1))
        content[name] = {**mark, "label": np.eye(len(ITEMS), dtype=np.float32)[items], "decode_data": eeg}
    return content


def _write_npz(path, trials, parts, settings, simulated):
    arrays = {"channels": np.array(settings.channels.montage), "simulated": np.array(simulated)}
    for kind, own in trials.items():
        arrays |= {f"{kind}_eeg": own.eeg, f"{kind}_item": own.table.item_index.to_numpy(int)}
        if kind in parts:
            arrays[f"{kind}_data_type"] = parts[kind]
    with writing(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def write_staging(folder, name, cleaned, settings, notes):
    """Write a subject's staging windows and 30 s labels.

    Parameters
    ----------
    folder : Path
    name : str
    cleaned : sleep_interpreter.data.preparation.recording.Cleaned
        Its longest scored night.
    settings : sleep_interpreter.data.preparation.settings.Preparation
    notes : list

    Returns
    -------
    hypnogram : dict
        {"onset", "label"} as in Whole_label_data.pickle; None where nothing is scored.
    count : int
        Windows written.
    """
    codes = epoch_codes(cleaned.hypnogram, cleaned.raw.seconds)
    first, last = scored_span(codes)
    if last - first < 1:
        return None, 0
    gaps = int((codes[first:last] == UNSCORED).sum())
    if gaps:
        notes.append(
            f"{gaps} epochs inside the night are not scored: they count as W/N1 in raw* and the label file"
        )
    filled = np.where(codes == UNSCORED, WAKE, codes)[first:last]
    count, wanted = 0, settings.channels
    asked = {"eeg": wanted.eeg, "eog": wanted.eog, "emg": wanted.emg}
    lacking = [
        f"{kind.upper()} ({pair[0]})"
        for (kind, pair), found in zip(asked.items(), cleaned.plan.derivations, strict=True)
        if pair is not None and found is None
    ]
    if settings.stages.windows and lacking:
        notes.append(
            f"no staging windows: there is no {', no '.join(lacking)}; name the channels in channels.eeg, "
            "eog and emg (null, where none was recorded, makes a row of zeros)"
        )
    elif settings.stages.windows:
        test, mark = name.startswith("subject_test_"), {MARK: True} if cleaned.simulated else {}
        windows = staging_windows(cleaned.raw, cleaned.plan, codes, settings.stages)
        base = folder / "SI Staging" / ("Test" if test else "Train") / name
        if test:
            content = [{**mark, "label": max(code, WAKE), "data": window} for code, window in windows]
            write_pickle(content, base / f"Whole_{name}.pickle")
            write_pickle(filled.tolist(), base / f"raw_{name}.pickle")
            count = len(content)
        else:
            records = (
                {
                    "category_name": _one_hot(code, STAGES),
                    "feature_label": np.array([code], np.int32),
                    "feature_data": window,
                }
                for code, window in windows
                if code != UNSCORED
            )
            count = write_records(base / f"Whole_{name}.tfrecord", STAGING, records, cleaned.simulated)
    starts = [k for k in range(len(filled)) if k == 0 or filled[k] != filled[k - 1]]
    onset = [float(STAGING_SECONDS * (first + k)) for k in (*starts, len(filled))]
    return {"onset": onset, "label": [int(filled[k]) for k in starts]}, count
