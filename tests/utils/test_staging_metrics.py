"""Agreement, latency, reliability, gates and stitching: by hand, and against YASA's own tools."""

import warnings

import numpy as np
import pandas as pd
import pytest
import yasa
from sklearn import metrics

from benchmarks.statistics import reactivation as studies
from sleep_interpreter.data.formats.hypnograms import night_statistics, to_yasa
from sleep_interpreter.train.evaluation import staging_agreement
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.constants import UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.metrics import staging_metrics
from sleep_interpreter.utils.metrics.reliability import nrem_reliability
from sleep_interpreter.utils.staging import gate_tradeoff
from sleep_interpreter.utils.staging.replay import Estimates, stages, stitched
from sleep_interpreter.utils.staging.settings import GateSettings


def two_scorers(n=400, seed=0, right=0.8):
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, 4, n // 10), 10)
    return truth, np.where(random.random(n) < right, truth, random.integers(0, 4, n))


def estimates(codes, every=3.0, first=30.0, sure=1.0):
    """Estimates that name these stages (None: unknown), one every few seconds."""
    rows = [np.full(4, np.nan) if c is None else np.full(4, (1 - sure) / 3) for c in codes]
    for row, code in zip(rows, codes, strict=True):
        if code is not None:
            row[code] = sure
    reasons = ["EEG is flat" if c is None else None for c in codes]
    return Estimates(first + every * np.arange(len(codes)), np.array(rows).reshape(-1, 4), reasons)


def test_agreement_is_scikit_learns_and_yasas():
    truth, found = two_scorers()
    row = staging_metrics.agreement(staging_metrics.confusion(truth, found))
    assert row["accuracy"] == pytest.approx(metrics.accuracy_score(truth, found))
    assert row["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, found))
    assert row["macro_f1"] == pytest.approx(metrics.f1_score(truth, found, average="macro"))
    theirs = metrics.precision_recall_fscore_support(truth, found)
    for key, values in zip(("precision", "recall", "f1", "n"), theirs, strict=True):
        assert [stage[key] for stage in row["stages"].values()] == pytest.approx(list(values))
    assert row["chance"] == pytest.approx(sum(np.mean(truth == code) * np.mean(found == code) for code in range(4)))


def test_epoch_agreement_is_yasas():
    """Over all epochs and as a mean over nights, one of which has no kappa."""
    reference = {f"s{i}": two_scorers(seed=i)[0] for i in range(3)} | {"awake": np.zeros(20, int)}
    observed = {f"s{i}": two_scorers(seed=i)[1] for i in range(3)} | {"awake": np.zeros(20, int)}
    ours = staging_agreement.epoch_agreement(reference, observed, ("expert", "stager"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compared = yasa.EpochByEpochAgreement(
            {n: to_yasa(codes, "expert") for n, codes in reference.items()},
            {n: to_yasa(codes, "stager") for n, codes in observed.items()},
        )
        pooled, mean = compared.get_agreement(pooled=True), compared.get_agreement().mean()
    assert ours["epochs"] == len(compared.data) and ours["nights"] == 4
    for own, theirs in ((ours["pooled"], pooled), (ours["mean"], mean)):
        for measure, value in own.items():
            whole = 1 if measure in ("kappa", "mcc") else 100
            assert value == pytest.approx(theirs[measure] / whole), measure


@pytest.mark.parametrize("code", [4, 5, -2, 7.0, 1.5, float("nan"), "N2"])
def test_codes_that_are_no_stage_are_refused(code):
    """AASM codes (0 W to 4 R) among others: the epochs of one stage were left out without a word."""
    truth = np.array([0, 1, 2, 3, 3, code] if not isinstance(code, str) else ["0", "1", code])
    good = np.zeros(len(truth), int)
    with pytest.raises(UserError) as error:
        staging_agreement.epoch_agreement({"n1": good}, {"n1": truth}, ("expert", "my stager"))
    assert "my stager, night n1" in str(error.value) and "no stage" in str(error.value) and "3 R" in str(error.value)
    for function in (
        lambda: staging_metrics.confusion(truth, good),
        lambda: staging_metrics.onset_latencies(np.arange(3.0), np.zeros(3, int), truth),
        lambda: nrem_reliability(np.full((len(truth), 4), 0.25), truth, 5),
        lambda: staging_agreement.bland_altman({"n1": truth}, {"n1": good}),
    ):
        with pytest.raises(UserError, match="no stage"):
            function()


def test_nights_that_do_not_match_are_refused():
    night = np.zeros(8, int)
    with pytest.raises(UserError, match="night a: 8 epochs of x, 7 of y"):
        staging_agreement.epoch_agreement({"a": night}, {"a": night[:7]}, ("x", "y"))
    for one, other in (({"a": night, "b": night}, {"a": night}), ({"a": night}, {"a": night, "b": night})):
        with pytest.raises(UserError, match="'b' was scored by one of them alone"):
            staging_agreement.epoch_agreement(one, other, ("x", "y"))


def test_kappa_of_known_tables():
    """By hand, and scikit-learn's; a stack of tables gives one value each."""
    tables = np.random.default_rng(0).integers(0, 9, (3, 5, 5))
    assert staging_metrics.cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert np.isnan(staging_metrics.cohen_kappa([[5, 0], [0, 0]]))
    for table, kappa in zip(tables, staging_metrics.cohen_kappa(tables), strict=True):
        truth, found = (np.repeat(codes.ravel(), table.ravel()) for codes in np.indices((5, 5)))
        assert kappa == pytest.approx(metrics.cohen_kappa_score(truth, found))


def test_agreement_of_scorers_has_an_interval_and_chance_beside_it():
    truth, found = two_scorers()
    row = staging_agreement.agreement({"a": truth}, {"a": found}, ("expert", "YASA"), 10)
    low, high = row["interval"]["accuracy"]
    assert low < row["pooled"]["accuracy"] < high and 0 < row["chance"] < 1
    assert np.sum(row["confusion"]) == row["epochs"] == len(truth)
    unknown = {"a": np.full(len(truth), UNKNOWN)}
    nothing = staging_agreement.agreement({"a": truth}, unknown, ("expert", "YASA"), 10)
    assert nothing["pooled"] is None and nothing["interval"]["accuracy"] is None


def test_missing_stages_and_all_wake():
    """Nothing to divide by is None, never a crash or a NaN in a file."""
    awake = np.zeros(20, int)
    row = staging_metrics.agreement(staging_metrics.confusion(awake, awake))
    assert row["accuracy"] == 1 and row["kappa"] is None and row["macro_f1"] == 1
    assert row["stages"]["N3"] == {"n": 0, "precision": None, "recall": None, "f1": None}
    found = staging_agreement.epoch_agreement({"a": awake}, {"a": awake}, ("expert", "stager"))
    assert found["pooled"]["kappa"] is None
    nothing = staging_agreement.epoch_agreement({"a": awake}, {"a": np.full(20, UNKNOWN)}, ("expert", "stager"))
    assert nothing["epochs"] == 0 and nothing["nights_left_out"] == ["a"]
    empty = staging_metrics.agreement(np.zeros((4, 4)))
    assert empty["n"] == 0 and empty["accuracy"] is None


def test_unknown_is_left_out():
    counts = staging_metrics.confusion([0, 1, 2, 3], [0, UNKNOWN, 2, 1])
    assert counts.sum() == 3 and np.trace(counts) == 2


def test_intervals_cover_and_know_their_limits():
    tables = []
    for seed, right in enumerate((0.9, 0.7, 0.5)):
        tables.append(staging_metrics.blocks(*two_scorers(seed=seed, right=right), 20))
    pooled = staging_metrics.agreement(sum(t.sum(axis=0) for t in tables))
    wide = staging_metrics.intervals(tables)
    narrow = staging_metrics.intervals([np.concatenate(tables)])
    for measure in staging_metrics.MEASURES:
        low, high = wide[measure]
        assert low < pooled[measure] < high
        assert high - low > 1.5 * (narrow[measure][1] - narrow[measure][0]), "subjects differ"
    one = [staging_metrics.blocks([0, 1], [0, 1], 20)]
    assert staging_metrics.intervals(one)["accuracy"] is None


@pytest.mark.parametrize("nights", [2, 3, 5])
def test_intervals_of_few_nights_cover_the_next_sleeper(nights):
    """Nights whose true agreement varies; percentiles of nights drawn anew covered .82 to .92."""
    random, covered = np.random.default_rng(3), 0
    for _ in range(150):
        right = random.beta(16, 4, size=nights)
        tables = [
            staging_metrics.blocks(*two_scorers(400, random.integers(2**31), (r - 0.25) / 0.75), 20) for r in right
        ]
        low, high = staging_metrics.intervals(tables)["accuracy"]
        covered += low <= 0.8 <= high
    assert covered >= 135  # 142 expected; fewer in 1 of 1000


def test_published_grid_pads_the_last_nine():
    truth, found = staging_metrics.published_grid(np.arange(11) % 4, [0, 2])
    assert truth.tolist() == [0] * 10 + [2] * 10
    assert found.tolist() == [*(np.arange(11) % 4), *[2] * 9]


def test_windows_that_cover_epochs():
    every3, every5 = estimates([0] * 21), estimates([0] * 13, every=5)
    assert staging_metrics.at_epochs(every3.seconds, 4).tolist() == [0, 10, 20, -1]
    assert staging_metrics.at_epochs(every5.seconds, 3).tolist() == [0, 6, 12]


def test_latency_by_hand():
    """W for a minute, N2 for a minute, R for half a minute; the stager follows N2 after 12 s and R never."""
    epochs = [0, 0, 1, 1, 3]
    seconds = 30 + 3.0 * np.arange(41)
    found = np.where(seconds < 72, 0, 1)
    rows = staging_metrics.onset_latencies(seconds, found, epochs)
    assert [(r["at"], r["from"], r["to"], r["latency"]) for r in rows] == [
        (60.0, "W/N1", "N2", 12.0),
        (120.0, "N2", "R", None),
    ]
    summary = staging_metrics.latency_summary(rows)
    assert (summary["n"], summary["followed"], summary["mean"], summary["p90"]) == (2, 1, 12, 12)
    early = staging_metrics.onset_latencies(seconds, np.where(seconds < 40, 0, 1), epochs)
    assert early[0]["early"] and early[0]["latency"] is None, "said so before it was so: nothing followed"
    assert staging_metrics.latency_summary(early)["early"] == 1
    assert staging_metrics.onset_latencies(seconds, found, [0, 0, 0, 0]) == []


def test_smoothing_costs_latency():
    """SPEC: p = 0.9 old + 0.1 new; from certainty the new stage leads after 7 steps."""
    codes = estimates([0] * 20 + [1] * 20)
    weights = {weight: stages(codes.smoothed(weight)).tolist().index(1) for weight in (1.0, 0.5, 0.2, 0.1)}
    assert weights == {1.0: 20, 0.5: 21, 0.2: 23, 0.1: 26}
    gap = estimates([0, None, 1]).smoothed(0.1)
    assert stages(gap).tolist() == [0, UNKNOWN, 1], "after unknown it begins anew"


def test_reliability_by_hand():
    probability = np.array([[0.9, 0.1, 0, 0]] * 10 + [[0.2, 0.4, 0.4, 0]] * 10 + [[np.nan] * 4])
    truth = np.array([0] * 9 + [1] + [1] * 6 + [3] * 4 + [0])
    found = nrem_reliability(probability, truth, 10)
    bins = [row for row in found["bins"] if row["n"]]
    assert [(row["n"], row["probability"], row["share"]) for row in bins] == [
        (10, pytest.approx(0.1), 0.1),
        (10, pytest.approx(0.8), 0.6),
    ]
    assert found["n"] == 20 and found["ece"] == pytest.approx(0.1)
    assert nrem_reliability(probability[-1:], truth[-1:], 10)["ece"] is None


def test_bland_altman_is_yasas():
    reference = {f"s{i}": two_scorers(seed=i)[0] for i in range(5)}
    observed = {f"s{i}": two_scorers(seed=i)[1] for i in range(5)}
    ours = staging_agreement.bland_altman(reference, observed)
    tables = [
        pd.DataFrame({n: night_statistics(to_yasa(codes)) for n, codes in scored.items()})
        .T[["TST", "N2"]]
        .rename_axis("sleep_id")
        for scored in (reference, observed)
    ]
    theirs = yasa.SleepStatsAgreement(*tables, bootstrap_kwargs={"n_resamples": 20}).summary(ci_method="param")
    for key in ("TST", "N2"):
        for ours_key, column in (("bias", "bias_mean"), ("loa_low", "loa_lower"), ("loa_high", "loa_upper")):
            assert ours[key][ours_key] == pytest.approx(theirs.loc[key, (column, "center")])
    assert ours["TIB"]["bias"] == 0
    two = {name: reference[name] for name in ("s0", "s1")}
    assert staging_agreement.bland_altman(two, two)["TST"]["loa_low"] is None, "too few nights for limits"


def test_stagers_that_err_as_often_differ_in_no_more_than_a_twentieth():
    evaluate = config.load(Experiment, "SIStaging", quick=True).evaluate.model_copy(update={"permutations": 300})

    def p(rng, nights, measure):
        found = studies.staged_nights(rng, nights, 200)
        return staging_agreement.paired_scorers(*found.values(), ("stager", "YASA"), evaluate)[measure]["sign_flip_p"]

    for nights, measure in ((6, "accuracy"), (8, "kappa"), (12, "macro_f1")):
        share = studies.share_below(lambda rng, n=nights, m=measure: p(rng, n, m), 120, 3)
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120), (nights, measure)


def test_a_better_stager_is_found_over_the_epochs_that_all_know():
    evaluate = config.load(Experiment, "SIStaging", quick=True).evaluate
    found = studies.staged_nights(np.random.default_rng(1), 8)
    better = {night: np.where(np.arange(len(codes)) % 2, found["expert"][night], codes)
              for night, codes in found["stager"].items()}  # fmt: skip
    better["n7"] = np.full(len(better["n7"]), UNKNOWN)
    found["YASA"]["n0"] = np.where(np.arange(len(better["n0"])) < 100, UNKNOWN, found["YASA"]["n0"])
    row = staging_agreement.paired_scorers(found["expert"], better, found["YASA"], ("ours", "YASA"), evaluate)
    assert row["nights_left_out"] == ["n7"] and row["epochs"] == 7 * 900 - 100
    for measure in staging_metrics.MEASURES:
        assert row[measure]["n"] == 7 and row[measure]["sign_flip_p"] == pytest.approx(2 / 2**7)
        assert row[measure]["low"] > 0
    one = {"n0": found["expert"]["n0"]}
    few = staging_agreement.paired_scorers(one, better, found["YASA"], ("ours", "YASA"), evaluate)["kappa"]
    assert few["sign_flip_p"] is None and few["low"] is None and "1 subject, 6 are needed" in few["note"]


def test_what_was_not_staged_is_no_wakefulness():
    """Half of a night unknown, the other half right: no bias. A night unknown throughout does not count."""
    nights = {"a": np.array([0, 0, 1, 1, 2, 2, 3, 3]), "b": np.array([0, 1, 1, 1])}
    partly = {"a": np.r_[[UNKNOWN] * 4, nights["a"][4:]], "b": np.full(4, UNKNOWN)}
    found = staging_agreement.bland_altman(nights, partly)
    assert found["TST"]["n"] == 1 and found["TST"]["difference"] == [0]
    assert found["SE"]["difference"] == [0] and found["SE"]["mean"] == [100]
    assert staging_agreement.bland_altman(nights, {"a": partly["b"][[0] * 8], "b": partly["b"]})["TST"]["n"] == 0


def test_gate_study_by_hand():
    """Open from 63 to 123 s: 63 of 120 s of N2 are missed, and 3 s of W could be cued."""
    epochs = np.array([1, 1, 1, 1, 0, 0])
    codes = [0] * 10 + [1] * 21 + [0] * 20
    night = gate_tradeoff.ScoredNight("a", estimates(codes), epochs)
    settings = GateSettings(smoothing=1.0, nrem_detections=2, nrem_probability=0.9)
    opened, total = gate_tradeoff.open_seconds(night, settings)
    assert total.tolist() == [60, 120, 0, 0]
    assert opened.tolist() == [3, 57, 0, 0]
    row = gate_tradeoff.outcome(opened, total)
    assert row["false_share"] == pytest.approx(3 / 60)
    assert row["missed_share"] == pytest.approx(63 / 120)
    assert row["false_minutes_per_hour"] == pytest.approx(1.0)
    rows = gate_tradeoff.sweep([night, night], settings, (0.5, 0.9), (2, 30))
    assert [(r["threshold"], r["detections"], r["nights"]) for r in rows] == [
        (0.5, 2, 2), (0.5, 30, 2), (0.9, 2, 2), (0.9, 30, 2),
    ]  # fmt: skip
    assert rows[1]["false_share"] is None and rows[1]["missed_share"] == 1 and rows[1]["run_seconds"] == 90
    assert rows[0]["each"] == [[row["false_share"], row["missed_share"]]] * 2
    lines = gate_tradeoff.table(rows, "a stager")
    assert "5.0 / 52.5" in lines[2] and "- / 100.0" in lines[2]


def test_a_night_without_sleep_has_a_gate_too():
    night = gate_tradeoff.ScoredNight("awake", estimates([0] * 20), np.zeros(3, int))
    row = gate_tradeoff.sweep([night], GateSettings(), (0.8,), (30,))[0]
    assert row["missed_share"] is None and row["false_share"] is None and row["open_minutes"] == 0


def test_stitching_windows():
    """Windows scaled one by one become one recording again, up to one scale a channel."""
    random = np.random.default_rng(5)
    n = 15000 + 1500 * 19
    envelope = 1 + 0.8 * np.sin(np.arange(n) / 9000)
    signal = np.cumsum(random.standard_normal((3, n)), axis=1) * 0.1 + random.standard_normal((3, n))
    signal = (signal - signal.mean(axis=1, keepdims=True)) * envelope
    cut = [signal[:, 1500 * k : 1500 * k + 15000] for k in range(20)]
    windows = np.stack([(w - w.mean(axis=1, keepdims=True)) / w.std(axis=1, keepdims=True) for w in cut])
    found = stitched(windows.astype(np.float32), (25, 40, 10))
    assert found.shape == signal.shape
    for ours, true in zip(found, signal, strict=True):
        assert np.corrcoef(ours, true)[0, 1] > 0.99999
    assert np.median([found[0, 1500 * k : 1500 * k + 15000].std() for k in range(20)]) == pytest.approx(25, rel=1e-3)
    windows[8, 1, 700] = np.nan
    with_gap = stitched(windows.astype(np.float32), (25, 40, 10))
    assert np.isfinite(with_gap).all(), "its neighbours cover the time"
    windows[5:18, 1] = np.nan
    assert np.isnan(stitched(windows.astype(np.float32), (25, 40, 10))[1]).any()
