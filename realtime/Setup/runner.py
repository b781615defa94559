"""A prepared session, run into its folder: to its end, and to the report."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Control.control_server import Control
from sleep_interpreter.realtime.Cues import loudness_calibration
from sleep_interpreter.realtime.Cues.sounds import write_sounds
from sleep_interpreter.realtime.Monitor.server import MonitorProcess
from sleep_interpreter.realtime.Output.marker_ports import open_ports
from sleep_interpreter.realtime.Output.sinks import open_sink
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Recording.event_log import EventLog, read_log
from sleep_interpreter.realtime.Recording.session_about import require_about
from sleep_interpreter.realtime.Report.summary import summary_lines, write_summary
from sleep_interpreter.realtime.Session.operator_commands import commands_to_restore
from sleep_interpreter.realtime.Session.session import Session
from sleep_interpreter.realtime.Session.session_context import SessionContext
from sleep_interpreter.realtime.Session.status import OperatorPanel
from sleep_interpreter.realtime.Setup.plan import lock_session, resume_sample
from sleep_interpreter.realtime.Setup.preparation import Prepared
from sleep_interpreter.realtime.Sources.source import Plan
from sleep_interpreter.realtime.Utils.keep_awake import prevent_sleep
from sleep_interpreter.realtime.Utils.stop_request import StopRequest
from sleep_interpreter.utils.core import config, data_card, file_hashes, file_locks, provenance
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.channel_names import listed

logger = logging.getLogger(__name__)

_LOG_RESERVE = 2**21
"""Bytes of a live session's disk that are kept for its log: the recording may fill the rest."""


def run(prepared: Prepared, planned: Plan, folder: Path, stop: StopRequest, monitor: bool = False) -> None:
    """Run a session into its folder, to its end or until `stop`; `monitor` shows it in the browser."""
    settings, source = prepared.settings, prepared.source
    goes_on = planned.folder is not None
    with contextlib.ExitStack() as closing:
        closing.enter_context(lock_session(folder))  # let go last: closing writes too
        closing.callback(prepared.workers.close)
        closing.callback(source.close)
        closing.enter_context(prevent_sleep(source.real_time))
        if goes_on:
            about = require_about(folder)
            # networks and sound took their time to be made ready: a resumed session's gap is as long as it was
            check_same(about, prepared, settings)
            origin = resume_sample(settings, about, planned.events, folder, planned.gap)
            planned = replace(planned, origin=origin)
            source.begin_at(planned.origin)
            prepared.schedule.begin_at(planned.origin)
        else:
            config.save(config.absolute(settings), folder / "settings.yaml")
            data_card.write(prepared.card, folder)
            about = describe(prepared, planned)
            provenance.write_json(folder / "session.json", about)
            write_sounds(folder / "sounds", prepared.sounds, settings.audio.rate, prepared.card.item_names)
        sink = open_sink(prepared.sink[0], settings.audio, folder, prepared.sounds, planned.origin)
        ports = open_ports(settings.markers, folder, settings.audio.late_seconds)
        wanted, panel = settings.control.enabled, None
        if wanted != "never" and (wanted != "auto" or source.real_time):
            panel = OperatorPanel(Control(folder, settings.control))
            closing.callback(panel.control.close)
        log = EventLog(
            folder / "log.jsonl", STREAM_RATE, source.begins, resume=goes_on,
            listener=None if panel is None else partial(panel.control.publish, "event"),
            reserve=_LOG_RESERVE if source.live and settings.recording.enabled else 0,
        )  # fmt: skip
        if source.live and settings.recording.enabled:
            source.record(folder / "recording", settings.recording, planned.origin)
        context = SessionContext(
            source, prepared.montage, sink, ports, log, settings, planned.inputs, planned.origin, prepared.card
        )
        facts = {
            "session": folder.name, "subject": planned.subject.id, "simulated": prepared.simulated,
            "folder": folder, "dry_run": prepared.dry_run,
        }  # fmt: skip
        session = Session(context, prepared.schedule, prepared.workers, stop, panel, facts)
        if goes_on:
            segment = None if source.recorder is None else source.recorder.path.name
            log.write(planned.origin, "resume", segment=segment, after=planned.events[-1]["sample"])
            for detail in commands_to_restore(planned.events):
                session.commands.replay(session.sample, detail)
        for level, text in prepared.notices:
            context.log_notice(text, level)
        if monitor:
            closing.callback(MonitorProcess(folder).close)
        _run_to_report(session, prepared, planned, folder, about, stop)


def _run_to_report(
    session: Session, prepared: Prepared, planned: Plan, folder: Path, about: dict[str, Any], stop: StopRequest
) -> None:
    """Run, and leave session.json and the report whatever happens."""
    settings = prepared.settings
    began = time.perf_counter()
    if "first_sample_at" not in about:
        about["first_sample_at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        provenance.write_json(folder / "session.json", about)
    ending = "error"
    try:
        ending = session.run()
    finally:
        events = read_log(folder / "log.jsonl")
        about |= {"ending": ending, "wall_seconds": round(time.perf_counter() - began, 3)}
        about |= {"samples": session.sample, "counts": dict(sorted(session.context.log.counts.items()))}
        provenance.write_json(folder / "session.json", about)
        if stop.requested():
            logger.info("stopped by %s: the log is complete, the report is being written", stop.by)
        summary = write_summary(
            events, folder, settings=settings, simulated=prepared.simulated, seconds=session.sample / STREAM_RATE,
            recorded=settings.cues.mode == "recorded" or prepared.source.live or planned.inputs.replaying,
            card=prepared.card,
        )  # fmt: skip
        for line in (*summary_lines(summary), f"written to {display_path(folder)}"):
            logger.info("%s", line)
        _write_night_report(folder)


def _write_night_report(folder: Path) -> None:
    """Write the night report; where that fails the night itself is safe, and it can be made again."""
    try:
        from sleep_interpreter.realtime.Report.night_report import write_night_report  # lazy: start-up

        logger.info("night report: %s", write_night_report(folder))
    except Exception:
        logger.exception("the night report failed; once mended: python realtime/report.py %s", folder)


def hashes(prepared: Prepared, settings: SessionSettings) -> dict[str, str]:
    """Return what the networks and sounds of a session are known by when it goes on: {what: start of its sha256}."""
    found = {}
    checkpoints = {"stager": settings.staging.checkpoint, **settings.decoder.checkpoints}
    for what, path in checkpoints.items():
        if path is not None:
            own = Path(path)
            files = [own] if own.is_file() else sorted(p for p in own.parent.glob(f"{own.name}*") if p.is_file())
            found[what] = file_hashes.content_hash(files)[:16]
    return {**found, "sounds": loudness_calibration.fingerprint(prepared.sounds)}


def check_same(about: dict[str, Any], prepared: Prepared, settings: SessionSettings) -> None:
    """Refuse to go on with other networks or sounds than those a session began with (`UserError`)."""
    before = about.get("hashes", {})  # sessions of earlier versions have none
    now = hashes(prepared, settings) if before else {}
    changed = [what for what, known in before.items() if now.get(what) != known]
    if changed:
        raise UserError(
            f"session.json: {listed(changed)} changed since the session began: put the files back as they were, or "
            "begin a new session"
        )


@contextlib.contextmanager
def sole_night(prepared: Prepared, home: Path) -> Iterator[None]:
    """Keep another session with an amplifier from this subject's folder `home` meanwhile: a person sleeps once."""
    with contextlib.ExitStack() as held:
        if prepared.source.amplifier:
            refusal = f"{display_path(home)}: another session of this subject runs: end it first, or give --subject"
            try:
                held.enter_context(file_locks.locked(home / file_locks.LOCK, refusal=refusal))
            except UserError:
                prepared.workers.close()
                prepared.source.close()
                raise
        yield


def new_folder(parent: Path) -> Path:
    """Make and return the next free `session_NNN` in `parent`; an existing one is never touched."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        number += 1
        folder = parent / f"session_{number:03d}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def describe(prepared: Prepared, planned: Plan) -> dict[str, Any]:
    """Return where a session comes from, without anything the recording says about a person."""
    versions: dict[str, str | None] = dict(provenance.versions())
    for package in ("mne-lsl", "sounddevice", "soundfile", "brainflow"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    source, settings = prepared.source, prepared.settings
    rates = [{"rate": rate, "channels": list(names)} for rate, names in source.rates.items()]
    seconds = None if source.live else source.seconds
    recording = {**source.fingerprint(), "rates": rates, "seconds": seconds}
    if planned.recording is not None:
        recording["path"] = str(planned.recording.resolve())
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"), "ending": None, "source": settings.source.kind,
        "pace": settings.source.pace, "subject": planned.subject.model_dump(), "recording": recording,
        "simulated": prepared.simulated, "channels": list(prepared.montage.picks),
        "derivations": prepared.montage.derived, "seed": settings.seed, "git": provenance.git_revision(),
        "dry_run": prepared.dry_run, "sound": prepared.sink[0], "versions": versions,
        "card": {"title": prepared.card.title, "fingerprint": prepared.card.fingerprint},
        "hashes": hashes(prepared, settings),
    }  # fmt: skip
