"""The study of what is found of the simulator's truth: settings, arithmetic, tables."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import runner
from benchmarks.preparation import planted_events, planted_tables
from sleep_interpreter.data.preparation.settings import load_settings
from sleep_interpreter.data.simulation.settings import load_settings as simulation
from sleep_interpreter.train.evaluation.sliding_decoder import ReactivationSettings
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError


@pytest.fixture(scope="module")
def study():
    return config.load(planted_events.PlantedEventsSettings, "planted_study")


def test_its_settings_are_known_to_what_they_set(study):
    for change in study.sets.values():
        settings = simulation(study.preset, runner.overrides(study.common, change))
        assert settings.night.test_subjects == settings.cohort.test_subjects > 1
    before = simulation(study.preset, runner.overrides(study.common, study.before))
    assert before.memory.strength == 0
    load_settings(study.prepare.config, runner.overrides(study.prepare.change))
    load_settings(None, runner.overrides(study.prepare.change_cued))
    changes = runner.overrides(study.reactivation)
    assert config.load(ReactivationSettings, "reactivation", overrides=changes).stages == ("N3",)
    assert study.tolerance == planted_events.Tolerance(trough_s=0.25, spindle_s=0.5)  # as the table says


def test_events_of_a_night_by_hand(tmp_path, study):
    planted = pd.DataFrame({"trough_s": [10.0, 20.0, 30.0, 40.0], "stage": ["N2", "N3", "N3", "R"]})
    spindles = pd.DataFrame({"start_s": [11.0, 50.0], "duration_s": [1.0, 1.0], "stage": ["N2", "N2"]})
    cues = pd.DataFrame(
        {"onset_s": [9.0, 19.0, 29.0], "so_group": ["1st-Up", "Down", "none"], "so_phase_rad": [0.1, np.pi, np.nan]}
    )
    truth = {"night/slow_oscillation": planted, "night/spindle": spindles, "night/cues": cues}
    pd.DataFrame({"trough_s": [10.2, 20.3, 55.0]}).to_csv(tmp_path / "so.tsv", sep="\t", index=False)
    found = pd.DataFrame({"start_s": [11.2], "end_s": [12.4]})
    found.to_csv(tmp_path / "spindles.tsv", sep="\t", index=False)
    seen = cues.assign(so_group=["trans-1st-Up", "Down", "Down"], so_phase_rad=[0.0, -np.pi + 0.2, 1.0])
    seen.to_csv(tmp_path / "cues.tsv", sep="\t", index=False, na_rep="n/a")
    row = planted_events.events(truth, tmp_path, study.tolerance)
    assert row["so"] == {"precision": 1 / 3, "recall": 1 / 3, "hits": 1, "found": 3, "true": 3}
    assert row["spindles"]["precision"] == 1 and row["spindles"]["recall"] == 0.5
    assert row["groups"] == {"n": 2, "same": 1, "next": 2}
    assert row["phase"]["n"] == 2 and row["phase"]["mean_rad"] == pytest.approx(0.05, abs=1e-3)
    table = planted_tables.event_table({"subject_test_0": row})
    assert table[2].endswith("| 3, 3 |") and table[-1].endswith("| 1, 2 of 2 |")
    truth["night/cues"] = cues.assign(onset_s=cues.onset_s + 1)
    with pytest.raises(UserError, match="not those of the simulation"):
        planted_events.events(truth, tmp_path, study.tolerance)


def test_the_table_of_naps(tmp_path):
    night = {
        "true": 30, "hits": 10, "right_item": 8, "found": 20, "minutes": 50.0, "recall_by_accident": 0.02,
        "false_per_min": 0.2,
    }  # fmt: skip
    relation = {"mean_rho": 0.5, "p": 0.01, "n": 2}
    own = {"nights": {"a": night, "b": night}, "relation": relation,
           "relation_to_planted": {"mean_rho": None, "p": None, "n": 0}}  # fmt: skip
    (*_, line) = planted_tables.nap_table({"naps_1": {"shuffled phases": own}})
    assert line == (
        "| naps_1, 2 of 50 min | shuffled phases | 0.40 | 60, 20 | 16 | 2% | 0.20, 0.20 | 0.50 (0.0100) | - |"
    )


def test_without_a_decoder_it_says_where_one_comes_from(tmp_path, study):
    other = study.model_copy(
        update={"decoder": planted_events.Decoder(network="N23SIMD", checkpoint="results/none/none.npz")}
    )
    with pytest.raises(UserError, match="make simulated-benchmark"):
        planted_events.measure(other, tmp_path, "naps")
    assert not list(tmp_path.iterdir())


def test_a_part_keeps_what_the_other_found(tmp_path, study, monkeypatch):
    monkeypatch.setattr(planted_events, "simulated", lambda *_: (tmp_path, tmp_path))
    kept = {"settings": study.model_dump(mode="json"), "simulated": True, "naps": {}}
    (tmp_path / "summary.json").write_text(json.dumps(kept))
    planted_events.measure(study, tmp_path, "cued")
    assert {"naps", "cued"} <= set(json.loads((tmp_path / "summary.json").read_text()))


def test_what_a_decoder_said_is_kept_for_the_same_settings(tmp_path):
    from sleep_interpreter.train.evaluation.sliding_decoder import Course

    made = []

    def make():
        made.append(1)
        n = len(made)
        return Course(np.arange(n), np.ones(n, int), np.ones(n, int), np.ones((n, 15)), np.ones(n, bool))

    path = tmp_path / "courses" / "night.npz"
    first = planted_events.kept(path, make, "a")
    again = planted_events.kept(path, make, "a")
    assert len(made) == 1 and all(np.array_equal(vars(first)[k], vars(again)[k]) for k in vars(first))
    assert len(planted_events.kept(path, make, "b").time) == 2  # other settings: decoded anew
