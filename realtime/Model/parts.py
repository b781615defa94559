"""Builds what computes in a session, here or in a worker's process: the stager, and the decoders."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Model import networks
from sleep_interpreter.realtime.Model.worker import Build, InlineWorker, ProcessWorker, Worker
from sleep_interpreter.realtime.Parameters.settings import SessionSettings
from sleep_interpreter.realtime.Sources.source import Notice
from sleep_interpreter.utils.core.data_card import DataCard
from sleep_interpreter.utils.core.paths import display_path
from sleep_interpreter.utils.staging.registry import STAGERS
from sleep_interpreter.utils.staging.settings import StagingSettings


def build_stager(
    settings: StagingSettings, present: Sequence[bool], simulated: bool
) -> tuple[Callable[..., Any], list[Notice]]:
    """Return a stager's `update` and notices; `present` are EEG, EOG and EMG, `simulated` is the signal. Raise
    `UserError` where a checkpoint is missing, unreadable or of another kind."""
    notices: list[Notice] = []

    def restore(path: str | Path) -> Any:
        network = networks.restore(path, "stager")
        if not simulated and network.notes.get("simulated"):
            text = "stager trained on simulated data: these stages mean nothing about real sleep"
            notices.append((logging.WARNING, f"{text} ({display_path(path)})"))
        return network

    stager = STAGERS.make(settings.stager, settings, present, restore)
    networks.warm_up(stager, settings.checkpoint or f"--stager {settings.stager}")
    return stager.update, notices


@dataclass(frozen=True)
class DecoderInput:
    """What decoders get and give: the `channels` of the stream by their names in the data card, in the order of the
    rows; the `items` in the order of the session's card. `interpolate`: as in `DecoderChoice`."""

    channels: tuple[str, ...]
    items: tuple[str, ...]
    interpolate: bool = False


def build_decoders(
    checkpoints: Mapping[str, str | Path], given: DecoderInput, rem: bool, simulated: bool
) -> tuple[Callable[[str, np.ndarray], np.ndarray], list[Notice]]:
    """Return `predict(kind, eeg)` and notices, of {"NREM" | "REM": path} and what they are given.

    `rem`: cues are played in REM too. A `UserError` tells of a checkpoint that is missing, unreadable, or of another
    kind or size.
    """
    found = {kind: networks.restore(path, "decoder") for kind, path in checkpoints.items()}
    decoders = {
        kind: networks.Decoder(network, given.channels, given.items, given.interpolate)
        for kind, network in found.items()
    }
    notices: list[Notice] = []
    for kind, decoder in decoders.items():
        networks.warm_up(decoder, checkpoints[kind])
        notices += _input_notices(found[kind].card, decoder.interpolated, display_path(checkpoints[kind]))
    if rem and "REM" not in decoders:
        notices.append((logging.WARNING, "cues in REM are not decoded: no decoder.rem_checkpoint"))
    made_up = [display_path(checkpoints[kind]) for kind, net in found.items() if net.notes.get("simulated")]
    if made_up and not simulated:
        text = "decoder trained on simulated data: these decodes mean nothing about real memories"
        notices.append((logging.WARNING, f"{text} ({', '.join(dict.fromkeys(made_up))})"))
    return lambda kind, eeg: decoders[kind].predict(eeg), notices


def _input_notices(card: DataCard, interpolated: Sequence[str], where: str) -> list[Notice]:
    """Return what is to be said of a decoder's channels, reference and filter."""
    notices: list[Notice] = []
    if interpolated:
        text = f"decoder: {', '.join(interpolated)} interpolated from the other channels (spherical splines)"
        notices.append((logging.WARNING, f"{text} ({where})"))
    if not networks.takes_average(card):
        known = f"with reference {card.reference}" if card.reference else "with a reference that nobody knows"
        text = f"decoder trained {known}: the stream's own reference is taken for it"
        notices.append((logging.WARNING, f"{text} ({where})"))
    corners = card.filter.model_dump(exclude_none=True)
    if corners:
        said = ", ".join(f"{name.removesuffix('_hz')} {value:g} Hz" for name, value in corners.items())
        remedy = "trials as a session cuts them: data/prepare.py --config prepare_realtime"
        text = f"decoder trained on filtered EEG ({said}): the stream is not ({where}); {remedy}"
        notices.append((logging.WARNING, text))
    return notices


@dataclass(frozen=True)
class Workers:
    """What computes in a session; `kinds` ("NREM", "REM") are decoded."""

    stager: Worker
    decoder: Worker | None
    kinds: frozenset[str]
    notices: list[Notice]

    def close(self) -> None:
        """End the processes."""
        for worker in (self.stager, self.decoder):
            if worker is not None:
                worker.close()


def open_workers(
    settings: SessionSettings, present: Sequence[bool], checkpoints: Mapping[str, str | Path],
    given: DecoderInput, simulated: bool, apart: bool,
) -> Workers:  # fmt: skip
    """Start what computes in a session, in processes of their own where `apart`.

    `present` are EEG, EOG and EMG; `checkpoints` {"NREM" | "REM": path} may be empty: nothing is decoded then; else
    `given` is what they get. It refuses what `build_stager` and `build_decoders` refuse.
    """
    staging = build_stager, (settings.staging, tuple(present), simulated)
    decoding = build_decoders, (checkpoints, given, settings.gate.rem, simulated)
    stager, notices = _open("stager", *staging, settings.staging.timeout_seconds, apart)
    if not checkpoints:
        return Workers(stager, None, frozenset(), notices)
    try:
        decoder, more = _open("decoder", *decoding, settings.decoder.timeout_seconds, apart)
    except BaseException:
        stager.close()
        raise
    return Workers(stager, decoder, frozenset(checkpoints), [*notices, *more])


def _open(name: str, build: Build, arguments: tuple[Any, ...], timeout: float, apart: bool) -> tuple[Worker, Any]:
    if not apart:
        function, notices = build(*arguments)
        return InlineWorker(function), notices
    worker = ProcessWorker(name, build, arguments, timeout)
    return worker, worker.start()
