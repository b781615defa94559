"""Everything a session needs, opened and checked before a folder is made."""

import logging
from dataclasses import dataclass
from importlib.util import find_spec

from realtime.Utils.audio import choose_sink
from realtime.Utils.cues import CueSchedule, RecordedCues
from realtime.Utils.montage import make_montage
from realtime.Utils.phase import LockedCues, PhaseLock
from realtime.Utils.sounds import load_sounds, synthesise
from realtime.Utils.source import ReplaySource
from utils.errors import UserError
from utils.paths import shown
from utils.provenance import is_simulated
from utils.vocabulary import STREAM_RATE

_KINDS = ("EEG", "EOG", "EMG")


@dataclass(frozen=True)
class Prepared:
    """What a session needs, checked before anything is written.

    Attributes
    ----------
    sink : tuple of 2 str
        Kind, and why that one.
    simulated : bool
        The recording is marked as simulated.
    notices : list of (int, str)
        Logging level and text, for the session's log.
    """

    source: object
    montage: object
    stager: object
    decoders: dict
    schedule: object
    sounds: object
    sink: tuple
    simulated: bool
    notices: list


def prepare(settings, subject, recording):
    """Open and check everything; nothing is written yet.

    Raises
    ------
    UserError
        Whatever is wrong with the recording, the settings or a checkpoint.
    """
    for package in ("soundfile", *(["mne_lsl"] if settings.markers.lsl else [])):
        if find_spec(package) is None:
            raise UserError(f"the package {package} is not installed: pip install -e '.[realtime]'")
    checkpoints = _checkpoints(settings)
    source = ReplaySource(recording, settings.source)
    lock = settings.cues.lock
    montage = make_montage(
        settings.channels, settings.decoder.channels if checkpoints else (), source.names, shown(recording),
        lock=lock.channel,
    )  # fmt: skip
    source.open(montage.picks)
    amplitude = source.check_unit(montage.eeg_rows)
    for pair, what in zip(montage.derivations, _KINDS, strict=True):
        if pair is not None:
            source.check_unit([pair[0]], f"{what} ({montage.picks[pair[0]]})", others_fit=True)
    if settings.cues.mode == "recorded":
        schedule = RecordedCues(source.cues(), settings.cues.groups)
    else:
        schedule = CueSchedule(settings.cues, settings.seed, subject)
        if lock.method != "none":
            schedule = LockedCues(schedule, PhaseLock(lock, round(lock.lead_seconds * STREAM_RATE)))
    rate = settings.audio.rate
    sounds = load_sounds(settings.audio.folder, rate) if settings.audio.folder else synthesise(rate)
    sink = choose_sink(settings.audio, settings.source.speed)
    simulated = _is_simulated(source.path)

    notices = [(logging.INFO, f"recording {'simulated' if simulated else 'not marked as simulated'}")]
    notices += source.notices
    notices.append((logging.INFO, f"EEG amplitude: typical SD {amplitude:.1f} µV"))
    notices += _resampled(source.rates)
    present = [pair is not None for pair in montage.derivations]
    absent = [n for n, there in zip(_KINDS, present, strict=True) if not there]
    if absent:
        notices.append((logging.WARNING, f"staging without {' and '.join(absent)}"))
    stager = _stager(settings.staging, present, simulated, notices)
    decoders = _decoders(settings, checkpoints, montage, simulated, notices)
    notices.append((logging.INFO, f"cues go to a {sink[0]} ({sink[1]})"))
    return Prepared(source, montage, stager, decoders, schedule, sounds, sink, simulated, notices)


def _is_simulated(path):
    folder = path.resolve().parent
    # a data set keeps its recordings in a folder of that name, and its mark beside that folder
    return is_simulated(path, *([folder.parent] if folder.name == "recordings" else []))


def _resampled(rates):
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


def _checkpoints(settings):
    chosen = {"NREM": settings.decoder.checkpoint, "REM": settings.decoder.rem_checkpoint}
    return {stage: path for stage, path in chosen.items() if path is not None}


def _stager(settings, present, simulated, notices):
    from realtime.Model import networks
    from utils.stagers import SIStagingStager, YasaStager

    if settings.stager == "yasa":
        if settings.checkpoint is not None:
            raise UserError("--stager-checkpoint belongs to --stager sistaging; yasa brings its own")
        stager = YasaStager(settings, present)
        stager.warm_up()
        return stager
    if settings.checkpoint is None:
        raise UserError("--stager sistaging needs --stager-checkpoint FILE (or use --stager yasa)")
    network = networks.restore(settings.checkpoint, "stager")
    stager = SIStagingStager(settings, network, present)
    networks.warm_up(stager, settings.checkpoint)
    if not simulated and network.notes.get("simulated"):
        text = "stager trained on simulated data: these stages mean nothing about real sleep"
        notices.append((logging.WARNING, f"{text} ({shown(settings.checkpoint)})"))
    return stager


def _decoders(settings, checkpoints, montage, simulated, notices):
    """Return {"NREM" | "REM": Decoder}, and say when there is none and why."""
    from realtime.Model import networks
    from realtime.Model.decoder import Decoder

    if not checkpoints:
        notices.append((logging.INFO, "decoding off: no --decoder-checkpoint"))
        return {}
    count = len(settings.decoder.channels)
    found = {stage: networks.restore(path, "decoder", count) for stage, path in checkpoints.items()}
    if montage.decoder is None:
        lacking = ", ".join(montage.lacking)
        notices.append((logging.WARNING, f"decoding off: recording lacks channels {lacking}"))
        return {}
    decoders = {stage: Decoder(network, count) for stage, network in found.items()}
    for stage, decoder in decoders.items():
        networks.warm_up(decoder, checkpoints[stage])
    if settings.gate.rem and "REM" not in decoders:
        notices.append((logging.WARNING, "cues in REM are not decoded: no decoder.rem_checkpoint"))
    made_up = [shown(checkpoints[s]) for s, network in found.items() if network.notes.get("simulated")]
    if made_up and not simulated:
        text = "decoder trained on simulated data: these decodes mean nothing about real memories"
        notices.append((logging.WARNING, f"{text} ({', '.join(dict.fromkeys(made_up))})"))
    return decoders
