"""Writes one prepared subject's files, in the published layout (docs/data_format.md)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.data.formats.scoring_readers import UNSCORED
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.test_trials import DATA_TYPES, TRIAL_STAGES
from sleep_interpreter.data.formats.tfrecords import STAGING, sleep_schema, whole_schema, write_records
from sleep_interpreter.data.preparation.channels import KINDS
from sleep_interpreter.data.preparation.recording import Cleaned
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.stages import epoch_codes, scored_span, staging_windows
from sleep_interpreter.data.preparation.trials import Trials, parts_in_time
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, WAKE
from sleep_interpreter.utils.core.data_card import AWAKE, DataCard
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.core.safe_pickle import write_pickle

AwakeDraws = dict[int, dict[str, np.ndarray]]
"""{place of a sleep trial: {modality: places of its awake trials}}."""


def write_trials(
    folder: Path, name: str, trials: Mapping[str, Trials], precue: Mapping[str, Trials],
    settings: Preparation, simulated: bool, notes: list[str],
) -> dict:  # fmt: skip
    """Write the trial files of one subject, and return how many trials there are by kind and part.

    `folder` is the root of the layout, `name` "subject_3" or "subject_test_0"; `trials` are of "image", "audio",
    "N2N3", "REM", `precue` of "N2N3", "REM": those before the cues, in their order. What the user should know is
    appended to `notes`.
    """
    mark = {MARK: True} if simulated else {}
    card = settings.card
    modalities, kinds = ([kind for kind in some if kind in card.conditions] for some in (AWAKE, TRIAL_STAGES))
    parts = {stage: parts_in_time(trials[stage].table, settings.split.parts) for stage in kinds}
    counts: dict = {kind: len(trials[kind].table) for kind in (*modalities, *kinds)}
    test = name.startswith("subject_test_")
    main = folder / ("SI Main Test" if test else "SI Main Train") / name
    single = {f"awake_{m}": _records(trials[m], card, mark, "EEG") for m in modalities}
    single |= {stage: _records(trials[stage], card, mark, "EEG") for stage in kinds}
    write_pickle({**mark, **single}, main / "Whole_data.pickle")
    for stage in kinds:
        draws = draw_awake(trials, stage, name, settings, notes) if modalities else {}
        if test:
            _write_test(main, stage, trials, card, draws, parts[stage], precue.get(stage), mark)
            counts |= {f"{stage} {part}": int((parts[stage] == part).sum()) for part in DATA_TYPES}
        elif len(trials[stage].table):
            _write_training(folder, name, stage, trials, card, draws, mark)
    if test and "N2N3" in kinds:
        write_pickle(_groups(trials["N2N3"], card, mark), main / "SO_data.pickle")
        groups = trials["N2N3"].table.get("so_group")
        counts["SO"] = {g: 0 if groups is None else int((groups == g).sum()) for g in SO_GROUPS}
    return counts


def _one_hot(index: int, names: Sequence[Any]) -> np.ndarray:
    return np.eye(len(names), dtype=np.float32)[int(index)]


def _records(trials: Trials, card: DataCard, mark: dict, key: str, parts: np.ndarray | None = None) -> list[dict]:
    """Return trials as pickles hold them, one dict each, with the EEG under `key`."""
    own = [{}] * len(trials.eeg) if parts is None else [{"data_type": str(part)} for part in parts]
    return [
        {**mark, "category": _one_hot(item, card.items), key: eeg, **part}
        for item, eeg, part in zip(trials.items, trials.eeg, own, strict=True)
    ]


def draw_awake(
    trials: Mapping[str, Trials], stage: str, name: str, settings: Preparation, notes: list[str]
) -> AwakeDraws:
    """Draw 15 awake trials of each kind (as many as the card says) for each sleep trial whose item has some.

    15 different ones where there are 15, otherwise some repeatedly. The draw depends on the seed, the subject
    and the trial's place only.
    """
    card = settings.card
    many, modalities = card.awake_per_sleep, [kind for kind in AWAKE if kind in card.conditions]
    pools = {m: [np.flatnonzero(trials[m].items == k) for k in range(len(card.items))] for m in modalities}
    draws = {}
    for place, item in enumerate(trials[stage].items):
        own = [pools[m][item] for m in modalities]
        if all(len(pool) for pool in own):
            rng = np.random.default_rng([settings.seed, *f"{name} {stage}".encode(), place])
            draws[place] = {m: np.resize(rng.permutation(pool), many) for m, pool in zip(modalities, own, strict=True)}
    total = len(trials[stage].table)
    if lacking := total - len(draws):
        notes.append(f"{stage}: {lacking} of {total} sleep trials have no awake trials of their item")
    fewest = [min(len(pools[m][k]) for m in modalities) for k in range(len(card.items))]
    few = [item for item, n in zip(card.item_names, fewest, strict=True) if 0 < n < many]
    if few and draws:
        which = "all items" if len(few) == len(card.items) else ", ".join(few)
        text = f"fewer than {many} awake trials of {which}: some are stored repeatedly"
        notes.append(f"{stage}: {text}")
    return draws


def _write_test(
    main: Path, stage: str, trials: Mapping[str, Trials], card: DataCard, draws: AwakeDraws, parts: np.ndarray,
    precue: Trials | None, mark: dict,
) -> None:  # fmt: skip
    """Write a test subject's pickles; awake trials go in only if every sleep trial has them."""
    content = _records(trials[stage], card, mark, "Sleep_EEG", parts)
    if len(draws) == len(content):
        for place, trial in enumerate(content):
            trial |= {f"awake_{m}_erp": trials[m].eeg[places] for m, places in draws[place].items()}
    write_pickle(content, main / f"{stage}_data.pickle")
    if precue is not None:
        before = _records(precue, card, mark, "Sleep_EEG", parts[precue.table.index])
        write_pickle(before, main / f"precue_{stage}_data.pickle")


def _write_training(
    folder: Path, name: str, stage: str, trials: Mapping[str, Trials], card: DataCard, draws: AwakeDraws, mark: dict
) -> None:
    own = trials[stage]
    tfrecords = folder / "SI Main Train_tfrecords" / stage
    if draws:
        whole = (
            {
                "category_name": _one_hot(own.items[place], card.items),
                "feature_Sleep_EEG": own.eeg[place],
                **{f"feature_awake_{m}_erp": trials[m].eeg[some] for m, some in places.items()},
            }
            for place, places in draws.items()
        )
        write_records(tfrecords / f"Whole_{name}.tfrecord", whole_schema(card), whole, bool(mark))
    if stage == "N2N3":
        sleep = (
            {"category_name": _one_hot(item, card.items), "feature_Sleep_EEG": eeg}
            for item, eeg in zip(own.items, own.eeg, strict=True)
        )
        write_records(tfrecords / f"sleep_{name}.tfrecord", sleep_schema(card), sleep, bool(mark))
    else:
        path = folder / "SI Main Train_pickle" / "REM" / f"sleep_{name}.pickle"
        write_pickle(_records(own, card, mark, "Sleep_EEG"), path)


def _groups(trials: Trials, card: DataCard, mark: dict) -> dict[str, dict]:
    """Return the content of an SO pickle: all eight groups, samples first as published."""
    group = trials.table.get("so_group")
    content = {}
    for name in SO_GROUPS:
        places = np.flatnonzero(group == name) if group is not None else np.zeros(0, int)
        eeg = np.ascontiguousarray(trials.eeg[places].transpose(0, 2, 1))
        label = np.eye(len(card.items), dtype=np.float32)[trials.items[places]]
        content[name] = {**mark, "label": label, "decode_data": eeg}
    return content


def write_staging(
    folder: Path, name: str, cleaned: Cleaned, settings: Preparation, notes: list[str]
) -> tuple[dict | None, int]:
    """Write staging windows and 30 s labels of a subject's longest scored night.

    Returns {"onset", "label"} as in Whole_label_data.pickle, None where nothing is scored; and the number of windows.
    """
    if cleaned.hypnogram is None:
        return None, 0
    codes = epoch_codes(cleaned.hypnogram, cleaned.raw.seconds)
    first, last = scored_span(codes)
    if last - first < 1:
        return None, 0
    if gaps := int((codes[first:last] == UNSCORED).sum()):
        text = "are not scored: they count as W/N1 in raw* and the label file"
        notes.append(f"{gaps} epochs inside the night {text}")
    filled = np.where(codes == UNSCORED, WAKE, codes)[first:last]
    count = 0
    lacking = [
        f"{kind.upper()} ({pair[0]})"
        for kind, found in zip(KINDS, cleaned.plan.derivations, strict=True)
        if (pair := getattr(settings.channels, kind)) is not None and found is None
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
            labels = [(_one_hot(code, STAGES), np.array([code], np.int32)) for code in range(len(STAGES))]
            records = (
                {"category_name": labels[code][0], "feature_label": labels[code][1], "feature_data": window}
                for code, window in windows
                if code != UNSCORED
            )
            count = write_records(base / f"Whole_{name}.tfrecord", STAGING, records, cleaned.simulated)
    starts = [k for k in range(len(filled)) if k == 0 or filled[k] != filled[k - 1]]
    onset = [float(STAGING_SECONDS * (first + k)) for k in (*starts, len(filled))]
    return {"onset": onset, "label": [int(filled[k]) for k in starts]}, count
