"""A continuous simulated recording of one unseen subject: stages, cues, everything a real-time loop needs.

A first, simple model: every stage is stationary, there are no arousals, artefacts or sleep cycles, and the
stages follow a fixed plan. It shows that the parts work together; it says nothing about real sleep.
"""

import datetime
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.simulation_head import EMG, EOG, SCALP, standard_montage
from data.simulation_memory import Subject
from data.simulation_stages import join, stage_polysomnogram
from utils.errors import UserError
from utils.paths import shown
from utils.provenance import MARK
from utils.vocabulary import ITEMS, STREAM_RATE

log = logging.getLogger(__name__)

CHANNELS = (*SCALP, *EOG, *EMG)
"""55 EEG, M1, M2, EOG1, EOG2, EMG1, EMG2."""
MEASURED = datetime.datetime(2000, 1, 1, 22, 0, tzinfo=datetime.UTC)
"""Start of every simulated recording: a fixed date that belongs to nobody."""

_EPOCH_S = 30
_CUE_RESPONSE_S = 2.0


@dataclass(frozen=True, eq=False)
class SimulatedRecording:
    """A continuous recording in memory.

    Attributes
    ----------
    data : float32 array (61, n)
        In µV at 500 Hz, in the order of `CHANNELS`.
    stages : list of str
        Planted stage of each 30 s epoch: "W", "N2", "N3", "R".
    cues : list of (int, int)
        Onset sample and item of every cue.
    subject : str
    """

    data: np.ndarray
    stages: list
    cues: list
    subject: str


def simulate_recording(settings):
    """Simulate the recording that the settings describe.

    Parameters
    ----------
    settings : data.simulation_settings.Simulation
        `settings.recording` holds the plan; the subject is the test subject `test_subject`, whose items have
        the same patterns as in its trials.

    Returns
    -------
    recording : SimulatedRecording
    """
    plan = settings.recording
    subject = Subject(settings, "test", plan.test_subject)
    overlap = int(STREAM_RATE)
    segments, stages = [], []
    for number, (stage, minutes) in enumerate(plan.stages):
        n = round(minutes * 60 * STREAM_RATE) + (overlap if number else 0)
        rng = subject.generator("recording", number)
        segments.append(stage_polysomnogram(rng, subject.head, getattr(settings.stages, stage), n))
        stages += [stage] * round(minutes * 60 / _EPOCH_S)
    data = join(segments, overlap)
    cues = _plan_cues(subject.generator("recording", "cues"), plan, stages)
    length = int(_CUE_RESPONSE_S * STREAM_RATE)
    for number, (onset, item) in enumerate(cues):
        rng = subject.generator("recording", "cue", number)
        data[: len(SCALP), onset : onset + length] += subject.sleep_response(rng, item, length)
    return SimulatedRecording(data, stages, cues, subject.name)


def _plan_cues(rng, plan, stages):
    """Return onset sample and item of every cue: random items in N2 and N3, with a random interval."""
    cues, order = [], []
    time = plan.cues_from_min * 60
    while time + _CUE_RESPONSE_S < len(stages) * _EPOCH_S:
        end = time + _CUE_RESPONSE_S
        if all(stages[int(at // _EPOCH_S)] in ("N2", "N3") for at in (time, end)):
            order = order or rng.permutation(len(ITEMS)).tolist()  # every item once before any comes again
            cues.append((round(time * STREAM_RATE), order.pop()))
        time += rng.uniform(*plan.cue_interval_s)
    return cues


def write_recording(recording, path):
    """Write a recording as BrainVision (.vhdr, .eeg, .vmrk); the .vhdr appears last, when all is complete.

    Cues are annotated "cue/<item>", epochs "stage/<stage>" (MNE reads them back as "Comment/cue/..."). The
    annotation "simulated" at the beginning stays with the files wherever they are copied.

    Parameters
    ----------
    recording : SimulatedRecording
    path : str | Path
        Name of the .vhdr file.

    Raises
    ------
    UserError
        The files cannot be written.
    """
    import mne

    kinds = ["eeg"] * len(SCALP) + ["eog"] * len(EOG) + ["emg"] * len(EMG)
    info = mne.create_info(list(CHANNELS), STREAM_RATE, kinds, verbose="error")
    raw = mne.io.RawArray(recording.data.astype(np.float64) * 1e-6, info, verbose="error")
    raw.set_montage(standard_montage(), verbose="error")
    raw.set_meas_date(MEASURED)
    starts = [index * _EPOCH_S for index in range(len(recording.stages))]
    onsets = [onset / STREAM_RATE for onset, _ in recording.cues]
    raw.set_annotations(
        mne.Annotations(
            onset=[0.0, *starts, *onsets],
            duration=[0.0] + [_EPOCH_S] * len(starts) + [0.0] * len(onsets),
            description=[MARK]
            + [f"stage/{stage}" for stage in recording.stages]
            + [f"cue/{ITEMS[item]}" for _, item in recording.cues],
            orig_time=MEASURED,
        )
    )
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".recording-") as folder:
            # The header names the other two files, so they keep their names and move together.
            mne.export.export_raw(Path(folder) / path.name, raw, fmt="brainvision", verbose="error")
            for suffix in (".eeg", ".vmrk", ".vhdr"):
                part = Path(folder) / path.with_suffix(suffix).name
                with part.open("rb+") as handle:
                    os.fsync(handle.fileno())
                part.replace(path.with_suffix(suffix))
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be written ({error.strerror})") from None
    minutes = recording.data.shape[1] / STREAM_RATE / 60
    log.info(
        "%s: %.1f min of simulated %s, %d channels, %d cues",
        shown(path), minutes, recording.subject, len(CHANNELS), len(recording.cues),
    )  # fmt: skip
