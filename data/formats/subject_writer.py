"""Writes one subject's files in the published layout (docs/data_format.md), simulated ones and a lab's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.data.formats import trial_origin
from sleep_interpreter.data.formats.tfrecords import STAGING, sleep_schema, whole_schema, write_records
from sleep_interpreter.utils.core.constants import STAGES, UNKNOWN
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.provenance import MARK, read_json
from sleep_interpreter.utils.core.safe_pickle import write_pickle

NAME_RECORDS = ("epochs.json", "manifest.json")
"""Files in a data folder that say which of the lab's subjects became which: of MNE Epochs, and of a preparation."""
Beside = Iterable[tuple[int, dict[str, np.ndarray]]]
"""Places of sleep trials, and {modality: awake trials (15, C, T)} beside each."""
Origins = Sequence[Mapping[str, Any]]
"""Of each trial, where it comes from (`trial_origin`)."""


def is_test(name: str) -> bool:
    """Tell whether a name of the layout is a test subject's."""
    return name.startswith("subject_test_")


def main_file(name: str, file: str) -> str:
    """Return the path of one of a subject's own pickles, "N2N3_data", "Whole_data" and the like, below the root."""
    return f"SI Main {'Test' if is_test(name) else 'Train'}/{name}/{file}.pickle"


def whole_file(name: str, stage: str) -> str:
    """Return the path of a training subject's sleep trials with awake trials beside them."""
    return f"SI Main Train_tfrecords/{stage}/Whole_{name}.tfrecord"


def sleep_file(name: str, stage: str) -> str:
    """Return the path of a training subject's sleep trials alone: as published, those of REM are a pickle."""
    kind, suffix = ("pickle", "pickle") if stage == "REM" else ("tfrecords", "tfrecord")
    return f"SI Main Train_{kind}/{stage}/sleep_{name}.{suffix}"


def staging_files(name: str) -> list[str]:
    """Return the paths of a subject's staging windows and, of a test subject, the stages of the 30 s epochs."""
    if is_test(name):
        return [f"SI Staging/Test/{name}/{kind}_{name}.pickle" for kind in ("Whole", "raw")]
    return [f"SI Staging/Train/{name}/Whole_{name}.tfrecord"]


def lab_names(root: Path) -> dict[str, str]:
    """Return {"subject_test_0": the lab's own name} of a folder that says so, as prepared and written ones do."""
    for record in NAME_RECORDS:
        names = read_json(root / record).get("names", {})
        if isinstance(names, dict) and names:
            return {str(stored): str(name) for name, stored in names.items()}
    return {}


@dataclass(frozen=True)
class SubjectWriter:
    """Writes the files of the subject `name` below `root`; `items` are class indices (n,), `eeg` float32 (n, C, T)."""

    root: Path
    name: str
    card: DataCard
    simulated: bool

    @property
    def _mark(self) -> dict[str, Any]:
        return {MARK: True} if self.simulated else {}

    def _one_hot(self, items: np.ndarray) -> np.ndarray:
        return np.eye(len(self.card.items), dtype=np.float32)[items]

    def _dicts(
        self, items: np.ndarray, eeg: np.ndarray, key: str = "Sleep_EEG", origins: Origins | None = None
    ) -> list[dict[str, Any]]:
        trials = zip(self._one_hot(items), eeg, strict=True)
        content = [{**self._mark, "category": category, key: one} for category, one in trials]
        for trial, origin in zip(content, origins, strict=True) if origins is not None else ():
            trial[trial_origin.FIELD] = dict(origin)
        return content

    def training(self, stage: str, items: np.ndarray, eeg: np.ndarray, beside: Beside | None) -> None:
        """Write a training subject's sleep trials alone and, unless None, those with awake trials `beside` them."""
        trials = zip(self._one_hot(items), eeg, strict=True)
        records = [{"category_name": category, "feature_Sleep_EEG": one} for category, one in trials]
        if beside is not None:
            whole = (records[k] | {f"feature_awake_{m}_erp": some for m, some in own.items()} for k, own in beside)
            path = self.root / whole_file(self.name, stage)
            write_records(path, whole_schema(self.card), whole, self.simulated)
        path = self.root / sleep_file(self.name, stage)
        if stage == "REM":
            write_pickle(self._dicts(items, eeg), path)
        else:
            write_records(path, sleep_schema(self.card), records, self.simulated)

    def test(
        self, file: str, items: np.ndarray, eeg: np.ndarray, parts: Sequence[str] | np.ndarray, beside: Beside = (),
        origins: Origins | None = None,
    ) -> None:  # fmt: skip
        """Write a test subject's sleep trials as "N2N3_data" and the like, `parts` being what each one is for."""
        content = self._dicts(items, eeg, origins=origins)
        for trial, part in zip(content, parts, strict=True):
            trial["data_type"] = str(part)
        for place, own in beside:
            content[place] |= {f"awake_{modality}_erp": some for modality, some in own.items()}
        write_pickle(content, self.root / main_file(self.name, file))

    def by_phase(
        self, groups: Mapping[str, tuple[np.ndarray, np.ndarray]], known: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Write {group of the slow oscillation's phase: (items, eeg with samples first)}.

        `known` has what else a group's trials carry: "phase_from", "spindle_coupled" (n,), "origin", a list of n dicts
        (docs/data_format.md).
        """
        content = {
            group: {**self._mark, "label": self._one_hot(items), "decode_data": eeg, **(known or {}).get(group, {})}
            for group, (items, eeg) in groups.items()
        }
        write_pickle(content, self.root / main_file(self.name, "SO_data"))

    def single_trials(
        self, kinds: Mapping[str, tuple[np.ndarray, np.ndarray]], origins: Mapping[str, Origins] | None = None,
        **first: Any,
    ) -> None:  # fmt: skip
        """Write {"awake_image", "N2N3", ...: (items, eeg)} as one file for the linear baselines, `first` on top."""
        content = {
            kind: self._dicts(items, eeg, "EEG", (origins or {}).get(kind)) for kind, (items, eeg) in kinds.items()
        }
        write_pickle(first | content, self.root / main_file(self.name, "Whole_data"))

    def staging(self, windows: Iterable[tuple[int, np.ndarray]], epochs: Sequence[int]) -> int:
        """Write (stage code, window (3, 15000)) pairs, and the epochs' codes for a test; return how many windows.

        What nobody scored keeps the code -1 in a test subject and is left out of training.
        """
        paths = [self.root / file for file in staging_files(self.name)]
        if is_test(self.name):
            content = [{**self._mark, "label": int(code), "data": window} for code, window in windows]
            write_pickle(content, paths[0])
            write_pickle(epochs, paths[1])
            return len(content)
        stages = np.eye(len(STAGES), dtype=np.float32)
        records = (
            {"category_name": stages[code], "feature_label": np.array([code], np.int32), "feature_data": window}
            for code, window in windows
            if code != UNKNOWN
        )
        return write_records(paths[0], STAGING, records, self.simulated)
