"""A session's recording in the formats that other programs read: BIDS, EDF+, BDF+, one BrainVision file."""

import contextlib
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import mne
import numpy as np

from sleep_interpreter.realtime.Recording.session_about import require_about, subject_of
from sleep_interpreter.realtime.Recording.session_recording import join_segments
from sleep_interpreter.utils.core.config import read_yaml
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.provenance import MARK, require_json, write_json
from sleep_interpreter.utils.signal.channel_names import find_channel

logger = logging.getLogger(__name__)

TASK = "sleep"


def export_brainvision(folder: str | Path, path: str | Path) -> Path:
    """Write the joined recording as BrainVision (.vhdr, .vmrk, .eeg)."""
    path = Path(path)
    if path.suffix != ".vhdr":
        raise UserError(f"{path}: the name of a BrainVision recording ends in .vhdr")
    _refuse_existing(path)
    return join_segments(folder, path)


def export_edf(folder: str | Path, path: str | Path) -> Path:
    """Write the joined recording as EDF+ (.edf, 16 bits) or BDF+ (.bdf, 24 bits), by its suffix. A `UserError` tells
    of another suffix, a file that exists, no recording, or not enough memory for it."""
    path = Path(path)
    if path.suffix not in (".edf", ".bdf"):
        raise UserError(f"{path}: the name ends in .edf or .bdf")
    _refuse_existing(path)
    with _joined(folder, path.parent) as raw:
        _refuse_too_large(raw, path)
        raw.load_data(verbose="error")
        _finite(raw)
        with atomic_write(path) as temporary, warnings.catch_warnings():
            # MNE says that it writes 16 bits and no filter settings
            warnings.simplefilter("ignore", RuntimeWarning)
            mne.export.export_raw(
                temporary, raw, fmt=path.suffix[1:], physical_range="channelwise", overwrite=True, verbose="error"
            )
    return path


def export_bids(folder: str | Path, root: str | Path) -> Path:
    """Add the joined recording to a BIDS folder, made if it is not there, and return its path:
    sub-<id>/ses-<session>/eeg/..._task-sleep_eeg.vhdr. Raise `UserError` where it is in it already, or there is
    none."""
    import mne_bids  # lazy: start-up

    folder, root = Path(folder), Path(root)
    about = require_about(folder, "subject", "simulated")
    subject = subject_of(folder, about)
    label = subject.session or folder.name
    path = mne_bids.BIDSPath(
        subject=_plain(subject.id), session=_plain(label), task=TASK, datatype="eeg",
        suffix="eeg", extension=".vhdr", root=root,
    )  # fmt: skip
    _refuse_existing(path.fpath)
    root.mkdir(parents=True, exist_ok=True)
    description = root / "dataset_description.json"
    new = not description.exists()
    with _joined(folder, root.parent) as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mne_bids.write_raw_bids(raw, path, overwrite=False, verbose="error")
    task = "sleep with targeted memory reactivation"
    entries = {"SoftwareFilters": "n/a", "Manufacturer": "n/a", "TaskDescription": task}
    mne_bids.update_sidecar_json(path.copy().update(extension=".json"), entries, verbose="error")
    content = require_json(description)
    if new:
        content |= {"Name": "Sleep Interpreter sessions"}
    if about["simulated"]:
        content[MARK] = True
    write_json(description, content)
    return path.fpath


@contextlib.contextmanager
def _joined(folder: str | Path, beside: Path) -> Iterator[mne.io.BaseRaw]:
    """Give the joined recording, read lazily from a temporary file."""
    beside.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".export", dir=beside))
    try:
        path = join_segments(folder, place / "joined.vhdr")
        raw = mne.io.read_raw_brainvision(path, preload=False, verbose="error")
        texts = {text: text.removeprefix("Comment/") for text in set(raw.annotations.description)}
        raw.annotations.rename(texts, verbose="error")
        raw.annotations.delete([k for k, t in enumerate(raw.annotations.description) if t.startswith("New Segment")])
        raw.set_channel_types(_types(folder, raw.ch_names), verbose="error")
        yield raw
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _types(folder: str | Path, names: Sequence[str]) -> dict[str, str]:
    """Return {channel: type} where the settings, or the channel's own name, say EOG, EMG or ECG."""
    channels = read_yaml(Path(folder) / "settings.yaml").get("channels", {})
    types = {n: kind for n in names for kind in ("eog", "emg", "ecg") if kind in n.lower()}
    for kind in ("eog", "emg"):
        if channels.get(kind) and (found := find_channel(channels[kind], names)) is not None:
            types[found] = kind
    return types


def _finite(raw: mne.io.BaseRaw) -> None:
    """Replace samples that are not finite, which no EDF can hold, by zeros under "BAD_not_finite"."""
    for row, name in enumerate(raw.ch_names):
        data = raw._data[row]
        bad = ~np.isfinite(data)
        if not bad.any():
            continue
        data[bad] = 0.0
        edges = np.flatnonzero(np.diff(np.concatenate([[False], bad, [False]]).astype(np.int8)))
        rate = raw.info["sfreq"]
        logger.warning("%s: %d samples are not finite; zeros take their place", name, bad.sum())
        raw.annotations.append(
            edges[::2] / rate + raw.first_time, (edges[1::2] - edges[::2]) / rate, f"BAD_not_finite {name}"
        )


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise UserError(f"{path}: exists already; nothing is replaced, name another")


def _refuse_too_large(raw: mne.io.BaseRaw, path: Path) -> None:
    """EDF's writer holds the whole night in memory, several times."""
    needed = 3 * 8 * raw.n_times * len(raw.ch_names)
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return
    if needed > there:
        raise UserError(
            f"{path}: the night needs about {needed / 2**30:.0f} GiB of memory as EDF or BDF, the "
            f"machine has {there / 2**30:.0f}; --bids and --brainvision need next to none"
        )


def _plain(text: str) -> str:
    """Return a BIDS label: letters and digits."""
    return re.sub(r"[^A-Za-z0-9]", "", text) or "unnamed"
