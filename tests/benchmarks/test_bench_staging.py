"""The stager's rows of `make bench`: what is compared with what, and the operations counted."""

import pytest

from benchmarks.speed import bench, bench_staging
from benchmarks.speed.bench import MEASUREMENTS, Table
from sleep_interpreter.model.SIStaging.settings import StagerSettings


def test_rows_and_their_targets(capsys):
    measured = {
        "staging-training": {"rate": 60.0, "first_step_seconds": 20.0, "windows": 12},
        "staging-prediction-1": {"rate": 50.0, "seconds": 0.1, "first": 2.0},
        "staging-prediction-6": {"rate": 80.0, "seconds": 0.5, "first": 3.6},
    }
    assert measured.keys() == bench_staging.MEASUREMENTS.keys() <= MEASUREMENTS.keys()
    table = Table()
    bench_staging.add_rows(table, lambda name: (measured[name], 100.0))
    ratios = {name: (row["ratio"], row["holds"]) for name, row in table.rows.items()}
    assert ratios["6 stagers against 1, time a window"] == (pytest.approx(5), True)
    assert ratios["6 stagers against 1, first call"] == (pytest.approx(1.8), False)
    assert ratios["train SIStaging, one member, B = 16"] == (pytest.approx(0.6), None)
    assert "NOT MET" in capsys.readouterr().out


def test_operations_of_a_window():
    """One branch, one filter, everything by hand."""
    small = StagerSettings(
        samples=100, channels=1, kernels=(5,), stride=10, branch_filters=1, block_filters=1, map_filters=7,
        series_filters=(1, 1, 1), pool_filters=(1, 1), lstm=1, dense=1,
    )  # fmt: skip
    branch = 10 * (5 * 1 * 1 + 10 + 3 * 5)
    maps = 1 * (10 * 10 + 20 * 7 + 4 * 9 * 7) * 7
    pooled = 1 * 7 * 1 + 3 * 3
    end = 5 + 4 * (1 + 1) + 1 + 4
    assert bench_staging.forward_gflop(small) == pytest.approx(2e-9 * (branch + maps + pooled + end))
    assert bench_staging.forward_gflop(StagerSettings()) == pytest.approx(1.65, abs=0.01)


def test_one_part_alone_measures_nothing_else(monkeypatch, capsys, tmp_path):
    asked = []

    def gives(name):
        asked.append(name)
        return {"rate": 60.0, "first_step_seconds": 20.0, "windows": 12, "seconds": 0.1, "first": 2.0}

    monkeypatch.setattr(bench, "measured", gives)
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    bench.main(["--only", "stager"])
    assert set(asked) == {"matmul", *bench_staging.MEASUREMENTS}
    assert "6 stagers against 1, first call" in capsys.readouterr().out and not list(tmp_path.iterdir())
