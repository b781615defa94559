"""From the command line to a session and its folder."""

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from utils import config
from utils.errors import UserError
from utils.paths import RESULTS, shown
from utils.vocabulary import STREAM_RATE

logger = logging.getLogger(__name__)

_FLAGS = {
    "source": "source.kind",
    "speed": "source.speed",
    "unit": "source.unit",
    "start": "source.start",
    "stop": "source.stop",
    "stager": "staging.stager",
    "stager_checkpoint": "staging.checkpoint",
    "decoder_checkpoint": "decoder.checkpoint",
    "cues": "cues.mode",
    "lsl_markers": "markers.lsl",
}
"""Flags that are short names of settings."""


def add_arguments(parser):
    """Add the flags of realtime/Main_Decode.py."""
    add = parser.add_argument
    add("--source", choices=["replay"], help="where the signal comes from: a recorded file, replayed")
    add("--recording", metavar="FILE", required=True, help="any format MNE reads (EDF, BrainVision, ...)")
    add("--speed", type=float, metavar="X", help="0 = as fast as possible (default), 1 = real time")
    add("--unit", choices=["V", "uV"], help="what MNE returns for this file: V (its convention) or µV")
    add("--start", type=float, metavar="S", help="begin here in the recording, in s")
    add("--stop", type=float, metavar="S", help="end here in the recording, in s")
    add("--stager", choices=["yasa", "sistaging"], help="default yasa, which needs no checkpoint")
    add("--stager-checkpoint", metavar="FILE", help="weights of sistaging")
    add("--decoder-checkpoint", metavar="FILE", help="weights of the decoder; without it nothing is decoded")
    add("--cues", choices=["scheduled", "recorded"], help='cues of our own, or the annotations "cue/<item>"')
    add("--lsl-markers", action="store_const", const=True, help="send the markers over LSL too")
    add("--subject", metavar="ID", help="pseudonym: letters, digits, - and _")
    add("--subject-file", metavar="YAML", help="id, session, notes")
    add("--config", metavar="YAML", help="settings file instead of params/realtime.yaml")
    add("--set", dest="overrides", metavar="a.b=c", action="append", default=[], help="change one setting")
    add("--out", metavar="DIR", default=str(RESULTS / "realtime"), help="default: results/realtime")


def read_settings(args):
    """Return the `SessionSettings`: file, then --set, then the short flags."""
    from realtime.Parameters import SessionSettings

    given = {key: getattr(args, flag) for flag, key in _FLAGS.items() if getattr(args, flag) is not None}
    overrides = [*args.overrides, *(f"{key}={json.dumps(value)}" for key, value in given.items())]
    return config.load(SessionSettings, args.config or "realtime", overrides=overrides)


@dataclass(frozen=True)
class Prepared:
    """What a session needs, checked before anything is written."""

    source: object
    montage: object
    stager: object
    decoders: dict
    schedule: object
    sounds: object
    sink: tuple
    notices: list


def prepare(settings, subject, recording):
    """Open and check everything; nothing is written yet.

    Raises
    ------
    UserError
        Whatever is wrong with the recording, the settings or a checkpoint.
    """
    from realtime.Utils.audio import choose_sink
    from realtime.Utils.cues import CueSchedule, RecordedCues
    from realtime.Utils.montage import make_montage
    from realtime.Utils.resample import Resampler
    from realtime.Utils.sounds import load_sounds, synthesise
    from realtime.Utils.source import ReplaySource

    for package in ("soundfile", *(["mne_lsl"] if settings.markers.lsl else [])):
        if find_spec(package) is None:
            raise UserError(f"the package {package} is not installed: pip install -e '.[realtime]'")
    checkpoints = _checkpoints(settings)
    source = ReplaySource(recording, settings.source)
    montage = make_montage(
        settings.channels, settings.decoder.channels if checkpoints else (), source.names, shown(recording)
    )
    source.open(montage.picks)
    if source.rate < 100:
        raise UserError(f"{shown(recording)}: {source.rate:g} Hz; staging and decoding need at least 100 Hz")
    Resampler(source.rate, STREAM_RATE, 1)  # refuses a rate it cannot convert
    amplitude = source.check_unit(montage.eeg_rows)
    for pair, what in zip(montage.derivations[1:], ("EOG", "EMG"), strict=True):
        if pair is not None:
            source.check_unit([pair[0]], what)
    if settings.cues.mode == "recorded":
        schedule = RecordedCues(source.cues(), settings.cues.groups)
    else:
        schedule = CueSchedule(settings.cues, settings.seed, subject)
    rate = settings.audio.rate
    sounds = load_sounds(settings.audio.folder, rate) if settings.audio.folder else synthesise(rate)
    sink = choose_sink(settings.audio, settings.source.speed)

    present = [pair is not None for pair in montage.derivations]
    notices = [(logging.INFO, f"the reader says: {text}") for text in source.notices]
    notices.append((logging.INFO, f"EEG amplitude: typical SD {amplitude:.1f} µV"))
    if source.rate != STREAM_RATE:
        text = f"resampled from {source.rate:g} to {STREAM_RATE:g} Hz"
        notices.append((logging.WARNING, f"{text}: nothing above {source.rate / 2:g} Hz is in the signal"))
    absent = [n for n, there in zip(("EEG", "EOG", "EMG"), present, strict=True) if not there]
    if absent:
        notices.append((logging.WARNING, f"staging without {' and '.join(absent)}"))
    stager = _stager(settings.staging, present)
    decoders = _decoders(settings, checkpoints, montage, notices)
    for part in (stager, *decoders.values()):
        part.warm_up()
    notices.append((logging.INFO, f"cues go to a {sink[0]} ({sink[1]})"))
    return Prepared(source, montage, stager, decoders, schedule, sounds, sink, notices)


def start(args):
    """Run a session as the command line asks; return the exit code."""
    from realtime.Subject import load_subject

    settings = read_settings(args)
    subject = load_subject(args.subject, args.subject_file)
    prepared = prepare(settings, subject, args.recording)
    folder = new_folder(Path(args.out) / subject.id)
    logger.info("session folder: %s", shown(folder))
    return run(prepared, settings, subject, folder)


def run(prepared, settings, subject, folder):
    """Run a prepared session into its folder; return the exit code (130 after Ctrl-C)."""
    from realtime.Utils.audio import open_sink
    from realtime.Utils.engine import Session
    from realtime.Utils.event_log import EventLog
    from realtime.Utils.markers import LslMarkers
    from realtime.Utils.report import sentences, write_report
    from realtime.Utils.sounds import write_sounds
    from utils.provenance import write_json

    source = prepared.source
    config.save(settings, folder / "settings.yaml")
    about = describe(prepared, settings, subject)
    write_json(folder / "session.json", about)
    write_sounds(folder / "sounds", prepared.sounds, settings.audio.rate)
    log = EventLog(folder / "log.jsonl", STREAM_RATE, settings.source.start)
    sink = open_sink(prepared.sink[0], settings.audio, folder, prepared.sounds)
    markers = LslMarkers(settings.markers) if settings.markers.lsl else None
    session = Session(
        source,
        prepared.montage,
        prepared.stager,
        prepared.decoders,
        prepared.schedule,
        sink,
        markers,
        log,
        settings,
    )
    for level, text in prepared.notices:
        session.notice(text, level)
    began = time.perf_counter()
    ending = "error"
    try:
        ending = session.run()
    finally:
        summary = write_report(
            log.events,
            folder,
            recorded=settings.cues.mode == "recorded",
            simulated=about["simulated"],
            seconds=session.sample / STREAM_RATE,
            settings=settings,
        )
        about |= {"ending": ending, "wall_seconds": round(time.perf_counter() - began, 3)}
        about |= {"samples": session.sample, "counts": _counts(log.events)}
        write_json(folder / "session.json", about)
    for line in (*sentences(summary), f"written to {shown(folder)}"):
        logger.info("%s", line)
    return 130 if ending == "interrupted" else 0


def new_folder(parent):
    """Make and return the next free `session_NNN` in `parent`; an existing one is never touched."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / f"session_{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def describe(prepared, settings, subject):
    """Return where a session comes from, without anything the recording says about a person."""
    from importlib import metadata

    from utils import provenance

    versions = provenance.versions()
    for package in ("mne-lsl", "sounddevice", "soundfile"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    source = prepared.source
    folder = source.path.resolve().parent
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "subject": subject.model_dump(),
        "recording": {**source.fingerprint(), "rate": source.rate, "seconds": source.seconds},
        "simulated": provenance.is_simulated(folder, folder.parent),
        "channels": list(prepared.montage.picks),
        "seed": settings.seed,
        "git": provenance.git_revision(),
        "versions": versions,
    }


def _checkpoints(settings):
    chosen = {"NREM": settings.decoder.checkpoint, "REM": settings.decoder.rem_checkpoint}
    return {stage: path for stage, path in chosen.items() if path is not None}


def _stager(settings, present):
    from realtime.Model import networks
    from realtime.Model.stagers import SIStagingStager, YasaStager

    if settings.stager == "yasa":
        if settings.checkpoint is not None:
            raise UserError("--stager-checkpoint belongs to --stager sistaging; yasa brings its own")
        return YasaStager(settings, present)
    if settings.checkpoint is None:
        raise UserError("--stager sistaging needs --stager-checkpoint FILE (or use --stager yasa)")
    return SIStagingStager(settings, networks.restore(settings.checkpoint, "stager"), present)


def _decoders(settings, checkpoints, montage, notices):
    """Return {"NREM" | "REM": Decoder}, and say when there is none and why."""
    from realtime.Model import networks
    from realtime.Model.decoder import Decoder

    if not checkpoints:
        notices.append((logging.INFO, "decoding off: no --decoder-checkpoint"))
        return {}
    count = len(settings.decoder.channels)
    decoders = {
        stage: Decoder(networks.restore(path, "decoder", count), count) for stage, path in checkpoints.items()
    }
    if montage.decoder is None:
        lacking = ", ".join(montage.lacking)
        notices.append((logging.WARNING, f"decoding off: recording lacks channels {lacking}"))
        return {}
    if settings.gate.rem and "REM" not in decoders:
        notices.append((logging.WARNING, "cues in REM are not decoded: no decoder.rem_checkpoint"))
    return decoders


def _counts(events):
    kinds = sorted({e["event"] for e in events})
    return {kind: sum(e["event"] == kind for e in events) for kind in kinds}
