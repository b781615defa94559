"""Whole sessions in one piece: nights with cues, wake sessions with pictures and sounds, the short recording.

A session is planned when it is made and rendered when it is written, a minute at a time, so a night of eight
hours needs no more memory than its tables. The night follows a hypnogram; cues come in settled N2 and N3, the
items in random order, every item once before any comes again.
"""

import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from sleep_interpreter.data.simulation.cues import Responses, plan_cues, plan_reactivations
from sleep_interpreter.data.simulation.events import five_stages
from sleep_interpreter.data.simulation.hypnogram import given_hypnogram, load_hypnogram, simulate_hypnogram
from sleep_interpreter.data.simulation.scene import Scene
from sleep_interpreter.data.simulation.settings import CuePlan, NightSettings, RecordingSettings, Simulation
from sleep_interpreter.data.simulation.subject import RESPONSE_S, Subject, memory_scores
from sleep_interpreter.utils.core.constants import STAGING_SECONDS, STREAM_RATE, WAKE
from sleep_interpreter.utils.core.provenance import MARK
from sleep_interpreter.utils.signal.brainvision_writer import BrainVisionWriter

MEASURED = datetime.datetime(2000, 1, 1, 22, 0, tzinfo=datetime.UTC)
"""Start of every simulated night: a fixed date that belongs to nobody."""
COLUMNS = ("item", "modality", "stage", "so_group", "so_phase_rad")
"""What annotations say besides onset, duration and description; empty where it does not apply."""

_EPOCH = int(STAGING_SECONDS * STREAM_RATE)
_CHUNK = 2 * _EPOCH
_RESPONSE_S = 1.5  # of wake responses; they are over by then
_LEAD_S, _TAIL_S = 2.0, 5.0  # a wake session before its first onset and after its last


class SimulatedSession:
    """A continuous recording of one simulated subject that began at `started`."""

    def __init__(self, subject: Subject, scene: Scene, started: datetime.datetime) -> None:
        self.subject, self.scene, self.started = subject, scene, started

    def write(self, path: str | Path, resolution_uv: float | None = None) -> None:
        """Write the session as BrainVision (.vhdr, .eeg, .vmrk); the .vhdr appears last, when all is there.

        The marker "simulated" at the beginning stays with the files wherever they are copied. MNE reads the
        descriptions of `annotations` back as "Comment/...". `resolution_uv` is that of 16-bit samples; None: 32-bit
        floats.
        """
        comment = f"{MARK}: written by data/simulate.py, no recording of anybody"
        with BrainVisionWriter(
            path, self.scene.names, STREAM_RATE, resolution=resolution_uv, start=self.started, comment=comment
        ) as writer:
            for row in self.annotations()[["sample", "description", "duration"]].to_dict("records"):
                writer.marker(*row.values())
            for start in range(0, self.scene.n, _CHUNK):
                writer.append(self.scene.render(start, min(start + _CHUNK, self.scene.n)))

    def annotations(self) -> pd.DataFrame:
        """Return everything that happens, by onset: sample, duration (samples), description, `COLUMNS`.

        Descriptions: "simulated" at the beginning, "stage/<W|N2|N3|R>" an epoch (W stands for W/N1; the column stage
        tells N1), "cue/<item>", "image/<item>", "audio/<item>", "artefact/<movement|arousal>",
        "artefact/bad_channel/<name>", and, known in simulated data only, "true/<so|k_complex|evoked>",
        "true/spindle_<slow|fast>", "true/reactivation/<item>".
        """
        n, epochs = self.scene.n, np.arange(-(-self.scene.n // _EPOCH))
        stages = np.array(self.scene.stages, object)[np.minimum(epochs, len(self.scene.stages) - 1)]
        events = self.scene.events
        waves, spindles, bad = events["slow_oscillation"], events["spindle"], events["bad_channel"]
        rows = [
            pd.DataFrame({"sample": [0], "duration": [1], "description": [MARK]}),
            pd.DataFrame({"sample": epochs * _EPOCH, "duration": _EPOCH, "stage": stages}).assign(
                description=[f"stage/{'W' if stage == 'N1' else stage}" for stage in stages]
            ),
            *self._own_annotations(),
            *(_annotated(events[kind], f"artefact/{kind}") for kind in ("arousal", "movement")),
            _annotated(bad, "artefact/bad_channel/" + bad["channel"].astype(str)),
            _annotated(waves, "true/" + waves["kind"].astype(str), waves["end_s"] - waves["start_s"]),
            _annotated(spindles, "true/spindle_" + spindles["kind"].astype(str)),
        ]
        table = pd.concat([row for row in rows if len(row)], ignore_index=True)
        table = table.reindex(columns=["sample", "duration", "description", *COLUMNS])
        table = table[(table["sample"] >= 0) & (table["sample"] < n)]
        table["duration"] = np.minimum(table["duration"], n - table["sample"])
        return table.sort_values("sample", kind="stable", ignore_index=True)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return everything planted as tables for the truth file."""
        return dict(self.scene.events)

    def _own_annotations(self) -> list[pd.DataFrame]:
        return []


class SimulatedNight(SimulatedSession):
    """A night of sleep with cues, or the short recording for the real-time session.

    `plan` says what the night is like and when cues are given; None: `settings.night`. `codes` (n_epochs,) are its
    hypnogram of the four classes of `STAGES`, `cues` and `reactivations` as in `data.simulation.cues`; `memory` has
    a row an item: item, cued (reactivations by cues), spontaneous, strength (summed gain of both), memory_score.
    """

    def __init__(
        self, settings: Simulation, group: str, number: int, plan: NightSettings | RecordingSettings | None = None
    ) -> None:
        plan = settings.night if plan is None else plan
        purpose = ("recording" if isinstance(plan, RecordingSettings) else "night",)
        subject = Subject(settings, group, number)
        self.codes = hypnogram(plan, settings.seed, group, number)
        stages = five_stages(subject.generator(*purpose, "stages"), self.codes, settings.stages)
        super().__init__(subject, Scene(subject, purpose, stages), MEASURED)
        onsets = cue_onsets(subject.generator(*purpose, "onsets"), plan, self.codes, self.scene)
        items = shuffled_items(subject.generator(*purpose, "items"), len(onsets), subject.n_items)
        self.cues = plan_cues(subject, self.scene, onsets, items, purpose)
        self.reactivations = plan_reactivations(subject, self.scene, purpose, self.cues["onset_s"])
        self.memory = memory_table(subject, self.cues, self.reactivations)

    def tables(self) -> dict[str, pd.DataFrame]:
        planned = {"cues": self.cues, "reactivations": self.reactivations, "memory": self.memory}
        hypnogram = pd.DataFrame({"code": self.codes, "stage": self.scene.stages})
        return {**super().tables(), **planned, "hypnogram": hypnogram}

    def _own_annotations(self) -> list[pd.DataFrame]:
        cues = self.cues[["sample", "item", "stage", "so_group", "so_phase_rad"]].assign(
            duration=1, modality="audio", description="cue/" + self.cues["item"].astype(str)
        )
        own = self.reactivations
        texts = "true/reactivation/" + own["item"].astype(str)
        return [cues, _annotated(own, texts, np.full(len(own), RESPONSE_S)).assign(item=own["item"])]


class WakeSession(SimulatedSession):
    """A wake session: eyes closed at first, then every item several times as a picture or as a sound.

    `trials` is a table of onset_s, sample, item, item_index and modality ("image", "audio").
    """

    def __init__(self, settings: Simulation, group: str, number: int, modality: str) -> None:
        plan = settings.night.wake
        subject = Subject(settings, group, number)
        count = plan.repetitions * subject.n_items
        gaps = subject.generator("wake", modality, "onsets").uniform(*plan.interval_s, count)
        rest = 60 * plan.rest_min
        onsets = np.rint((rest + _LEAD_S + np.cumsum(gaps) - gaps[0]) * STREAM_RATE).astype(int)
        items = shuffled_items(subject.generator("wake", modality, "items"), count, subject.n_items)
        n = int(onsets[-1] + _TAIL_S * STREAM_RATE)
        closed = pd.DataFrame({"start_s": [0.0], "duration_s": [rest]})[: int(rest > 0)]
        scene = Scene(subject, ("wake", modality), ["W"] * -(-n // _EPOCH), n, fixed={"alpha": closed})
        super().__init__(subject, scene, MEASURED - datetime.timedelta(hours=2 if modality == "image" else 1))
        length = int(_RESPONSE_S * STREAM_RATE)

        def response(k: int) -> np.ndarray:
            rng = subject.generator("wake", modality, "response", k)
            return subject.awake_response(rng, modality, items[k], length)

        scene.add_signal(Responses(len(subject.head.names), onsets, length, response))
        self.trials = pd.DataFrame(
            {
                "onset_s": onsets / STREAM_RATE, "sample": onsets, "item": subject.items[items],
                "item_index": items, "modality": modality,
            }
        )  # fmt: skip

    def tables(self) -> dict[str, pd.DataFrame]:
        return {**super().tables(), "trials": self.trials}

    def _own_annotations(self) -> list[pd.DataFrame]:
        texts = self.trials["modality"].astype(str) + "/" + self.trials["item"].astype(str)
        return [self.trials[["sample", "item", "modality"]].assign(duration=1, stage="W", description=texts)]


def recorded_night(settings: Simulation) -> SimulatedNight:
    """Return the short recording of `settings.recording`: the items of its test subject are those of its trials."""
    return SimulatedNight(settings, "test", settings.recording.test_subject, settings.recording)


def hypnogram(plan: NightSettings | RecordingSettings, seed: int, group: str, number: int) -> np.ndarray:
    """Return the hypnogram of one subject's night or recording, int (n_epochs,), as the plan says."""
    given = plan.stages if isinstance(plan, RecordingSettings) else plan.hypnogram
    if given is not None:
        return given_hypnogram(given)
    hours = getattr(plan, "hours", None)
    model = _model(overrides=() if hours is None else (f"hours={hours}",))
    return simulate_hypnogram(model, seed, group, number)


_model = lru_cache(maxsize=4)(load_hypnogram)


def cue_onsets(rng: np.random.Generator, plan: CuePlan, codes: np.ndarray, scene: Scene) -> np.ndarray:
    """Return the samples of cues, int (n,); none is given while an arousal or a movement lasts.

    `codes` (n_epochs,) is the scene's hypnogram.
    """
    stages = ("N2", "N3", "R") if plan.rem_cues else ("N2", "N3")
    asleep = np.flatnonzero(codes != WAKE)
    if not len(asleep):
        return np.zeros(0, int)
    good = np.isin(np.array(scene.stages, object), stages)
    unrest = pd.concat([scene.events[kind][["start_s", "duration_s"]] for kind in ("arousal", "movement")])
    starts, ends = unrest["start_s"].to_numpy(), (unrest["start_s"] + unrest["duration_s"]).to_numpy()
    onsets, time = [], asleep[0] * STAGING_SECONDS + 60 * plan.cues_from_min
    while time + RESPONSE_S < len(codes) * STAGING_SECONDS:
        first = int(max(0.0, time - plan.settled_s) // STAGING_SECONDS)
        last = int((time + RESPONSE_S) // STAGING_SECONDS)
        calm = not ((starts <= time) & (time <= ends)).any()
        if calm and good[first : last + 1].all() and time >= plan.settled_s:
            onsets.append(round(time * STREAM_RATE))
        time += rng.uniform(*plan.cue_interval_s)
    return np.array(onsets, int)


def shuffled_items(rng: np.random.Generator, count: int, n_items: int) -> np.ndarray:
    """Return `count` of so many items, every item once before any comes again, int (count,)."""
    rounds = [rng.permutation(n_items) for _ in range(-(-count // n_items))]
    return np.concatenate([np.zeros(0, int), *rounds])[:count]


def memory_table(subject: Subject, cues: pd.DataFrame, reactivations: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return how often each item was reactivated and how well it is remembered: `SimulatedNight.memory`."""
    alone = cues[:0] if reactivations is None else reactivations

    def sums(table: pd.DataFrame, values: np.ndarray | pd.Series) -> np.ndarray:
        return np.bincount(table["item_index"].to_numpy(int), np.asarray(values, float), subject.n_items)

    cued, spontaneous = sums(cues, cues["reactivated"]).astype(int), sums(alone, np.ones(len(alone))).astype(int)
    table = pd.DataFrame({"item": subject.items, "cued": cued, "spontaneous": spontaneous})
    strength = sums(cues, cues["gain"]) + sums(alone, alone["gain"])
    return table.assign(strength=strength, memory_score=memory_scores(subject, strength))


def _annotated(
    events: pd.DataFrame, description: str | pd.Series, duration_s: np.ndarray | pd.Series | None = None
) -> pd.DataFrame:
    """Return events of a scene as annotations."""
    duration_s = events["duration_s"] if duration_s is None else duration_s
    onset = events["onset_s" if "onset_s" in events else "start_s"]
    sample, duration = (np.rint(np.asarray(s, float) * STREAM_RATE).astype(int) for s in (onset, duration_s))
    table = pd.DataFrame({"sample": sample, "duration": np.maximum(1, duration), "description": description})
    return table.assign(stage=events["stage"].to_numpy()) if "stage" in events else table
