"""MNE Epochs as a data set: in memory, and as files of the published layout.

    data = from_epochs({"s01": sleep, "s02": ...}, wake={"s01": wake, ...}, title="Odours, Lab X")
    data.write("data/mine", test=["s02"])

The data card is made of the Epochs; what is not understood, or differs between subjects, is refused.
"""

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import mne
import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import trial_origin
from sleep_interpreter.data.formats.subject_writer import NAME_RECORDS, SubjectWriter
from sleep_interpreter.data.formats.test_trials import SubjectTrials, TestSubject, check_trial_stage
from sleep_interpreter.data.formats.validation import natural
from sleep_interpreter.data.preparation.outputs import draw_awake, origins_of, write_trials
from sleep_interpreter.data.preparation.settings import Preparation, Recordings
from sleep_interpreter.data.preparation.trials import Trials, join, parts_in_time
from sleep_interpreter.utils.core import config, data_card, provenance
from sleep_interpreter.utils.core.data_card import ASLEEP, AWAKE, CONDITIONS, DataCard, Item
from sleep_interpreter.utils.core.errors import UserError, nearest
from sleep_interpreter.utils.core.paths import atomic_folder
from sleep_interpreter.utils.signal import units
from sleep_interpreter.utils.signal.channel_names import listed
from sleep_interpreter.utils.signal.preprocessing import scale_trial
from sleep_interpreter.utils.signal.trial_ends import FILLED_UP

log = logging.getLogger(__name__)

Given: TypeAlias = mne.BaseEpochs | Mapping[str, mne.BaseEpochs]
"""Epochs of one subject, or of each by name."""
RECORD = NAME_RECORDS[0]
"""What is written beside the data: which subject became which, and how many trials there are."""
_LOOKED_AT = 20  # trials of a subject by which the unit is judged


@dataclass(frozen=True, eq=False)
class EpochsData:
    """Trials by subject and condition ("N2N3", "image", ...), as they are stored, and their data card."""

    card: DataCard
    trials: dict[str, dict[str, Trials]]
    simulated: bool = False

    def only(self, names: Iterable[str]) -> "EpochsData":
        """Return the data of these subjects; refuse a name that none has."""
        return replace(self, trials={name: self.trials[self._known(name)] for name in names})

    def without(self, names: Iterable[str]) -> "EpochsData":
        """Return the data of all but these subjects; refuse a name that none has."""
        left = {self._known(name) for name in names}
        return self.only(name for name in self.trials if name not in left)

    def subjects(self, stage: str = "N2N3", awake: bool = False) -> list[TestSubject]:
        """Return the subjects' sleep trials of a stage as `si.predict` and `si.evaluate` take them.

        `awake` takes the awake trials along, of those sleep trials whose item has some.
        """
        check_trial_stage(stage)
        for condition in (stage, *(self.card.awake_kinds or AWAKE if awake else ())):
            self.card.require(condition, "the Epochs")
        return [self._subject(name, stage, awake) for name in self.trials]

    def reader(self, stage: str = "N2N3", awake: bool = False) -> SubjectTrials:
        """Return all subjects' trials for a training (`data.formats.trial_reader.TrialReader`)."""
        parts = self.subjects(stage, awake)
        if not sum(map(len, parts)):
            raise UserError(f"the Epochs of {', '.join(self.trials)} hold no trial of {stage!r} to train on")
        joined: dict[str, Any] = {
            key: np.concatenate([getattr(part, key) for part in parts])
            for key in ("sleep", "label", "data_type", *(self.card.awake_kinds if awake else ()))
        }
        whole = replace(parts[0], name=", ".join(self.trials), origin=None, **joined)
        return SubjectTrials(whole, np.arange(len(whole)))

    @property
    def fingerprint(self) -> str:
        """A sha256 over names, labels and every sample."""
        total = hashlib.sha256()
        for name, own in self.trials.items():
            for condition, trials in own.items():
                total.update(f"{name}\0{condition}\0{trials.eeg.shape}\0".encode())
                total.update(np.ascontiguousarray(trials.items).tobytes() + np.ascontiguousarray(trials.eeg).tobytes())
        return total.hexdigest()

    def write(self, root: str | Path, test: Collection[str] = ()) -> Path:
        """Write the data set to a new folder, complete or not at all; return the folder.

        `test` names the subjects to test on, all others are to train on. The layout numbers subjects; `RECORD` says
        which is who.
        """
        if isinstance(test, str):
            raise UserError(f"write(test={test!r}): expected a list of names, [{test!r}]")
        to_test = {self._known(name) for name in test}
        numbers = {True: 0, False: 0}
        record: dict[str, Any] = {"names": {}, "counts": {}, "notes": {}}
        with atomic_folder(root) as folder:
            data_card.write(self.card, folder)
            for name, trials in self.trials.items():
                tested = name in to_test
                stored = f"subject_{'test_' if tested else ''}{numbers[tested]}"
                numbers[tested] += 1
                notes: list[str] = []
                record["names"][name] = stored
                writer = SubjectWriter(folder, stored, self.card, self.simulated)
                record["counts"][name] = write_trials(writer, trials, {}, self._settings, notes)
                record["notes"][name] = notes
                for note in notes:
                    log.info("%s: %s", name, note)
            provenance.write_json(folder / RECORD, {**record, **provenance.record()})
        return Path(root)

    @property
    def _settings(self) -> Preparation:
        return Preparation().model_copy(update={"card": self.card})

    def _known(self, name: str) -> str:
        if name not in self.trials:
            close = nearest(name, self.trials, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self.trials)}"
            raise UserError(f"no Epochs of a subject {name!r}; {hint}")
        return name

    def _subject(self, name: str, stage: str, awake: bool) -> TestSubject:
        trials = self.trials[name]
        own, more = trials[stage], dict[str, Any]()
        parts = parts_in_time(own.table, self._settings.split.parts)
        if awake:
            draws = draw_awake(trials, stage, name, self._settings, [])
            own, parts = own.select(np.array(list(draws), int)), parts[list(draws)]
            shape = (0, self.card.awake_per_sleep, *reversed(self.card.awake_shape))
            for kind in self.card.awake_kinds:
                found = [trials[kind].eeg[draw[kind]].transpose(0, 2, 1) for draw in draws.values()]
                more[kind] = np.stack(found) if found else np.zeros(shape, np.float32)
        origin = trial_origin.to_table(origins_of(own.table), f"the Epochs of {name}")
        return TestSubject(
            name, Path(name), np.ascontiguousarray(own.eeg.transpose(0, 2, 1)), own.items.astype(np.int64), parts,
            simulated=self.simulated, card=self.card, origin=origin, **more,
        )  # fmt: skip


class _Read(NamedTuple):
    """One subject's Epochs: what they are (`facts`), and EEG (n, C, T) in V with item and condition of each trial."""

    where: str
    channels: tuple[str, ...]
    facts: dict[str, Any]
    eeg: np.ndarray
    onset_s: np.ndarray
    items: list[str]
    conditions: list[str]
    possible: set[str]
    earliest_end: float | None
    origins: list[dict[str, Any]]


def from_epochs(
    sleep: Given | None = None,
    wake: Given | None = None,
    *,
    title: str = "MNE Epochs",
    items: Sequence[str | Item] | None = None,
    stage: Literal["N2N3", "REM"] = "N2N3",
    reference: str | None = None,
    unit: Literal["robust", "uV"] = "robust",
    simulated: bool = False,
) -> EpochsData:
    """Return a data set of MNE Epochs in volts, of one subject or of each by name, in order of time.

    A trial's item is its row in a column "item" of the Epochs' metadata, or else the name of its event: "rose" or, with
    the condition, "N2N3/rose", "REM/rose", "image/rose", "audio/rose"; the metadata may have a column "condition".

    Parameters
    ----------
    sleep, wake
        Epochs around cues in sleep, and of pictures and sounds awake, of which each says which of the two it is;
        either may be None. Sleep trials of unequal length have their ends, in s from the cue, in the metadata's column
        "end_s".
    title
        Of the data card.
    items
        Names of the items in the order of their class indices, or `Item`s with groups and sounds; None: those in the
        sleep Epochs, in natural order.
    stage
        Condition of sleep trials that name none.
    reference
        What the EEG is referenced to, for the data card: None where nobody knows.
    unit
        "robust" scales each channel of each trial by median and interquartile range, as published; "uV" leaves µV.
    simulated
        Marks everything that is made of these data.

    Raises
    ------
    UserError
        Epochs that are empty or have bad channels, no EEG, NaN or another unit than volts; other channels, rates,
        windows, baselines or filters than the first subject's (another order of channels is none); an item or condition
        that is unknown or has no trial.
    """
    asleep, awake = _by_name(sleep), _by_name(wake)
    names = list(dict.fromkeys([*asleep, *awake]))
    if not names:
        raise UserError("from_epochs: no Epochs are given, neither asleep nor awake")
    if isinstance(items, str):
        raise UserError(f"from_epochs: items={items!r}; expected a list of names")
    if asleep and (lacking := [name for name in awake if name not in asleep]):
        raise UserError(f"from_epochs: no Epochs asleep of {', '.join(lacking)}, but awake; leave them out")
    slept = {name: _read(epochs, f"sleep of {name}", ASLEEP, stage) for name, epochs in asleep.items()}
    woken = {name: _read(epochs, f"wake of {name}", AWAKE, None) for name, epochs in awake.items()}
    first = next(iter((slept or woken).values()))
    for reads in (slept, woken):
        for read in reads.values():
            _refuse_difference(read, next(iter(reads.values())))
    for read in woken.values():
        _refuse_difference(read, first, ("rate_hz", "filter", "reference"))
    card = _card([*slept.values()], [*woken.values()], title, items, reference, unit)
    own = {name: [reads[name] for reads in (slept, woken) if name in reads] for name in names}
    return EpochsData(card, {name: _trials(own[name], card) for name in names}, simulated)


def _by_name(given: Given | None) -> Mapping[str, mne.BaseEpochs]:
    named = {} if given is None else given if isinstance(given, Mapping) else {"subject": given}
    for name in named:
        if not isinstance(name, str) or not name:
            raise UserError(f"from_epochs: the subject {name!r} is called by no text; give names, such as 's01'")
    return named


def _read(epochs: mne.BaseEpochs, where: str, kinds: Sequence[str], otherwise: str | None) -> _Read:
    """Return what Epochs hold, or refuse them; `kinds` are their possible conditions, `otherwise` that of a trial that
    names none.
    """
    if not isinstance(epochs, mne.BaseEpochs):
        raise UserError(f"{where}: expected mne.Epochs, found {type(epochs).__name__}")
    epochs = epochs.copy().load_data()
    channels = tuple(epochs.ch_names[k] for k in mne.pick_types(epochs.info, eeg=True, exclude=()))
    if not len(epochs) or not channels:
        what = "no trial is left" if channels else "no channel is of type eeg (epochs.set_channel_types)"
        raise UserError(f"{where}: {what}")
    if bads := [name for name in channels if name in epochs.info["bads"]]:
        raise UserError(
            f"{where}: {listed(bads)} are marked as bad; interpolate them (epochs.interpolate_bads) or drop them from "
            "all subjects (epochs.drop_channels)"
        )
    eeg = epochs.get_data(picks=list(channels))
    if (bad := np.argwhere(~np.isfinite(eeg))).size:
        raise UserError(f"{where}: trial {bad[0, 0]} has NaN or infinite values in {channels[bad[0, 1]]}; drop it")
    _refuse_other_unit(eeg, where)
    _refuse_flat(eeg, channels, where)
    if pending := [p["desc"] for p in epochs.info["projs"] if not p["active"]]:
        raise UserError(f"{where}: a projection is not applied ({listed(pending)}): epochs.apply_proj() or del_proj()")
    items, conditions, possible = _names(epochs, where, kinds, otherwise)
    rate = float(epochs.info["sfreq"])
    info, first = epochs.info, round(float(epochs.tmin) * rate) / rate
    low, high = float(info["highpass"]) or None, float(info["lowpass"])
    facts: dict[str, Any] = {
        "rate_hz": rate,
        "window": {"begin": first, "end": round(first * rate + eeg.shape[2]) / rate},
        "baseline": None if epochs.baseline is None else tuple(round(float(t), 6) for t in epochs.baseline),
        "filter": {"low_hz": low, "high_hz": high if high < rate / 2 else None},
        "reference": "set in MNE" if info["custom_ref_applied"] or info["projs"] else "as recorded",
    }
    ends = _cut_at_ends(eeg, epochs, where, facts["window"], rate) if kinds == ASLEEP else None
    origins = _origins(epochs, where)
    return _Read(where, channels, facts, eeg, epochs.events[:, 0] / rate, items, conditions, possible, ends, origins)


def _origins(epochs: mne.BaseEpochs, where: str) -> list[dict[str, Any]]:
    """Return what the metadata's columns that `trial_origin.COLUMNS` knows say of each trial."""
    metadata = pd.DataFrame(index=range(len(epochs))) if epochs.metadata is None else epochs.metadata
    known = [column for column in trial_origin.COLUMNS if column in metadata]
    found = []
    for place, row in enumerate(metadata[known].to_dict("records")):
        own = {key: value for key, value in row.items() if not pd.isna(value)}
        own = {key: str(value) if trial_origin.COLUMNS[key] is str else value for key, value in own.items()}
        found.append(trial_origin.check(own, f"{where}, trial {place} of the metadata"))
    return found


def _cut_at_ends(
    eeg: np.ndarray, epochs: mne.BaseEpochs, where: str, window: dict[str, float], rate: float
) -> float | None:
    """Put NaN behind the ends of trials that the metadata's column "end_s" names; return the earliest, in s."""
    if epochs.metadata is None or "end_s" not in epochs.metadata:
        return None
    ends = pd.to_numeric(epochs.metadata["end_s"], errors="coerce").to_numpy(float)
    wrong = ~((ends > max(window["begin"], 0)) & (ends <= window["end"] + 1e-6))
    if wrong.any():
        trial = int(np.argmax(wrong))
        raise UserError(
            f"{where}: trial {trial} ends at {epochs.metadata['end_s'].iloc[trial]!r} s (metadata, column 'end_s'); "
            f"expected s from its cue, above {max(window['begin'], 0):g} and up to {window['end']:g}"
        )
    lengths = np.floor((ends - window["begin"]) * rate + 1e-6).astype(int)
    for trial, length in zip(eeg, lengths, strict=True):
        trial[:, length:] = np.nan
    shortest = int(lengths.min())
    return None if shortest == eeg.shape[2] else round(window["begin"] + shortest / rate, 9)


def _refuse_other_unit(eeg: np.ndarray, where: str) -> None:
    """Refuse EEG (n, C, T) whose amplitude cannot be that of a head in volts."""
    some = eeg[:: max(1, len(eeg) // _LOOKED_AT)]
    typical = 1e6 * float(np.median([d for trial in some for d in units.deviations(trial)]))
    low, high = Recordings().amplitude_range
    if not low <= typical <= high:
        raise UserError(
            f"{where}: the EEG's typical SD is {typical:.3g} µV, expected {low:g} to {high:g} µV: MNE's Epochs are in "
            "volts; correct them (epochs.apply_function(lambda x: x * 1e-6) where they are in µV)"
        )


def _refuse_flat(eeg: np.ndarray, channels: Sequence[str], where: str) -> None:
    """Refuse EEG (n, C, T) that stands still: a channel in a trial, or all channels in the last samples."""
    still = np.ptp(eeg, axis=2) == 0
    if still.any():
        trial, channel = (int(k) for k in np.argwhere(still)[0])
        raise UserError(
            f"{where}: {channels[channel]} is flat in trial {trial}, and flat channels are in "
            f"{int(still.any(axis=1).sum())} of {len(eeg)} trials; interpolate (epochs.interpolate_bads) or drop them"
        )
    ends = (np.diff(eeg[..., -FILLED_UP:], axis=2) == 0).all(axis=(1, 2))
    if ends.any():
        raise UserError(
            f"{where}: trial {int(np.argmax(ends))} stands still at its end in all channels, as if filled up; name the "
            "ends in s from the cue in a column 'end_s' of the metadata, or crop the Epochs"
        )


def _names(
    epochs: mne.BaseEpochs, where: str, kinds: Sequence[str], otherwise: str | None
) -> tuple[list[str], list[str], set[str]]:
    """Return each trial's item and condition, and all items that the Epochs say there are."""
    by_code = {code: name for name, code in epochs.event_id.items()}
    if len(by_code) < len(epochs.event_id):
        raise UserError(f"{where}: event_id has two names for one code")
    metadata = pd.DataFrame() if epochs.metadata is None else epochs.metadata
    events = [by_code[code] for code in epochs.events[:, 2]]
    tags, items = ([part[k] for part in (name.rpartition("/") for name in events)] for k in (0, 2))
    possible = {name.rpartition("/")[2] for name in epochs.event_id}
    if "item" in metadata:
        items, tags = list(metadata["item"]), [tag if tag in CONDITIONS else "" for tag in tags]
        possible = set(items)
    found = list(metadata["condition"]) if "condition" in metadata else [tag or otherwise for tag in tags]
    for number, (item, condition) in enumerate(zip(items, found, strict=True)):
        if not isinstance(item, str) or not item:
            raise UserError(f"{where}: trial {number} names no item: {item!r} in the column 'item' of the metadata")
        if condition not in kinds:
            says = "names no condition" if condition is None else f"is of condition {condition!r}"
            raise UserError(
                f"{where}: trial {number} (event {events[number]!r}) {says}; expected {' or '.join(kinds)} in the "
                f"column 'condition' of the metadata, or an event called {kinds[0]}/{item}"
            )
    for number, (tag, condition) in enumerate(zip(tags, found, strict=True)):
        if tag in CONDITIONS and tag != condition:
            raise UserError(
                f"{where}: trial {number} is of condition {condition!r} in the metadata, but its event is called "
                f"{events[number]!r}"
            )
    return items, [str(condition) for condition in found], possible


def _refuse_difference(
    read: _Read, first: _Read, facts: Sequence[str] = ("rate_hz", "window", "baseline", "filter", "reference")
) -> None:
    """Refuse Epochs that differ in a fact, or in the set of channels, from the first."""
    for fact in facts:
        if read.facts[fact] != first.facts[fact]:
            raise UserError(
                f"{read.where}: {fact} {read.facts[fact]}, but {first.where}: {first.facts[fact]}; make them alike in "
                "MNE (epochs.resample, crop, apply_baseline, filter, set_eeg_reference)"
            )
    if apart := sorted(set(read.channels) ^ set(first.channels)):
        raise UserError(f"{read.where} and {first.where} do not have the same channels: {listed(apart)} in one of them")


def _card(
    own: Sequence[_Read], awake: Sequence[_Read], title: str, items: Sequence[str | Item] | None,
    reference: str | None, unit: str,
) -> DataCard:  # fmt: skip
    """Return the data card of the Epochs; refuse items that are unknown, or that no sleep trial has."""
    needed, kind = (own, "sleep") if own else (awake, "awake")
    found: list[str] = sorted({name for read in needed for name in read.possible}, key=natural)
    named = [
        item.model_dump() if isinstance(item, Item) else {"name": item} for item in (found if items is None else items)
    ]
    names = [item["name"] for item in named]
    for read in (*own, *awake):
        for number, name in enumerate(read.items):
            if name not in names:
                raise UserError(f"{read.where}: trial {number} is of item {name!r}; the items are {', '.join(names)}")
    if never := [name for name in names if not any(name in read.items for read in needed)]:
        raise UserError(
            f"from_epochs: no {kind} trial of {', '.join(never)}; leave out of items, or of event_id, what has none"
        )
    present = {condition for read in (*own, *awake) for condition in read.conditions}
    window, facts = dict(needed[0].facts["window"]), needed[0].facts
    if ends := [read.earliest_end for read in own if read.earliest_end is not None]:
        window["earliest_end"] = min(ends)
    tree = {
        "title": title,
        "items": named,
        "conditions": [condition for condition in CONDITIONS if condition in present],
        "channels": needed[0].channels,
        "reference": reference,
        "filter": facts["filter"],
        "rate_hz": facts["rate_hz"],
        "windows": {"sleep": window, "wake": awake[0].facts["window"] if awake else needed[0].facts["window"]},
        "unit": unit,
    }
    return config.validate(DataCard, tree, "from_epochs()")


def _trials(reads: Sequence[_Read], card: DataCard) -> dict[str, Trials]:
    """Return a subject's trials by condition, of every condition of the card."""
    found: dict[str, Trials] = {}
    for condition in card.conditions:
        parts = []
        for read in reads:
            places = [k for k, own in enumerate(read.conditions) if own == condition]
            order = [read.channels.index(name) for name in card.channels]
            eeg = read.eeg[places][:, order]
            scaled = scale_trial(eeg) if card.unit == "robust" else eeg * units.TO_MICROVOLT["V"]
            items = [read.items[k] for k in places]
            table = pd.DataFrame(
                {"onset_s": read.onset_s[places], "item": items, "item_index": [*map(card.item_index, items)]}
            )
            known = pd.DataFrame([read.origins[k] for k in places], index=table.index)
            table = table.drop(columns=table.columns.intersection(known.columns)).join(known)
            parts.append(Trials(table, scaled.astype(np.float32)))
        found[condition] = join(parts, card.awake_shape if condition in AWAKE else card.sleep_shape)
    return found
