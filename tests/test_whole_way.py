"""Experiments of one's own, all the way: raw BrainVision, prepare, train, test, compare, Lasso, reactivation, a night.

One card each; every step is a script as users call it, and every figure is compared with what was planted.
"""

import json
from types import SimpleNamespace

import evaluation_data as made
import numpy as np
import pandas as pd
import pytest
import recordings
import yaml

from sleep_interpreter import model
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.model.checkpoints import checkpoint
from sleep_interpreter.utils.core.data_card import DataCard, card_of, published

TRAINING = ("a1", "a2")
TESTED = ("b1", "b2")
STAGES = ["W", *["N2"] * 5, *["N3"] * 4]
EIGHT = DataCard(
    title="eight words", items=[{"name": f"word {k}"} for k in "hgfedcba"], channels=published().channels[:32],
    rate_hz=250, windows={"sleep": {"begin": -0.5, "end": 2.5}, "wake": {"begin": -0.1, "end": 0.7}},
    conditions=["image", "audio", "N2N3"], reference="average", filter={"low_hz": None, "high_hz": None},
    awake_per_sleep=2,
)  # fmt: skip
TWO = DataCard(
    title="left and right", items=[{"name": "right"}, {"name": "left"}],
    channels=["F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"], rate_hz=128,
    windows={"sleep": {"begin": -0.25, "end": 0.75}, "wake": {"begin": 0, "end": 0.5}},
    conditions=["image", "N2N3"], reference="average", awake_per_sleep=3,
)  # fmt: skip
CASES = {
    "8 items, 32 channels, 250 Hz, 3 s": SimpleNamespace(
        card=EIGHT, network="N23SIMD", run="N2N3_SIMD", every=3.5, items=8
    ),
    "2 items, 8 channels, 128 Hz, 1 s": SimpleNamespace(
        card=TWO, network="N23SIMD", run="N2N3_SIMD", every=2.0, items=2
    ),
}
SIZES = ["model.stem.filters=8", "model.stem.dilations=[1]", "model.d_model=8", "model.sleep_encoder.ffn=8"]
STAGER = {
    "members": 1, "kernels": (500,), "branch_filters": 2, "block_filters": 2, "map_filters": 4,
    "series_filters": (4, 4, 4), "pool_filters": (4, 4), "lstm": 4, "dense": 4,
}  # fmt: skip
"""An untrained stager that says N2, whatever it sees."""
STATISTICS = ["bootstrap=200", "permutations=200"]


def overrides(*settings):
    return [word for setting in settings for word in ("--set", setting)]


def write_recordings(card, folder, every):
    """Write a BrainVision night and wake session of every subject; return the cues of each night (onset, item)."""
    cues = {}
    for seed, subject in enumerate((*TRAINING, *TESTED)):
        options = {"seed": seed, "names": card.channels, "words": card.item_names}
        night, _ = recordings.night(stages=STAGES, cue_every=every, item_strength=25.0, **options)
        recordings.write(night, folder / f"{subject}_night.vhdr")
        recordings.write(recordings.wake(repeats=4, **options), folder / f"{subject}_wake.vhdr")
        marks = night.annotations
        cues[subject] = [
            (onset, text.removeprefix("cue/"))
            for onset, text in zip(marks.onset, marks.description, strict=True)
            if text.startswith("cue/")
        ]
    return cues


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_experiment_of_ones_own_from_raw_recordings_to_a_night(case, tmp_path, call_script):
    card, chance = case.card, 1 / case.items
    names = list(card.item_names)

    def run(script, *arguments):
        code, stderr = call_script(script, *arguments)
        assert code == 0, stderr

    # raw recordings, prepared as the loop cuts them
    cues = write_recordings(card, tmp_path / "raw", case.every)
    own = card.model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(own, sort_keys=False, allow_unicode=True))
    settings = {
        "extends": "prepare_realtime", "card": str(tmp_path / "card.yaml"),
        "split": {"test": list(TESTED), "parts": [0.5, 0.2, 0.3]}, "outputs": {"report": False, "continuous": "test"},
        "stages": {"windows": False}, "recordings": {"amplitude_range": [0.5, 500]},
    }  # fmt: skip
    if "audio" not in card.conditions:  # sounds were played awake, and are no trials of this experiment
        cue = {"match": "cue/(?P<item>.+)", "modality": "cue"}
        ignored = {"match": "audio/.+", "modality": "ignore"}
        image = {"match": "image/(?P<item>.+)", "modality": "image"}
        settings["events"] = {"rules": [cue, image, ignored]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    data = tmp_path / "data"
    run(
        "data/prepare.py", "--recordings", tmp_path / "raw" / "*.vhdr", "--config", tmp_path / "own.yaml", "--out", data
    )
    assert card_of(data).model_dump() == card.model_dump() | {"title": card.title}
    run("data/check.py", data)

    trials = TrainingTrials(data)
    batch = next(iter(trials.batches(8, 0, 0)))
    assert batch["sleep"].shape == (8, card.sleep_samples, len(card.channels))
    assert batch["label"].shape == (8, case.items)
    subjects = read_test_subjects(data)
    asleep = [[item for onset, item in cues[name] if 30 <= onset < 30 * len(STAGES) - card.windows.sleep.end]
              for name in TESTED]  # fmt: skip
    for subject, wanted in zip(subjects, asleep, strict=True):
        assert len(subject.label) == len(wanted)
        found = sorted(names[k] for k in subject.label)
        assert found == sorted(wanted)

    # networks
    results = tmp_path / "results"
    places = ["--data", data, "--results", results]
    small = ["--quick", *overrides(*SIZES, "train.epochs=4", *(f"evaluate.{s}" for s in STATISTICS))]
    run(f"train/{case.network}.py", *places, *small)
    run(f"test/{case.network}.py", *places, *small)
    summary = json.loads((results / case.network / "summary.json").read_text())
    assert summary["measure"] == f"top-1 of {case.items}"
    assert summary["overall"]["chance"] == made.chance_in(results / case.network)
    table = pd.read_csv(results / case.network / "predictions.csv")
    assert [c[2:] for c in table if c.startswith("p_")] == names and set(table["item"]) == set(names)
    assert np.allclose(table[[f"p_{name}" for name in names]].sum(axis=1), 1, atol=1e-4)
    assert (results / case.network / "confusion_matrix.png").stat().st_size > 5000

    planned = {s: pd.read_csv(next(data.glob(f"Prepared/{s}/*/cues.tsv")), sep="\t") for s in set(table.subject)}
    for subject, own in table.groupby("subject"):
        known = planned[subject].set_index("cue_id").loc[own.cue_id]
        assert (known.item.to_numpy() == own["item"]).all() and (known.trial == own.trial.to_numpy()).all()
    run("test/compare.py", case.network, "--by", "repetition", "--results", results)

    best = results / "Decoding checkpoint" / case.run / "ensemble.npz"
    run(f"test/{case.network}.py", *places, *small, "--window", "precue")
    control = f"{case.network}_precue"
    run("test/compare.py", case.network, control, "--different-data", "--results", results, "--name", "control")
    compared = json.loads((results / "compare" / "control.json").read_text())
    assert all(row["chance"] == made.chance_in(results / name) for name, row in compared["runs"].items())

    # linear baseline: what was planted in the response to a cue is found
    lasso = overrides("statistics.permutations=200")
    run("lasso_glm/lasso_glm_N2N3N2N3.py", *places, *lasso)
    found = json.loads((results / "lasso_N2N3N2N3" / "summary.json").read_text())
    assert found["measure"].startswith(f"top-1 of {case.items} ")
    (result,) = found["results"].values()
    decided = pd.read_csv(results / "lasso_N2N3N2N3" / "predictions.csv")
    of_network = decided.merge(table, on="cue_id", suffixes=("", "_network"))
    assert len(of_network) == len(table) and (of_network["item"] == of_network.item_network).all()
    assert result["peak"]["accuracy"] > chance + 0.2
    curve = pd.read_csv(results / "lasso_N2N3N2N3" / "mean.csv")
    assert found["chance"] == pytest.approx(curve["chance"].mean(), rel=1e-4)
    assert len(curve) == card.sleep_samples and curve["time"].iloc[0] == card.windows.sleep.begin

    # reactivation without cues
    options = overrides("step_seconds=0.5", "control.minutes=1", "guard_seconds=0", "false_alarms_per_min=10")
    run("test/reactivation.py", *places, "--checkpoint", best, *options)
    with np.load(results / "reactivation" / "subject_test_0" / "night.npz") as stored:
        assert stored["probability"].shape[1] == case.items and len(stored["probability"]) > 100

    # a night: the decoder of this experiment beside the stream, every cue decoded as the test script does
    stager = model.build("SIStaging", **STAGER)
    checkpoint.ensemble_variables(stager)["individual_models/0/fc/bias"].assign([0, 5, 0, 0])
    checkpoint.save(stager, tmp_path / "stager.npz")
    night = [
        "--recording", tmp_path / "raw" / f"{TESTED[0]}_night.vhdr", "--cues", "recorded", "--subject", "s1",
        "--stager", "sistaging", "--stager-checkpoint", tmp_path / "stager.npz", "--set", "gate.nrem_detections=1",
    ]  # fmt: skip
    run("realtime/Main_Decode.py", *night, "--decoder-checkpoint", best, "--out", tmp_path / "nights")
    (folder,) = (tmp_path / "nights" / "s1").iterdir()
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    decodes = [e["detail"] for e in events if e["event"] == "decode"]
    assert [d["cued"] for d in decodes] == [item for onset, item in cues[TESTED[0]] if onset >= 30]
    shares = [pd.Series([d[key] for d in decodes]).value_counts(normalize=True) for key in ("cued", "item")]
    by_chance = shares[0].mul(shares[1], fill_value=0).sum()
    assert json.loads((folder / "summary.json").read_text())["accuracy"]["chance"] == pytest.approx(by_chance)
    assert card_of(folder) == checkpoint.restore(best).card == card_of(data)
    online = pd.read_csv(folder / "predictions.csv").merge(pd.read_csv(folder / "cues.tsv", sep="\t"), on="cue_id")
    assert online.predicted.tolist() == online.decoded.tolist() == [d["item"] for d in decodes]
    rows = table[table["subject"] == "subject_test_0"]
    offline = rows[[f"p_{name}" for name in names]].to_numpy()
    online = np.array([d["probabilities"] for d in decodes])
    assert np.abs(offline[:, None] - online).max(axis=-1).min(axis=1).max() < 1e-3
