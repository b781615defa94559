"""From the command line to a session and its folder."""

import json
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from realtime.Utils.stop import StopRequest
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
    from utils import config

    given = {key: getattr(args, flag) for flag, key in _FLAGS.items() if getattr(args, flag) is not None}
    overrides = [*args.overrides, *(f"{key}={json.dumps(value)}" for key, value in given.items())]
    return config.load(SessionSettings, args.config or "realtime", overrides=overrides)


def start(parser, argv=None):
    """Run a session as the command line asks.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Gets the flags of `add_arguments`.
    argv : list of str | None

    Returns
    -------
    code : int
        0; 130 after Ctrl-C and 143 after SIGTERM, at whatever moment it came.
    """
    stop = StopRequest()
    with stop.catching():
        try:
            add_arguments(parser)
            args = parser.parse_args(argv)
            from realtime.Subject import load_subject
            from realtime.Utils.preparation import prepare

            settings = read_settings(args)
            subject = load_subject(args.subject, args.subject_file)
            prepared = prepare(settings, subject, args.recording)
            stop.hold()
        except BaseException:
            if not stop.requested():
                raise
            # what was raised, or broke, is what the signal made of the imports and checks under way
        if stop.requested():
            logger.warning("stopped by %s before the session began: nothing was written", stop.by)
            return stop.code
        folder = new_folder(Path(args.out) / subject.id)
        logger.info("session folder: %s", shown(folder))
        run(prepared, settings, subject, folder, stop)
        return stop.code


def run(prepared, settings, subject, folder, stop):
    """Run a prepared session into its folder, to its end or until `stop`."""
    from realtime.Utils.audio import open_sink
    from realtime.Utils.engine import Session
    from realtime.Utils.event_log import EventLog
    from realtime.Utils.markers import LslMarkers
    from realtime.Utils.report import sentences, write_report
    from realtime.Utils.sounds import write_sounds
    from utils import config
    from utils.provenance import write_json

    source = prepared.source
    config.save(settings, folder / "settings.yaml")
    about = describe(prepared, settings, subject)
    write_json(folder / "session.json", about)
    write_sounds(folder / "sounds", prepared.sounds, settings.audio.rate)
    log = EventLog(folder / "log.jsonl", STREAM_RATE, source.begins)
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
        stop,
    )
    for level, text in prepared.notices:
        session.notice(text, level)
    began = time.perf_counter()
    ending = "error"
    try:
        ending = session.run()
    finally:
        about |= {"ending": ending, "wall_seconds": round(time.perf_counter() - began, 3)}
        about |= {"samples": session.sample, "counts": _counts(log.events)}
        write_json(folder / "session.json", about)
        if stop.requested():
            logger.info("stopped by %s: the log is complete, the report is being written", stop.by)
        summary = write_report(
            log.events,
            folder,
            recorded=settings.cues.mode == "recorded",
            simulated=prepared.simulated,
            seconds=session.sample / STREAM_RATE,
            settings=settings,
        )
    for line in (*sentences(summary), f"written to {shown(folder)}"):
        logger.info("%s", line)


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
    rates = [{"rate": rate, "channels": list(names)} for rate, names in source.rates.items()]
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "ending": None,
        "subject": subject.model_dump(),
        "recording": {**source.fingerprint(), "rates": rates, "seconds": source.seconds},
        "simulated": prepared.simulated,
        "channels": list(prepared.montage.picks),
        "seed": settings.seed,
        "git": provenance.git_revision(),
        "versions": versions,
    }


def _counts(events):
    kinds = sorted({e["event"] for e in events})
    return {kind: sum(e["event"] == kind for e in events) for kind in kinds}
