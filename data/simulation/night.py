"""Whole sessions in one piece: nights with cues, wake sessions with pictures and sounds, the short recording.

A session is planned when it is made and rendered when it is written, a minute at a time, so a night of eight
hours needs no more memory than its tables. The night follows a hypnogram; cues come in settled N2 and N3, the
items in random order, every item once before any comes again.
"""

import datetime
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from sleep_interpreter.data.simulation.cohort_settings import Recording
from sleep_interpreter.data.simulation.cues import Responses, plan_cues, plan_reactivations
from sleep_interpreter.data.simulation.hypnogram import given_hypnogram, load_hypnogram, simulate_hypnogram
from sleep_interpreter.data.simulation.memory import RESPONSE_S, Subject, memory_scores
from sleep_interpreter.data.simulation.scene import Scene, five_stages
from sleep_interpreter.utils.core.constants import ITEMS, STAGING_SECONDS, STREAM_RATE, WAKE
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


class Session:
    """A continuous recording of one simulated subject.

    Attributes
    ----------
    subject : sleep_interpreter.data.simulation.memory.Subject
    scene : sleep_interpreter.data.simulation.scene.Scene
    started : datetime.datetime
    """

    def __init__(self, subject, scene, started):
        self.subject, self.scene, self.started = subject, scene, started

    def write(self, path, resolution_uv=None):
        """Write the session as BrainVision (.vhdr, .eeg, .vmrk); the .vhdr appears last, when all is there.

        The marker "simulated" at the beginning stays with the files wherever they are copied. MNE reads the
        descriptions of `annotations` back as "Comment/...".

        Parameters
        ----------
        path : str | Path
            Name of the .vhdr file.
        resolution_uv : float | None
            Of 16-bit samples; None: 32-bit floats.
        """
        comment = f"{MARK}: written by data/simulate.py, no recording of anybody"
        with BrainVisionWriter(
            path, self.scene.names, STREAM_RATE, resolution=resolution_uv, start=self.started, comment=comment
        ) as writer:
            table = self.annotations()
            for row in table[["sample", "duration", "description"]].itertuples(index=False):
                writer.marker(row.sample, row.description, row.duration)
            for start in range(0, self.scene.n, _CHUNK):
                writer.append(self.scene.render(start, min(start + _CHUNK, self.scene.n)))

    def annotations(self):
        """Return everything that happens, by onset.

        Returns
        -------
        table : DataFrame
            sample, duration (samples), description, `COLUMNS`. Descriptions: "simulated" at the beginning,
            "stage/<W|N2|N3|R>" an epoch (W stands for W/N1; the column stage tells N1), "cue/<item>",
            "image/<item>", "audio/<item>", "artefact/<movement|arousal>", "artefact/bad_channel/<name>", and,
            known in simulated data only, "true/<so|k_complex|evoked>", "true/spindle_<slow|fast>",
            "true/reactivation/<item>".
        """
        n, epochs = self.scene.n, np.arange(-(-self.scene.n // _EPOCH))
        stages = [self.scene.stages[min(epoch, len(self.scene.stages) - 1)] for epoch in epochs]
        rows = [
            pd.DataFrame({"sample": [0], "duration": [1], "description": [MARK]}),
            pd.DataFrame(
                {
                    "sample": epochs * _EPOCH,
                    "duration": np.minimum(_EPOCH, n - epochs * _EPOCH),
                    "description": [f"stage/{'W' if stage == 'N1' else stage}" for stage in stages],
                    "stage": stages,
                }
            ),
            *self._own_annotations(),
        ]
        events = self.scene.events
        for kind in ("arousal", "movement"):
            rows.append(_happening(events[kind], f"artefact/{kind}"))
        bad = events["bad_channel"]
        rows.append(_happening(bad, "artefact/bad_channel/" + bad["channel"].astype(str)))
        waves, spindles = events["slow_oscillation"], events["spindle"]
        rows.append(_happening(waves, "true/" + waves["kind"].astype(str), waves["end_s"] - waves["start_s"]))
        rows.append(_happening(spindles, "true/spindle_" + spindles["kind"].astype(str)))
        table = pd.concat([row for row in rows if len(row)], ignore_index=True)
        table = table.reindex(columns=["sample", "duration", "description", *COLUMNS])
        table = table[(table["sample"] >= 0) & (table["sample"] < n)]
        table["duration"] = np.minimum(table["duration"], n - table["sample"])
        return table.sort_values("sample", kind="stable", ignore_index=True)

    def tables(self):
        """Return everything planted as tables for the truth file: {name: DataFrame}."""
        return dict(self.scene.events)

    def _own_annotations(self):
        return []


class Night(Session):
    """A night of sleep with cues, or the short recording for the real-time session.

    Parameters
    ----------
    settings : sleep_interpreter.data.simulation.settings.Simulation
    group : "train" | "test"
    number : int
    plan : sleep_interpreter.data.simulation.cohort_settings.Night | sleep_interpreter.data.simulation.cohort_settings.Recording | None
        What the night is like and when cues are given; None: `settings.night`.

    Attributes
    ----------
    codes : int array (n_epochs,)
        Hypnogram of the four classes, `utils.core.constants.STAGES`.
    cues, reactivations : DataFrame
        See `data.simulation.cues`.
    memory : DataFrame (15 rows)
        item, cued (reactivations by cues), spontaneous, strength (summed gain of both), memory_score.
    """

    def __init__(self, settings, group, number, plan=None):
        plan = settings.night if plan is None else plan
        purpose = ("recording",) if isinstance(plan, Recording) else ("night",)
        subject = Subject(settings, group, number)
        self.codes = hypnogram(plan, settings.seed, group, number)
        stages = five_stages(subject.generator(*purpose, "stages"), self.codes, settings.stages)
        super().__init__(subject, Scene(subject, purpose, stages), MEASURED)
        onsets = cue_onsets(subject.generator(*purpose, "onsets"), plan, self.codes, self.scene)
        items = shuffled_items(subject.generator(*purpose, "items"), len(onsets))
        self.cues = plan_cues(subject, self.scene, onsets, items, purpose)
        self.reactivations = plan_reactivations(subject, self.scene, purpose, self.cues["onset_s"])
        self.memory = memory_table(subject, self.cues, self.reactivations)

    def tables(self):
        return {
            **super().tables(),
            "cues": self.cues,
            "reactivations": self.reactivations,
            "memory": self.memory,
            "hypnogram": pd.DataFrame({"code": self.codes, "stage": self.scene.stages}),
        }

    def _own_annotations(self):
        cues = self.cues[["sample", "item", "stage", "so_group", "so_phase_rad"]].assign(
            duration=1, modality="audio", description="cue/" + self.cues["item"].astype(str)
        )
        own = self.reactivations
        texts = "true/reactivation/" + own["item"].astype(str)
        return [cues, _happening(own, texts, np.full(len(own), RESPONSE_S)).assign(item=own["item"])]


class WakeSession(Session):
    """A wake session: eyes closed at first, then every item several times as a picture or as a sound.

    Parameters
    ----------
    settings : sleep_interpreter.data.simulation.settings.Simulation
    group : "train" | "test"
    number : int
    modality : "image" | "audio"

    Attributes
    ----------
    trials : DataFrame
        onset_s, sample, item, item_index, modality.
    """

    def __init__(self, settings, group, number, modality):
        plan = settings.night.wake
        subject = Subject(settings, group, number)
        count = plan.repetitions * len(ITEMS)
        gaps = subject.generator("wake", modality, "onsets").uniform(*plan.interval_s, count)
        rest = 60 * plan.rest_min
        onsets = np.rint((rest + _LEAD_S + np.cumsum(gaps) - gaps[0]) * STREAM_RATE).astype(int)
        items = shuffled_items(subject.generator("wake", modality, "items"), count)
        n = int(onsets[-1] + _TAIL_S * STREAM_RATE)
        closed = pd.DataFrame({"start_s": [0.0], "duration_s": [rest]})[: int(rest > 0)]
        scene = Scene(subject, ("wake", modality), ["W"] * -(-n // _EPOCH), n, fixed={"alpha": closed})
        super().__init__(subject, scene, MEASURED - datetime.timedelta(hours=2 if modality == "image" else 1))
        length = int(_RESPONSE_S * STREAM_RATE)

        def response(k):
            rng = subject.generator("wake", modality, "response", k)
            return subject.awake_response(rng, modality, items[k], length)

        scene.add_signal(Responses(len(subject.head.names), onsets, length, response))
        self.trials = pd.DataFrame(
            {
                "onset_s": onsets / STREAM_RATE,
                "sample": onsets,
                "item": np.array(ITEMS, object)[items],
                "item_index": items,
                "modality": modality,
            }
        )

    def tables(self):
        return {**super().tables(), "trials": self.trials}

    def _own_annotations(self):
        texts = self.trials["modality"].astype(str) + "/" + self.trials["item"].astype(str)
        return [self.trials[["sample", "item", "modality"]].assign(duration=1, stage="W", description=texts)]


@dataclass(frozen=True, eq=False)
class SimulatedRecording:
    """A continuous recording in memory.

    Attributes
    ----------
    data : float32 array (61, n)
        In µV at 500 Hz.
    stages : list of str
        Planted stage of each 30 s epoch: "W", "N1", "N2", "N3", "R".
    cues : list of (int, int)
        Onset sample and item of every cue.
    subject : str
    names : tuple of str
        Channels.
    """

    data: np.ndarray
    stages: list
    cues: list
    subject: str
    names: tuple


def recorded_night(settings):
    """Return the short recording that `settings.recording` describes, as a `Night` that can be written."""
    return Night(settings, "test", settings.recording.test_subject, settings.recording)


def simulate_recording(settings):
    """Simulate the short recording into memory.

    Parameters
    ----------
    settings : sleep_interpreter.data.simulation.settings.Simulation
        The subject is the test subject `recording.test_subject`; its items have the same patterns as in its
        trials.

    Returns
    -------
    recording : SimulatedRecording
    """
    night = recorded_night(settings)
    cues = list(zip(night.cues["sample"].tolist(), night.cues["item_index"].tolist(), strict=True))
    data = night.scene.render(0, night.scene.n)
    return SimulatedRecording(
        data, list(night.scene.stages), cues, night.subject.name, tuple(night.scene.names)
    )


def hypnogram(plan, seed, group, number):
    """Return the hypnogram of one subject's night or recording, int (n_epochs,), as the plan says."""
    if isinstance(plan, Recording):
        return given_hypnogram(plan.stages)
    if plan.hypnogram is not None:
        return given_hypnogram(plan.hypnogram)
    return simulate_hypnogram(_model(plan.hours), seed, group, number)


@lru_cache(maxsize=4)
def _model(hours):
    return load_hypnogram(overrides=[] if hours is None else [f"hours={hours}"])


def cue_onsets(rng, plan, codes, scene):
    """Plan when cues are given.

    Parameters
    ----------
    rng : numpy.random.Generator
    plan : sleep_interpreter.data.simulation.cohort_settings.CuePlan
    codes : int array (n_epochs,)
    scene : sleep_interpreter.data.simulation.scene.Scene
        No cue is given while an arousal or a movement lasts.

    Returns
    -------
    onsets : int array (n,)
        Samples.
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


def shuffled_items(rng, count):
    """Return `count` items, every item once before any comes again, int (count,)."""
    rounds = [rng.permutation(len(ITEMS)) for _ in range(-(-count // len(ITEMS)))]
    return np.concatenate([np.zeros(0, int), *rounds])[:count]


def memory_table(subject, cues, reactivations=None):
    """Return how often each item was reactivated and how well it is remembered; see `Night.memory`."""
    cued = _sums(cues, cues["reactivated"]), _sums(cues, cues["gain"])
    alone = (np.zeros(len(ITEMS)),) * 2
    if reactivations is not None:
        alone = _sums(reactivations, np.ones(len(reactivations))), _sums(reactivations, reactivations["gain"])
    strength = cued[1] + alone[1]
    return pd.DataFrame(
        {
            "item": ITEMS,
            "cued": cued[0].astype(int),
            "spontaneous": alone[0].astype(int),
            "strength": strength,
            "memory_score": memory_scores(subject, strength),
        }
    )


def _sums(table, values):
    return np.bincount(table["item_index"].to_numpy(int), np.asarray(values, float), len(ITEMS))


def _happening(events, description, duration_s=None):
    """Return events of a scene as annotations."""
    duration_s = events["duration_s"] if duration_s is None else duration_s
    onset = events["onset_s" if "onset_s" in events else "start_s"]
    table = pd.DataFrame(
        {
            "sample": np.rint(onset.to_numpy(float) * STREAM_RATE).astype(int),
            "duration": np.maximum(1, np.rint(np.asarray(duration_s, float) * STREAM_RATE)).astype(int),
            "description": description,
        }
    )
    return table.assign(stage=events["stage"].to_numpy()) if "stage" in events else table
