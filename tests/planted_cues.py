"""A short night of few channels with planted cues: what a preparation makes of every cue against what was put in."""

import mne
import numpy as np
import pandas as pd
import recordings

from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.settings import load_settings

NAMES = ["Fz", "Cz", "C4", "M1"]
MONTAGE = NAMES[:3]
RATE = 250.0
CODES = {11: "alarm", 12: "apple", 200: "kiwi"}
STAGES = ("W", "N2", "N3", "R", "N2", "N2")
SETTINGS = (
    "recordings.pattern=(?P<subject>s\\d)_(?P<session>night|nap)", "channels.montage=[Fz, Cz, C4]",
    "channels.eog=null", "channels.emg=null", "steps.bad_channels.method=none", "steps.line_noise.hz=null",
    "outputs.report=false", "stages.windows=false", "split.test=[s1]", "rejection.method=none",
)  # fmt: skip
RULES = "[" + ", ".join(f"{{code: {code}, item: {item}, modality: cue}}" for code, item in CODES.items()) + "]"
"""Value of events.rules: a cue a code."""
_PARTS = (0.6, 0.2, 0.2)


def night(seed=0, stages=STAGES, rate=RATE, every=3.0):
    """Return a Raw without annotations, in V, and a table of its cues: onset_s, code, item, stage."""
    data = recordings.background(30.0 * len(stages), NAMES, seed, rate)
    raw = mne.io.RawArray(data, mne.create_info(NAMES, rate, "eeg"), verbose="error")
    onset = np.arange(4.0, 30.0 * len(stages) - 4, every)
    codes = np.resize(np.roll(list(CODES), seed), len(onset))  # in turn, so that each stage has some of every item
    cues = pd.DataFrame({"onset_s": onset, "code": codes})
    cues["item"] = [CODES[code] for code in codes]
    cues["stage"] = [stages[int(at // 30)] for at in onset]
    return raw, cues


def with_annotations(raw, cues, stages=STAGES, texts=None):
    """Set annotations of the cues (texts or "cue/<item>") and of the stages."""
    texts = [f"cue/{item}" for item in cues["item"]] if texts is None else texts
    raw.set_annotations(
        mne.Annotations(
            [*cues.onset_s, *(30.0 * np.arange(len(stages)))], [0.0] * len(cues) + [30.0] * len(stages),
            [*texts, *(f"stage/{s}" for s in stages)],
        )
    )  # fmt: skip
    return raw


def with_trigger_channel(raw, cues, name="STI", samples=5, transit=None):
    """Return the recording with a trigger channel; `transit` codes stand for one sample before each code."""
    stim = np.zeros(raw.n_times)
    for k, (onset, code) in enumerate(zip(cues.onset_s, cues.code, strict=True)):
        start = round(onset * raw.info["sfreq"])
        stim[start : start + samples] = code
        if transit is not None:
            stim[start - 1] = transit[k]
    info = mne.create_info([name], raw.info["sfreq"], "stim")
    return raw.add_channels([mne.io.RawArray(stim[None], info, verbose="error")], force_update_info=True)


def prepare(folder, out, *settings, pattern="s*"):
    """Prepare the recordings of a folder and return the manifest."""
    loaded = load_settings(None, [*SETTINGS, *settings])
    return prepare_run.prepare(inputs.find_recordings(str(folder / pattern), loaded), loaded, out)


def complete(manifest, name="subject_test_0"):
    """Return a subject's record, which has to be complete."""
    record = manifest["subjects"][name]
    assert record["status"] == "complete", record["reason"]
    return record


def check(out, cues, session="night", lost=(), within=0.003):
    """Compare every cue of the test subject with the planted table: time, item, stage, part; `lost` are no trials."""
    found = pd.read_csv(out / f"Prepared/subject_test_0/{session}/cues.tsv", sep="\t", keep_default_na=False)
    assert found["item"].tolist() == cues["item"].tolist()
    assert np.abs(found.onset_s - cues.onset_s.to_numpy()).max() <= within
    kept = cues[cues.stage.isin(["N2", "N3", "R"]) & ~cues.index.isin(lost)]
    assert (found.left_out == "n/a").tolist() == cues.index.isin(kept.index).tolist()
    check_trials(out, kept, within)
    return found


def check_trials(out, cues, within=0.003, name="subject_test_0"):
    """Compare the trials of a test subject with the cues that become trials, in order of time; return their number."""
    for kind, stages in (("N2N3", ("N2", "N3")), ("REM", ("R",))):
        own = cues[cues.stage.isin(stages)]
        trials = next((subject for subject in read_test_subjects(out, kind) if subject.name == name), None)
        assert (0 if trials is None else len(trials)) == len(own)
        if trials is None or not len(own):
            continue
        assert [trials.card.item_names[label] for label in trials.label] == own["item"].tolist()
        assert trials.origin.stage.tolist() == own.stage.tolist()
        assert np.abs(trials.origin.onset_s - own.onset_s.to_numpy()).max() <= within
        assert trials.data_type.tolist() == _parts(own["item"].tolist())
    return len(cues)


def _parts(items):
    """Return the part of each trial: an item's trials in order of time, in blocks of 60, 20 and 20 %.

    Items of fewer than three trials are cut together.
    """
    parts = np.empty(len(items), object)
    items = [item if items.count(item) > 2 else "few" for item in items]
    for item in set(items):
        places = np.flatnonzero([own == item for own in items])
        ends = np.rint(np.cumsum(_PARTS) * len(places)).astype(int)
        counts = np.diff([0, *ends[:2], len(places)])
        for k in np.flatnonzero(counts == 0) if len(places) > 2 else ():  # each part has a trial
            counts[[k, counts.argmax()]] += [1, -1]
        parts[places] = np.repeat(["train", "val", "test"], counts)
    return parts.tolist()
