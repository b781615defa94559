"""Everything a session needs, opened and checked before a folder is made."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from sleep_interpreter.realtime.Cues import loudness_calibration
from sleep_interpreter.realtime.Cues.phase_locking import PhaseLock
from sleep_interpreter.realtime.Cues.schedule import CueSchedule, LockedCues, RecordedCues, Schedule
from sleep_interpreter.realtime.Cues.sounds import read_playlist, session_sounds
from sleep_interpreter.realtime.Model import networks
from sleep_interpreter.realtime.Model.parts import DecoderInput, Workers, open_workers
from sleep_interpreter.realtime.Output.sinks import choose_sink
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.output import MarkerCodes
from sleep_interpreter.realtime.Parameters.session_cards import SessionCards, session_cards
from sleep_interpreter.realtime.Sources.faulty_source import add_faults
from sleep_interpreter.realtime.Sources.montage import KINDS, Montage, check_twice, make_montage, stream_names
from sleep_interpreter.realtime.Sources.source import Notice, Plan, Source, open_source
from sleep_interpreter.realtime.Utils.registries import MARKER_PORTS, SOUND_SINKS
from sleep_interpreter.utils.core.constants import STREAM_RATE
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.errors import UserError

_LOOP_SECONDS = 0.06
"""What acquisition and session, which look every 20 ms each, may add to a stream's latency, and some reserve."""
_MOST_AHEAD = {False: 1.0, True: 0.5}
"""The longest lead in s of cues, and of locked ones, as in their settings."""


@dataclass(frozen=True)
class Prepared:
    """What a session needs, checked before anything is written.

    `sink`: kind, and why that one; `simulated`: the recording is marked so; `notices`: logging level and text, for
    the session's log; `card` has its items and its decode window; `settings` are those asked for, with cues decided
    so far ahead that stream and sound card leave time for them; `lead` says so in words.
    """

    source: Source
    montage: Montage
    workers: Workers
    schedule: Schedule
    sounds: Sequence[np.ndarray]
    sink: tuple[str, str]
    simulated: bool
    notices: list[Notice]
    card: DataCard
    settings: SessionSettings
    lead: str

    @property
    def dry_run(self) -> bool:
        """Whether nothing sounds."""
        return self.sink[0] == "null"


def prepare(planned: Plan) -> Prepared:
    """Open and check everything, write nothing; `UserError`: what is wrong with source, settings or a checkpoint."""
    settings = planned.settings
    for package in ("soundfile", *(["mne_lsl"] if settings.markers.lsl else [])):
        if find_spec(package) is None:
            raise UserError(f"the package {package} is not installed: pip install -e '.[realtime]'")
    named = settings.decoder.channels
    check_twice(tuple(named.values() if isinstance(named, dict) else named or ()), "settings")
    cards = session_cards(settings, planned.card)
    MarkerCodes.of(len(cards.session.items)).check(settings.markers)
    planned = replace(planned, card=cards.session)
    source = open_source(settings.source, planned)
    if settings.faults:
        source = add_faults(source, settings.faults)
    try:
        return _prepare(planned, settings, source, cards)
    except BaseException:
        source.close()
        raise


def _prepare(planned: Plan, settings: SessionSettings, source: Source, cards: SessionCards) -> Prepared:
    where, card, checkpoints = source.where, cards.session, settings.decoder.checkpoints
    called = stream_names(settings.decoder, cards.decoder_channels) if checkpoints else {}
    montage = make_montage(
        settings.channels, tuple(called.values()), source.names, where, lock=settings.cues.lock.channel,
        partial=settings.decoder.interpolate,
    )  # fmt: skip
    source.open(montage.picks)
    amplitude = source.check_unit(montage.eeg_rows)
    for pair, what in zip(montage.derivations, KINDS, strict=True):
        if pair is not None:
            source.check_unit([pair[0]], f"{what} ({montage.picks[pair[0]]})", others_fit=True)
    sounds = session_sounds(settings, card)
    sink = choose_sink(settings.audio, settings.source.pace, asleep=source.amplifier)
    settings, lead = cues_ahead(settings, source, sink[0])
    schedule = _schedule(replace(planned, settings=settings), source, card)
    for port in settings.markers.chosen():
        MARKER_PORTS.load(port)

    notices: list[Notice] = [
        (logging.INFO, f"recording {'simulated' if source.simulated else 'not marked as simulated'}")
    ]
    notices += source.notices
    if settings.faults:
        text = f"{len(settings.faults)} faults are injected on purpose (faults in the settings): a rehearsal"
        notices.append((logging.WARNING, text))
    notices.append((logging.INFO, f"EEG amplitude: typical SD {amplitude:.1f} µV"))
    notices += _resampling_notices(source.rates)
    present = [pair is not None for pair in montage.derivations]
    absent = [n for n, there in zip(KINDS, present, strict=True) if not there]
    if absent:
        notices.append((logging.WARNING, f"staging without {' and '.join(absent)}"))
    if not checkpoints:
        notices.append((logging.INFO, "decoding off: no --decoder-checkpoint"))
    elif montage.decoder is None:
        for path in checkpoints.values():  # refused now rather than on the day it would be used
            networks.restore(path, "decoder")
        lacking = ", ".join(montage.missing)
        notices.append((logging.WARNING, f"decoding off: recording lacks channels {lacking}"))
        checkpoints = {}
    elif isinstance(settings.decoder.channels, tuple) and tuple(called.values()) != settings.decoder.channels:
        text = "decoder.channels is in another order than the decoder's data card: channels go by name"
        notices.append((logging.INFO, text))
    # networks compute in processes of their own where nothing may wait for them
    in_processes = source.real_time if settings.workers == "auto" else settings.workers == "process"
    there = tuple(name for name, own in called.items() if own not in montage.missing)
    given = DecoderInput(there, card.item_names, settings.decoder.interpolate)
    workers = open_workers(settings, present, checkpoints, given, source.simulated, in_processes)
    notices += workers.notices
    where = "no cue sounds" if sink[0] == "null" else f"cues go to a {sink[0]}"
    notices.append((logging.INFO, f"{where} ({sink[1]})"))
    if settings is not planned.settings:
        notices.append((logging.WARNING, lead))
    if planned.folder is None and not planned.inputs.replaying:  # else its settings hold the volume already
        calibrated = loudness_calibration.check_sounds(settings, sounds)
        notices += [] if calibrated is None else [(logging.INFO, calibrated)]
    return Prepared(source, montage, workers, schedule, sounds, sink, source.simulated, notices, card, settings, lead)


def cues_ahead(settings: SessionSettings, source: Source, sink: str) -> tuple[SessionSettings, str]:
    """Return the settings with a lead of cues that is long enough for this stream and sink, and a sentence about it.

    A cue can be decided only when the samples before it have come, and must be with the sound card, or the port, in
    time. `UserError` where no lead that the settings allow is long enough.
    """
    locked = settings.cues.lock.method != "none"
    own = settings.cues.lock if locked else settings.cues
    name = "cues.lock.lead_seconds" if locked else "cues.lead_seconds"
    kind = SOUND_SINKS.load(sink)
    if settings.source.pace != 1 or not (kind.confirms or settings.markers.chosen()):
        return settings, f"cues are decided {own.lead_seconds:g} s ahead; nothing has to be in time"
    stream, card = source.delivery_seconds(), kind.latency(settings.audio)
    needed = math.ceil(round((stream + card + _LOOP_SECONDS) * 100, 6)) / 100
    parts = (
        f"the stream's samples come up to {stream * 1e3:.0f} ms late, block and all, the sink needs {card * 1e3:.0f} ms"
    )
    if needed <= own.lead_seconds:
        return settings, f"cues are decided {own.lead_seconds:g} s ahead; {parts}"
    if needed > (most := _MOST_AHEAD[locked]):
        raise UserError(
            f"{name}: cues would have to be decided {needed:g} s ahead, at most {most:g} s are possible: {parts}. "
            "Let the amplifier's program send smaller blocks"
            + (", or do not lock cues (cues.lock.method=none)" if locked else "")
        )
    said = f"{name}: {needed:g} s instead of {own.lead_seconds:g} s, or cues would not sound in time: {parts}"
    if locked:
        said += "; the phase is predicted that much further ahead"
    changed = own.model_copy(update={"lead_seconds": needed})
    cues = settings.cues.model_copy(update={"lock": changed}) if locked else changed
    return settings.model_copy(update={"cues": cues}), said


def _schedule(planned: Plan, source: Source, card: DataCard) -> Schedule:
    """Return the schedule that the settings ask for, gone on with where a session is resumed."""
    settings = planned.settings.cues
    if settings.mode == "recorded":
        return RecordedCues(source.cues(settings.table), settings.groups_of(card.item_names), card.item_names)
    playlist = None if settings.playlist is None else read_playlist(settings.playlist, card)
    schedule = CueSchedule(settings, planned.settings.seed, planned.subject, card, playlist)
    schedule.resume(planned.events)
    if settings.lock.method == "none":
        return schedule
    lead = round(settings.lock.lead_seconds * STREAM_RATE)
    return LockedCues(schedule, PhaseLock(settings.lock, lead, planned.origin))


def _resampling_notices(rates: Mapping[float, Sequence[str]]) -> list[Notice]:
    """Return one notice a sampling rate that is not the stream's."""
    notices = []
    for rate, names in rates.items():
        if rate == STREAM_RATE:
            continue
        which = "" if len(rates) == 1 else f"{', '.join(names)} "
        text = f"{which}resampled from {rate:g} to {STREAM_RATE:g} Hz: "
        if rate < STREAM_RATE:
            text += f"nothing above {rate / 2:g} Hz is in the signal"
        else:
            text += f"what lies above {STREAM_RATE / 2:g} Hz was filtered away before"
        notices.append((logging.WARNING if rate < STREAM_RATE else logging.INFO, text))
    return notices
