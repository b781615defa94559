"""Writes one prepared subject's files, in the published layout (docs/data_format.md)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import trial_origin
from sleep_interpreter.data.formats.hypnograms import segments_of
from sleep_interpreter.data.formats.scoring_readers import UNSCORED
from sleep_interpreter.data.formats.slow_oscillation_trials import SO_GROUPS
from sleep_interpreter.data.formats.subject_writer import SubjectWriter, is_test
from sleep_interpreter.data.formats.test_trials import DATA_TYPES, TRIAL_STAGES
from sleep_interpreter.data.preparation.channels import KINDS
from sleep_interpreter.data.preparation.recording import Cleaned
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.data.preparation.stages import scored_span, staging_windows
from sleep_interpreter.data.preparation.trials import SLEEP_STAGES, Trials, parts_in_time
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS
from sleep_interpreter.utils.core.provenance import MARK


def write_trials(
    writer: SubjectWriter, trials: Mapping[str, Trials], precue: Mapping[str, Trials], settings: Preparation,
    notes: list[str],
) -> dict:  # fmt: skip
    """Write the trial files of one subject, and return how many trials there are by kind and part.

    `trials` are of "image", "audio", "N2N3", "REM", `precue` of "N2N3", "REM": those before the cues, in their order.
    What the user should know is appended to `notes`.
    """
    modalities, test = settings.card.awake_kinds, is_test(writer.name)
    kinds = [stage for stage in TRIAL_STAGES if stage in settings.card.conditions]
    counts: dict = {kind: len(trials[kind].table) for kind in (*modalities, *kinds)}
    single = {f"awake_{m}": (trials[m].items, trials[m].eeg) for m in modalities}
    single |= {stage: (trials[stage].items, trials[stage].eeg) for stage in kinds}
    origins = {kind: origins_of(trials[kind].table) for kind in (*modalities, *kinds)}
    stored = {f"awake_{kind}" if kind in modalities else kind: own for kind, own in origins.items()}
    writer.single_trials(single, stored, **({MARK: True} if writer.simulated else {}))
    for stage in kinds:
        own, parts = trials[stage], parts_in_time(trials[stage].table, settings.split.parts)
        draws = draw_awake(trials, stage, writer.name, settings, notes) if modalities else {}
        beside = ((k, {m: trials[m].eeg[some] for m, some in places.items()}) for k, places in draws.items())
        if test:  # awake trials go in only if every sleep trial has them
            whole = beside if len(draws) == len(parts) else ()
            writer.test(f"{stage}_data", own.items, own.eeg, parts, whole, origins[stage])
            if stage in precue:
                before = precue[stage]
                known = origins_of(before.table)
                writer.test(f"precue_{stage}_data", before.items, before.eeg, parts[before.table.index], (), known)
            counts |= {f"{stage} {part}": int((parts == part).sum()) for part in DATA_TYPES}
        elif len(own.table):
            writer.training(stage, own.items, own.eeg, beside if draws else None)
    if test and "N2N3" in kinds:
        own = trials["N2N3"]
        group = own.table.get("so_group", pd.Series(index=own.table.index, dtype=object)).to_numpy(object)
        eeg, phase_from = own.eeg.transpose(0, 2, 1), settings.slow_oscillations.phase_from
        coupled = own.table.get("spindle_coupled", pd.Series(index=own.table.index, dtype=object)).to_numpy(bool)
        writer.by_phase(
            {g: (own.items[group == g], np.ascontiguousarray(eeg[group == g])) for g in SO_GROUPS},
            {
                g: {
                    "phase_from": phase_from,
                    "spindle_coupled": coupled[group == g],
                    trial_origin.FIELD: origins_of(own.table[group == g]),
                }
                for g in SO_GROUPS
            },
        )
        counts["SO"] = {g: int((group == g).sum()) for g in SO_GROUPS}
    return counts


def origins_of(table: pd.DataFrame) -> list[dict]:
    """Return where trials come from, as their files say it; `table` is that of `Trials`."""
    names = {code: STAGES[code] for codes in SLEEP_STAGES.values() for code in codes}
    if "stage" in table:
        named = [stage if isinstance(stage, str) else names.get(stage) for stage in table.stage]
        table = table.assign(stage=pd.Series(named, table.index, dtype=object))
    return trial_origin.to_dicts(table)


def draw_awake(
    trials: Mapping[str, Trials], stage: str, name: str, settings: Preparation, notes: list[str]
) -> dict[int, dict[str, np.ndarray]]:
    """Draw 15 awake trials of each kind (as many as the card says) for each sleep trial whose item has some.

    Returns {place of a sleep trial: {modality: places of its awake trials}}. 15 different ones where there are 15,
    otherwise some repeatedly. The draw depends on the seed, the subject and the trial's place only.
    """
    card = settings.card
    many, modalities = card.awake_per_sleep, card.awake_kinds
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
        notes.append(f"{stage}: fewer than {many} awake trials of {which}: some are stored repeatedly")
    return draws


def write_staging(
    writer: SubjectWriter, cleaned: Cleaned, settings: Preparation, notes: list[str]
) -> tuple[dict | None, int]:
    """Write staging windows and 30 s labels of a subject's longest scored night.

    Returns {"onset", "label"} as in Whole_label_data.pickle, None where nothing is scored; and the number of windows.
    """
    codes = np.zeros(0, int) if cleaned.hypnogram is None else cleaned.hypnogram.epochs(cleaned.raw.seconds)
    first, last = scored_span(codes)
    if last - first < 1:
        return None, 0
    if gaps := int((codes[first:last] == UNSCORED).sum()):
        notes.append(f"{gaps} epochs inside the night are not scored: they are -1 in raw* and the label file")
    night = codes[first:last]
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
        windows = staging_windows(cleaned.raw, cleaned.plan, codes, settings.stages)
        count = writer.staging(windows, night.tolist())
    segments = segments_of(night)
    onset = [float(STAGING_SECONDS * first + second) for second in segments["onset"]]
    return {"onset": onset, "label": segments["label"]}, count
