"""Raw nights and wake sessions as a BIDS folder, `bids/` of a simulated data set.

mne-bids writes the sidecars (channels, electrodes, coordinates, scans), from the first second of each
recording; the recording itself is then streamed to its place in the folder, so it is never held in memory or
copied. A session is written in a folder beside and moved when all of it is there.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sleep_interpreter.data.simulation import truth
from sleep_interpreter.data.simulation.head import EMG, EOG, MASTOIDS
from sleep_interpreter.data.simulation.night import COLUMNS, SimulatedNight, SimulatedSession, WakeSession, hypnogram
from sleep_interpreter.data.simulation.settings import Simulation
from sleep_interpreter.data.simulation.subject import subject_name
from sleep_interpreter.utils.core.constants import STAGING_SECONDS, STREAM_RATE
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.provenance import MARK, write_json
from sleep_interpreter.utils.core.text_tables import write_tsv
from sleep_interpreter.utils.signal.brainvision_writer import SUFFIXES, BrainVisionWriter
from sleep_interpreter.utils.signal.electrodes import standard_montage

if TYPE_CHECKING:
    import mne

FOLDER = "bids"
DATASET_FILES = tuple(
    f"{FOLDER}/{name}" for name in ("dataset_description.json", "participants.tsv", "participants.json", "README")
)
_STUB_S = 1
_DIGITS = "%.10g"
_RECALL, _BEHAVIOUR = "recall", ("beh.tsv", "beh.json")
_SPACE = "CapTrak"  # how mne-bids calls the coordinates of MNE's standard montages
_README = """\
Simulated nights and wake sessions of targeted memory reactivation. NO PERSON WAS RECORDED: everything here
was written by data/simulate.py of Sleep Interpreter, and no figure made from it says anything about people.

ses-wake: task-image and task-audio, {items} items as pictures and as sounds. ses-night: task-sleep, the sounds as
cues in sleep; beh/: how well each item is remembered. Events whose name begins with "true/" are known in
simulated data only. Everything planted lies in the folder truth/ beside this one.
"""
_LEVELS = {
    "stage/": "sleep stage of the next 30 s; W stands for W and N1, the column stage tells which",
    "cue/": "onset of a sound in sleep",
    "image/": "onset of a picture in wake",
    "audio/": "onset of a sound in wake",
    "artefact/bad_channel/": "planted: this channel is flat or noisy",
    "artefact/": "planted artefact",
    "true/spindle": "planted spindle",
    "true/reactivation/": "planted reactivation without a cue",
    "true/": "planted slow oscillation (so) or K-complex, spontaneous or evoked by a cue",
    MARK: "says that the recording is simulated",
}
"""What descriptions of events mean, by their beginnings."""
_EVENTS = {
    "onset": {"Description": "from the beginning of the recording", "Units": "s"},
    "duration": {"Description": "of the event", "Units": "s"},
    "trial_type": {"Description": "what happens"},
    "sample": {"Description": "onset in samples, counted from 0"},
    "item": {},  # their number is the data card's
    "modality": {"Description": "as a picture (image) or as a sound (audio)"},
    "stage": {"Description": "planted stage: W, N1, N2, N3, R"},
    "so_group": {"Description": "group of the true phase of the slow oscillation at the cue, or none"},
    "so_phase_rad": {"Description": "true phase of the slow oscillation at the cue", "Units": "rad"},
}

_PARTICIPANTS = {
    "group": {
        "Description": "what the subject's trials are for",
        "Levels": {"train": "training of the decoders", "test": "an unseen subject"},
    },
    "subject": {"Description": "the subject's name in the other files of the data set"},
}
_SCORE = "how well it is remembered after the night, 0 to 1 (simulated)"


def tasks(settings: Simulation) -> dict[str, tuple[str, ...]]:
    """Return the tasks (BIDS entity) of each session that a data set has."""
    sessions = {"night": ("sleep",) if settings.sleep_kinds else (), "wake": settings.card.awake_kinds}
    return {session: own for session, own in sessions.items() if own}


def _item(settings: Simulation) -> dict[str, str]:
    """Return what the column "item" of a table means."""
    return {"Description": f"which of the {len(settings.card.items)} items"}


def label(group: str, number: int) -> str:
    """Return a subject's label: "007" for training subject 7, "test007" for test subject 7."""
    return f"test{number:03d}" if group == "test" else f"{number:03d}"


def session_files(settings: Simulation, group: str, number: int, session: str) -> tuple[str, ...]:
    """Return the files of one session, "night" or "wake", relative to the data set's root."""
    subject = f"sub-{label(group, number)}"
    folder, stem = f"{FOLDER}/{subject}/ses-{session}", f"{subject}_ses-{session}"
    sidecars = ("coordsystem.json", "electrodes.tsv", "electrodes.json")
    files = [f"{folder}/{stem}_scans.tsv", *(f"{folder}/eeg/{stem}_space-{_SPACE}_{rest}" for rest in sidecars)]
    for task in tasks(settings)[session]:
        run = f"{folder}/eeg/{stem}_task-{task}"
        files += [f"{run}_{rest}" for rest in ("channels.tsv", "eeg.json", "events.tsv", "events.json")]
        files += [f"{run}_eeg{suffix}" for suffix in SUFFIXES]
    if session == "night":
        files += [f"{folder}/beh/{stem}_task-{_RECALL}_{end}" for end in _BEHAVIOUR]
    return (*files, truth.file_name(subject_name(group, number), session))


def seconds(settings: Simulation, group: str, number: int, session: str) -> float:
    """Return about how long the recordings of a session are together, in s, without planning them."""
    if session == "night":
        return STAGING_SECONDS * len(hypnogram(settings.night, settings.seed, group, number))
    plan = settings.night.wake
    trials = plan.repetitions * len(settings.card.items) * sum(plan.interval_s) / 2
    return len(settings.card.awake_kinds) * (60 * plan.rest_min + trials + 5)


def write_session(out: Path, settings: Simulation, group: str, number: int, session: str) -> None:
    """Write one session ("night", "wake") of a subject in "train" or "test": recordings with sidecars, and truth."""
    unfinished = out / FOLDER / f".unfinished-{label(group, number)}-{session}"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a simulation that was killed
    files, tables = session_files(settings, group, number, session), dict[str, pd.DataFrame]()
    made: SimulatedSession
    for task in tasks(settings)[session]:
        if session == "night":
            prefix, made = session, SimulatedNight(settings, group, number)
            table, description = (unfinished / next(f for f in files if f.endswith(end)) for end in _BEHAVIOUR)
            write_tsv(table, made.memory[["item", "memory_score"]], _DIGITS)
            scores = {"item": _item(settings), "memory_score": {"Description": _SCORE}}
            write_json(description, {"TaskName": _RECALL, **scores})
        else:
            prefix, made = f"{session}/{task}", WakeSession(settings, group, number, task)
        _write_run(unfinished / FOLDER, label(group, number), session, task, made)
        tables |= {f"{prefix}/{name}": table for name, table in made.tables().items()}
    truth.write_truth(unfinished / files[-1], tables, truth.subject_arrays(made.subject))
    for file in files:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (unfinished / file).replace(out / file)
    shutil.rmtree(unfinished)


def write_dataset_files(out: Path, settings: Simulation) -> None:
    """Write what stands at the top of the BIDS folder: description, participants, README."""
    from mne_bids import make_dataset_description  # lazy: start-up

    root = out / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    make_dataset_description(
        path=root,
        name="Simulated targeted memory reactivation in sleep (no person was recorded)",
        dataset_type="raw",
        authors=["data/simulate.py of Sleep Interpreter"],
        generated_by=[{"Name": "Sleep Interpreter, data/simulate.py", "Description": "physiological simulator"}],
        overwrite=True,
        verbose="error",
    )
    path = root / "dataset_description.json"
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), MARK: True})
    people = [(f"sub-{label(*one)}", one[0], subject_name(*one)) for one in settings.night.people]
    table = pd.DataFrame(people, columns=["participant_id", "group", "subject"])
    write_tsv(root / "participants.tsv", table, _DIGITS)
    write_json(root / "participants.json", _PARTICIPANTS)
    with atomic_write(root / "README") as temporary:
        temporary.write_text(_README.format(items=len(settings.card.items)), encoding="utf-8")


def _write_run(root: Path, subject: str, session: str, task: str, made: SimulatedSession) -> None:
    """Write one recording with its sidecars into the BIDS folder `root`."""
    import mne_bids  # lazy: start-up

    path = mne_bids.BIDSPath(
        subject=subject, session=session, task=task, datatype="eeg", suffix="eeg", extension=".vhdr",
        root=root,
    )  # fmt: skip
    mne_bids.write_raw_bids(_stub(root.parent / "stub", made), path, overwrite=True, readme=False, verbose="error")
    made.write(path.fpath, made.subject.settings.night.resolution_uv)
    entries = {
        "Manufacturer": "none (simulated)",
        "EEGReference": f"mean of {' and '.join(MASTOIDS)}",
        "EEGGround": "none (simulated)",
        "RecordingDuration": made.scene.n / STREAM_RATE,
        "InstitutionName": "none (simulated)",
    }
    mne_bids.update_sidecar_json(path.copy().update(extension=".json"), entries, verbose="error")
    table = made.annotations()
    events = table.assign(onset=table["sample"] / STREAM_RATE, duration=table["duration"] / STREAM_RATE)
    events = events.rename(columns={"description": "trial_type"})
    events = events[["onset", "duration", "trial_type", "sample", *COLUMNS]]
    write_tsv(path.update(suffix="events", extension=".tsv").fpath, events, _DIGITS)
    levels = {
        text: next(meaning for beginning, meaning in _LEVELS.items() if text.startswith(beginning))
        for text in sorted(set(table["description"]))
    }
    described = {"trial_type": {**_EVENTS["trial_type"], "Levels": levels}, "item": _item(made.subject.settings)}
    write_json(path.update(extension=".json").fpath, _EVENTS | described)


def _stub(folder: Path, made: SimulatedSession) -> "mne.io.BaseRaw":
    """Return the first second of a recording as an MNE Raw, read from a file, as mne-bids wants it."""
    import mne  # lazy: start-up

    scene, path = made.scene, folder / "stub.vhdr"
    with BrainVisionWriter(path, scene.names, STREAM_RATE, start=made.started) as writer:
        writer.append(np.zeros((len(scene.names), int(_STUB_S * STREAM_RATE)), np.float32))
    raw = mne.io.read_raw_brainvision(path, verbose="error")
    kinds = {name: kind for names, kind in ((EOG, "eog"), (EMG, "emg")) for name in names}
    raw.set_channel_types(kinds, verbose="error")
    raw.set_montage(standard_montage(), verbose="error")
    raw.info["line_freq"] = made.subject.settings.sensors.line_hz
    # bad for half of the recording or more; the others are artefacts in it
    lasting = scene.events["bad_channel"].groupby("channel")["duration_s"].sum()
    raw.info["bads"] = [name for name in scene.names if lasting.get(name, 0.0) >= 0.5 * scene.n / STREAM_RATE]
    raw.set_annotations(None)
    return raw
