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
from typing import TYPE_CHECKING

import mne
import numpy as np
import pandas as pd

from sleep_interpreter.realtime.Parameters.output import MarkerCodes
from sleep_interpreter.realtime.Recording.recorder import LOCAL_TIME
from sleep_interpreter.realtime.Recording.session_about import require_about, subject_of
from sleep_interpreter.realtime.Recording.session_recording import join_segments
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.constants import STAGES
from sleep_interpreter.utils.core.data_card import card_of
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.provenance import MARK, require_json, write_json
from sleep_interpreter.utils.signal.channel_names import find_channel

if TYPE_CHECKING:
    import mne_bids  # start-up

logger = logging.getLogger(__name__)

_WIDE = 0.1e-6 * 2**15
"""Half the range in V that 16 bits hold in steps of 0.1 µV."""
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
        if path.suffix == ".edf":
            _limit(raw)
        zone = raw.info["description"]
        with atomic_write(path) as temporary, warnings.catch_warnings():
            # MNE says that it writes 16 bits and no filter settings
            warnings.simplefilter("ignore", RuntimeWarning)
            mne.export.export_raw(
                temporary, raw, fmt=path.suffix[1:], physical_range="channelwise", overwrite=True, verbose="error"
            )
            _say_zone(temporary, zone)
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
    _write_codes(folder, path)
    _local_times(path)
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
    """Give the joined recording, read lazily from a temporary file; its description is the zone of its times."""
    beside.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".export", dir=beside))
    try:
        path = join_segments(folder, place / "joined.vhdr")
        raw = mne.io.read_raw_brainvision(path, preload=False, verbose="error")
        texts = {text: text.removeprefix("Comment/") for text in set(raw.annotations.description)}
        raw.annotations.rename(texts, verbose="error")
        raw.annotations.delete([k for k, t in enumerate(raw.annotations.description) if t.startswith("New Segment")])
        raw.set_channel_types(_types(folder, raw.ch_names), verbose="error")
        header = path.read_text(encoding="utf-8")
        raw.info["description"] = named[1] if (named := re.search(LOCAL_TIME, header)) else None
        yield raw
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _types(folder: str | Path, names: Sequence[str]) -> dict[str, str]:
    """Return {channel: type} where the settings, or the channel's own name, say EOG, EMG or ECG."""
    channels = config.read_yaml(Path(folder) / "settings.yaml").get("channels", {})
    types = {n: kind for n in names for kind in ("eog", "emg", "ecg") if kind in n.lower()}
    for kind in ("eog", "emg"):
        if channels.get(kind) and (found := find_channel(channels[kind], names)) is not None:
            types[found] = kind
    return types


def _write_codes(folder: Path, path: "mne_bids.BIDSPath") -> None:
    """Make `value` of events.tsv the session's own marker codes, which MNE numbers by the alphabet."""
    import mne_bids  # lazy: start-up

    codes = event_codes(folder)
    table = path.copy().update(suffix="events", extension=".tsv").fpath
    events = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
    events["value"] = [str(codes.get(kind, "n/a")) for kind in events["trial_type"]]
    with atomic_write(table) as temporary:
        events.to_csv(temporary, sep="\t", index=False)
    used = {str(codes[kind]): kind for kind in sorted(set(events["trial_type"]) & set(codes))}
    about = {"Description": "Marker code that the session sends at this event; n/a: none", "Levels": used}
    mne_bids.update_sidecar_json(
        path.copy().update(suffix="events", extension=".json"), {"value": about}, verbose="error"
    )


def event_codes(folder: str | Path) -> dict[str, int]:
    """Return {annotation: marker code} of a session: what it sends at the events of `annotations`."""
    card, settings = card_of(folder), config.read_yaml(Path(folder) / "settings.yaml").get("markers") or {}
    codes = MarkerCodes.of(len(card.items))
    found = {f"cue/{name}": codes.cue(k) for k, name in enumerate(card.item_names)}
    found |= {f"decode/{name}": codes.decoded(k) for k, name in enumerate(card.item_names)}
    found |= {"decode_failed": codes.decode_failed, "group/0": codes.group(0), "group/1": codes.group(1)}
    if (sham := settings.get("sham_code")) is not None:
        found |= {f"sham/{name}": sham for name in card.item_names}
    return found | dict(zip((f"stage/{stage}" for stage in STAGES), settings.get("stage_codes") or (), strict=False))


def _local_times(path: "mne_bids.BIDSPath") -> None:
    """Take the Z of universal time from the row of scans.tsv that MNE-BIDS has written: the begin is in local time."""
    scans = path.directory.parent / f"sub-{path.subject}_ses-{path.session}_scans.tsv"
    lines = scans.read_text(encoding="utf-8-sig").splitlines()
    changed = [line.removesuffix("Z") if f"{path.datatype}/{path.fpath.name}\t" in line else line for line in lines]
    with atomic_write(scans) as temporary:
        temporary.write_text("\n".join(changed) + "\n", encoding="utf-8")


def _say_zone(path: Path, zone: str | None) -> None:
    """Name the zone of the start time in the recording's identification of an EDF or BDF, where it has room."""
    if zone is None:
        return
    with path.open("rb+") as file:
        file.seek(88)
        said = file.read(80).decode("ascii").rstrip()
        if len(text := f"{said} UTC{zone}") <= 80:
            file.seek(88)
            file.write(text.ljust(80).encode("ascii"))


def _limit(raw: mne.io.BaseRaw) -> None:
    """Clip what lies so far out that it would cost a channel its resolution in 16 bits, and say what was done.

    A range of `_WIDE` to both sides of the median, or of 20 interquartile ranges where that is more, is kept; beyond it
    lie electrodes that were off, on a rail or swinging, and the zeros of a gap in a recording with an offset. A channel
    whose samples all lie within steps of 0.1 µV is left.
    """
    steps, there = {}, raw._data.any(axis=0)
    for row, name in enumerate(raw.ch_names):
        data = raw._data[row]
        if np.ptp(data) > 2 * _WIDE:
            low, middle, high = np.percentile(data[there], [25, 50, 75])
            half = max(_WIDE, 20 * (high - low))
            out = np.abs(data - middle) > half
            np.clip(data, middle - half, middle + half, out=data)
            out &= there
            if out.any():
                _annotate(raw, out, f"BAD_clipped {name}")
                text = "%s: %d samples are beyond %.0f µV of its median and clipped: EDF has 16 bits; BDF keeps them"
                logger.warning(text, name, out.sum(), half * 1e6)
        steps[name] = np.ptp(data) * 1e6 / (2**16 - 2)
    coarse = max(steps, key=lambda name: steps[name])
    logger.info(
        "EDF: one step is at most %.2g µV (%s), median %.2g µV", steps[coarse], coarse, np.median(list(steps.values()))
    )


def _finite(raw: mne.io.BaseRaw) -> None:
    """Replace samples that are not finite, which no EDF can hold, by zeros under "BAD_not_finite"."""
    for row, name in enumerate(raw.ch_names):
        data = raw._data[row]
        bad = ~np.isfinite(data)
        if not bad.any():
            continue
        data[bad] = 0.0
        logger.warning("%s: %d samples are not finite; zeros take their place", name, bad.sum())
        _annotate(raw, bad, f"BAD_not_finite {name}")


def _annotate(raw: mne.io.BaseRaw, where: np.ndarray, text: str) -> None:
    """Annotate the stretches in which `where` (n_times,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(np.int8)))
    rate = raw.info["sfreq"]
    raw.annotations.append(edges[::2] / rate + raw.first_time, (edges[1::2] - edges[::2]) / rate, text)


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
