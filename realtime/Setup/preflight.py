"""Tests everything a night needs, and says go or no-go with the remedy (`--check`)."""

import logging
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Model.networks import ResponseWindow
from sleep_interpreter.realtime.Model.worker import Worker
from sleep_interpreter.realtime.Output.marker_ports import open_ports
from sleep_interpreter.realtime.Output.sinks import choose_sink
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Session.signal_monitor import ChannelQuality
from sleep_interpreter.realtime.Setup.preparation import Prepared, prepare
from sleep_interpreter.realtime.Sources.source import Plan, Source
from sleep_interpreter.realtime.Utils.keep_awake import prevent_sleep
from sleep_interpreter.realtime.Utils.registries import SOUND_SINKS, SOURCES
from sleep_interpreter.utils.core.command_line import say
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.signal.resample import Resampler
from sleep_interpreter.utils.staging.stagers import WINDOW

OK, WARN, FAIL = "ok", "warn", "fail"
NO_GO = 3
"""Exit code of a no-go."""
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was tested: its state "ok", "warn" or "fail", and the remedy, empty when nothing is to be done."""

    name: str
    state: str
    found: str
    remedy: str = ""


def check(planned: Plan, out: Path) -> int:
    """Test everything, print the table, return the exit code: 0 go, 3 no-go. The session would be made in `out`."""
    checks = run_checks(planned, planned.folder or out)
    width = max(len(c.name) for c in checks)
    lines = [f"{c.state:<5} {c.name:<{width}}  {c.found}" for c in checks]
    lines += [f"      {c.name}: {c.remedy}" for c in checks if c.remedy]
    failed = [c.name for c in checks if c.state == FAIL]
    say(*lines, f"NO-GO: {', '.join(failed)}" if failed else "GO")
    return NO_GO if failed else 0


def run_checks(planned: Plan, out: Path) -> list[Check]:
    """Return the list of `Check`; whatever fails, all that can be tested beside it is."""
    settings = planned.settings
    sound = _sound(settings)
    # a live stream is listened to for as long as the quality of its channels needs
    listen = max(settings.source.look_seconds, settings.quality.seconds + 1)
    changed: dict[str, Any] = {"source": settings.source.model_copy(update={"look_seconds": listen})}
    if sound.state == FAIL:  # said already: look at everything else
        changed["audio"] = settings.audio.model_copy(update={"sink": "null"})
    planned = replace(planned, settings=settings.model_copy(update=changed))
    machine = [*_machine(), _clock(), _sleep_prevention()]
    began = time.perf_counter()
    try:
        prepared = prepare(planned)
    except UserError as error:
        remedy = "see the sentence; signal and models cannot be tested before"
        session = Check("session", FAIL, str(error), remedy)
        return [session, *machine, sound, *_ports(settings), _disk(out, settings)]
    source = prepared.source
    try:
        opened = f"{source.where}: opened and tested in {time.perf_counter() - began:.1f} s"
        return [
            Check("source", OK, opened),
            *_timing(source),
            *machine,
            *(Check("notice", WARN, text) for level, text in prepared.notices if level >= logging.WARNING),
            *_signal(prepared, settings),
            *_models(prepared, settings),
            sound,
            _lead(prepared, planned),
            *_ports(settings),
            _disk(out, settings, source),
        ]
    finally:
        prepared.workers.close()
        source.close()


def _machine() -> list[Check]:
    """Return the checks of cores, load and memory."""
    cores = os.cpu_count() or 1
    found = [Check("cores", OK if cores > 1 else WARN, f"{cores}", "" if cores > 1 else "two are the least")]
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        busy = load > cores
        remedy = "end other programs before the night" if busy else ""
        found.append(Check("load", WARN if busy else OK, f"{load:.1f} of {cores} in the last minute", remedy))
    memory = _memory()
    if memory is not None:
        little = memory < 3 * _GIB
        remedy = "3 GiB are needed for networks and recording" if little else ""
        found.append(Check("memory", FAIL if little else OK, f"{memory / _GIB:.1f} GiB free", remedy))
    return found


def _memory() -> int | None:
    """Return the free memory in bytes, None where it cannot be told."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _clock() -> Check:
    """Compare the clocks that the session uses over half a second."""
    wall, monotonic = time.time(), time.perf_counter()
    time.sleep(0.5)
    drift = (time.time() - wall) - (time.perf_counter() - monotonic)
    bad = abs(drift) > 0.005
    remedy = "the time of day is being set: wait until it is, or stamps of the log will jump" if bad else ""
    return Check("clock", WARN if bad else OK, f"time of day against monotonic: {drift * 1e3:+.2f} ms in 0.5 s", remedy)


def _sleep_prevention() -> Check:
    with prevent_sleep() as how:
        pass
    if how is None:
        remedy = "switch off sleep, screen lock and lid actions by hand"
        return Check("stay awake", WARN, "nothing here keeps the machine awake", remedy)
    return Check("stay awake", OK, f"by {how}, as long as the session runs")


def _timing(source: Source) -> list[Check]:
    """Return what was measured of a stream's clock; a warning that is due is among the notices."""
    return [] if source.timing is None else [Check("stream's clock", OK, source.timing.text())]


def _signal(prepared: Prepared, settings: SessionSettings) -> list[Check]:
    """Return the checks of every channel in use, on what the stream gave so far."""
    montage, source = prepared.montage, prepared.source
    quality = ChannelQuality(settings.quality, montage.picks)
    window = _window(source, quality.samples)
    if window is None:
        text = f"less than {settings.quality.seconds:g} s of signal to look at"
        return [Check("channels", WARN, text, "nothing is known of the electrodes: look at them on a screen")]
    found = {name: reason for name, reason in quality.assess(window, quality.samples).items() if reason}
    bad, others = sorted(montage.staging & set(found)), sorted(set(found) - montage.staging)
    checks = []
    if bad:
        text = ", ".join(f"{name} {found[name]}" for name in bad)
        checks.append(Check("staging channels", FAIL, text, "mend the electrode, or choose another channel"))
    else:
        checks.append(Check("staging channels", OK, ", ".join(sorted(montage.staging))))
    if others:
        text = ", ".join(f"{name} {found[name]}" for name in others)
        checks.append(Check("decoding channels", WARN, text, "mend these electrodes: decoding reads them too"))
    elif montage.decoder:
        checks.append(Check("decoding channels", OK, f"{len(montage.decoder)} channels"))
    return checks


def _window(source: Source, samples: int) -> np.ndarray | None:
    """Return (picks, samples) µV at 500 Hz of a source that is not yet running, or None."""
    parts, have = [], 0
    if (seen := source.preview()) is not None:
        (rate,) = source.rates
        rows = [source.names.index(name) for name in source.rates[rate]]
        parts = [Resampler(rate, STREAM_RATE, len(rows)).push(seen[rows])]
        have = parts[0].shape[1]
    else:
        for chunk in source.chunks():
            parts.append(chunk)
            have += chunk.shape[1]
            if have >= samples:
                break
    return np.concatenate(parts, axis=1)[:, -samples:] if have >= samples else None


def _models(prepared: Prepared, settings: SessionSettings) -> list[Check]:
    """Return the checks of stager and decoder: one answer each, timed."""
    rng, workers = np.random.default_rng(0), prepared.workers
    window = 20 * rng.standard_normal((3, WINDOW))
    limit = settings.staging.answer_seconds
    checks = [_timed(workers.stager, "stager", (window, WINDOW), limit, settings.staging.stager)]
    for kind in sorted(workers.kinds):
        rows, samples = len(prepared.montage.decoder or ()), ResponseWindow.of(prepared.card).samples
        eeg = 20 * rng.standard_normal((rows, samples))
        checks.append(_timed(workers.decoder, f"decoder {kind}", (kind, eeg), 0.6, "answer"))
    return checks


def _timed(worker: Worker | None, name: str, question: tuple[Any, ...], limit: float, what: str) -> Check:
    assert worker is not None, "it computes what it says"
    worker.ask(name, *question)
    answers = worker.answers(wait=30.0)
    if not answers or answers[0].error:
        why = (answers[0].error if answers else None) or "no answer within 30 s"
        return Check(name, FAIL, why, "choose another checkpoint or stager")
    seconds = answers[0].seconds
    slow = seconds > limit
    remedy = f"the session expects it within {limit:g} s: end other programs, or use fewer members" if slow else ""
    return Check(name, WARN if slow else OK, f"{what} in {seconds:.2f} s", remedy)


def _sound(settings: SessionSettings) -> Check:
    """Choose the sink as a session does; a device is given silence, to see that it takes it."""
    audio, source = settings.audio, settings.source
    mend = "connect the device, choose another one (audio.device), or audio.sink=file on purpose"
    try:
        kind, why = choose_sink(audio, source.pace, asleep=SOURCES.load(source.kind).amplifier)
    except UserError as error:
        return Check("sound", FAIL, str(error), mend)
    loudest = f"volume {audio.volume_db:g} dB, cap {audio.max_db:g} dB"
    if problem := SOUND_SINKS.load(kind).try_out(audio):
        return Check("sound", FAIL, problem, mend)
    if kind == "device":
        return Check("sound", OK, f"{audio.device or 'the default device'} takes frames, {loudest}")
    if audio.sink == kind:
        unheard = kind in ("file", "null") and SOURCES.load(source.kind).amplifier
        remedy = "nobody will hear a cue: that is what was asked for" if unheard else ""
        return Check("sound", WARN if unheard else OK, f"{kind} ({why}), {loudest}", remedy)
    remedy = "nobody will hear a cue: connect a device, or choose audio.sink=file on purpose"
    return Check("sound", WARN, f"{kind} ({why}), {loudest}", remedy)


def _lead(prepared: Prepared, planned: Plan) -> Check:
    """Say how far ahead cues are decided, and whether that had to be changed for this stream and sound card."""
    widened = prepared.settings is not planned.settings
    remedy = "let the amplifier's program send smaller blocks, or put the longer lead into the settings"
    return Check("lead of cues", WARN if widened else OK, prepared.lead, remedy if widened else "")


def _ports(settings: SessionSettings) -> list[Check]:
    """Open every port and let it go again; no code is sent into the amplifier's recording."""
    try:
        ports = open_ports(settings.markers)
    except UserError as error:
        return [Check("markers", FAIL, str(error), "connect the port, or leave it out of markers in the settings")]
    if ports is None:
        return [Check("markers", OK, "to the log only")]
    names = ", ".join(ports.names)
    ports.close()
    return [Check("markers", OK, names)]


def _disk(out: Path, settings: SessionSettings, source: Source | None = None) -> Check:
    """Check that the sessions' folder can be written and synced, and holds a night; nothing stays in it.

    Without a source, how much a night needs is not known.
    """
    folder = out.absolute()
    while not folder.exists():  # the session will make it
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as handle:
            handle.write(b"\0" * 128_000)
            began = time.perf_counter()
            handle.flush()
            os.fsync(handle.fileno())
            sync = time.perf_counter() - began
        free = shutil.disk_usage(folder).free
    except OSError as error:
        where = f"{display_path(folder)}: {error.strerror or error}"
        return Check("disk", FAIL, where, "make room there, or choose another folder with --out")
    wanted, night = settings.recording.reserve_gib * _GIB, 0.0
    need = "what a night needs is not known without the stream"
    if source is not None:
        if source.live and settings.recording.enabled:
            night = len(source.names) * 4 * next(iter(source.rates)) * 8 * 3600
        need = f"8 h need {night / _GIB:.1f} GiB"
    wanted += night
    text = f"{free / _GIB:.1f} GiB free, {need}; a sync takes {sync * 1e3:.1f} ms"
    if free < wanted:
        room = f"make room: {wanted / _GIB:.1f} GiB with the reserve (recording.reserve_gib)"
        return Check("disk", FAIL, text, f"{room}, or choose another folder with --out")
    slow = sync > 0.2
    return Check("disk", WARN if slow else OK, text, "a slow disk: record to another one" if slow else "")
