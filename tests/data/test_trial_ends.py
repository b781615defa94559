"""Trials of unequal length on disk: simulated, prepared, read, refused, counted."""

import numpy as np
import own_data as own
import pytest
import recordings
import yaml

from sleep_interpreter.data.formats.single_trials import read_subject
from sleep_interpreter.data.formats.slow_oscillation_trials import read_so_groups
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.data.inventory.text import summary_lines
from sleep_interpreter.utils.core.data_card import FILE, DataCard, card_of, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle
from sleep_interpreter.utils.signal.preprocessing import decimation_of, decoding_window
from sleep_interpreter.utils.signal.recording import Recording
from sleep_interpreter.utils.signal.trial_ends import not_finite, valid_lengths
from tests.data.test_own_data_sets import make_card, prepared, simulated

WINDOWS = {"sleep": {"begin": -0.25, "end": 1.0, "earliest_end": 0.75}, "wake": {"begin": 0, "end": 1}}


def varying(**changes):
    """Return a card of 2 items and 8 channels at 128 Hz, trials of 128 to 160 samples."""
    tree = make_card(reference="average", awake_per_sleep=3).model_dump(mode="json")
    return DataCard.model_validate({**tree, "windows": WINDOWS, **changes})


def fixed(root):
    """Let the card of a folder say that all trials are of one length."""
    tree = yaml.safe_load((root / FILE).read_text())
    del tree["windows"]["sleep"]["earliest_end"]
    (root / FILE).write_text(yaml.safe_dump(tree))


def test_a_card_says_where_trials_may_end():
    card = varying()
    assert (card.sleep_samples, card.shortest_samples, card.windows.sleep.span) == (160, 128, "-0.25 to 0.75-1 s")
    assert card.fingerprint != varying(windows={**WINDOWS, "sleep": {"begin": -0.25, "end": 1}}).fingerprint
    cut = card.cut_to_shortest()
    assert not cut.varying_lengths and cut.sleep_samples == 128 and cut.windows.sleep.end == 0.75
    assert published().cut_to_shortest() is published() and "earliest_end" not in str(published().model_dump())
    for windows, words in (
        ({"sleep": {"begin": 0.1, "end": 1, "earliest_end": 0.05}}, "a trial ends after its onset and after"),
        ({"sleep": {"begin": 0, "end": 1, "earliest_end": 1}}, "before end \\(1\\); leave it out"),
        ({"sleep": {"begin": 0, "end": 1, "earliest_end": 0.77}}, "0.77 s is no whole number of samples at 128"),
        ({"wake": {"begin": 0, "end": 1, "earliest_end": 0.5}}, "earliest_end is for sleep trials"),
    ):
        with pytest.raises(ValueError, match=words):
            varying(windows={**WINDOWS, **windows})


def test_ends_are_read_off_nan_in_all_channels():
    trials = np.zeros((4, 5, 2))
    trials[1, 3:], trials[2, 1:3], trials[3, 2:, 0] = np.nan, np.nan, np.nan
    assert valid_lengths(trials).tolist() == [5, 3, 5, 5]
    assert not_finite(trials).any(axis=(1, 2)).tolist() == [False, False, True, True]
    assert not_finite(trials, varying=False).any(axis=(1, 2)).tolist() == [False, True, True, True]
    trials[0] = np.nan
    assert not_finite(trials)[0].all() and valid_lengths(trials)[0] == 0


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated") / "data"
    simulated(varying(), root)
    return root


def test_simulated_trials_end_between_the_earliest_end_and_the_end(simulation):
    trials = TrainingTrials(simulation)
    (test,) = read_test_subjects(simulation, awake=True)
    (before,) = read_test_subjects(simulation, window="precue")
    single = read_subject(simulation / "SI Main Train" / "subject_0" / "Whole_data.pickle")
    sleep = [next(trials.batches(4, 0, 0))["sleep"], test.sleep, before.sleep, single.domains["REM"].eeg]
    sleep += [eeg for eeg, _ in read_so_groups(simulation)[0].groups.values()]
    found = np.concatenate([valid_lengths(eeg) for eeg in sleep])
    assert found.min() >= 128 and found.max() <= 160 and len(set(found)) > 5
    assert not any(not_finite(eeg).any() for eeg in sleep) and np.isfinite(test.image).all()
    np.testing.assert_array_equal(valid_lengths(before.sleep), valid_lengths(test.sleep))
    for trial in test.sleep:  # scaled by its own samples alone
        low, middle, high = np.nanpercentile(trial, [25, 50, 75], axis=0)
        np.testing.assert_allclose([middle, high - low], [[0] * 8, [1] * 8], atol=1e-5)


def test_check_says_where_trials_end(simulation):
    found = survey_folder(simulation)
    assert found.problems == [] and found.warnings is not None
    text = "\n".join(summary_lines(found))
    assert "sleep -0.25 to 0.75-1 s (160 samples)" in text and "ends of sleep trials, s after the cue" in text
    row = next(line for line in text.split("ends of sleep trials")[1].splitlines() if "test_*/N2N3*" in line)
    numbers = [float(word) for word in row.split()[-6:]]
    assert 0.75 <= numbers[0] <= numbers[2] <= numbers[4] <= 1
    assert "ends of sleep trials" not in "\n".join(summary_lines(survey_folder(simulation, fast=True)))


def test_ends_are_refused_where_the_card_does_not_know_of_them(simulation, tmp_path):
    from shutil import copytree

    root = copytree(simulation, tmp_path / "data")
    fixed(root)
    words = r"ends after \d+ of 160 samples .*unequal length need windows.sleep.earliest_end in dataset.yaml"
    for read in (
        lambda: next(TrainingTrials(root).batches(4, 0, 0)),
        lambda: next(TrainingTrials(root, awake=False).batches(4, 0, 0)),
        lambda: TrainingTrials(root, "REM", awake=False),
        lambda: read_test_subjects(root),
        lambda: read_test_subjects(root, window="precue"),
        lambda: read_so_groups(root),
        lambda: read_subject(root / "SI Main Test" / "subject_test_0" / "Whole_data.pickle", ["N2N3"]),
    ):
        with pytest.raises(UserError, match=rf"(record|trial) \d+.*{words}"):
            read()
    assert sum("unequal length" in problem.reason for problem in survey_folder(root).problems) > 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda eeg: eeg[:, 40:50].fill(np.nan), r"trial 1, field 'Sleep_EEG': 80 of \d+ values are NaN or infinite"),
        (lambda eeg: eeg[3, 100:].fill(np.nan), r"trial 1, field 'Sleep_EEG': \d+ of \d+ values are NaN"),
        (lambda eeg: eeg[:, 90:].fill(np.nan), r"ends after 90 of 160 samples .*dataset.yaml says 128 at least"),
        (lambda eeg: eeg.fill(np.nan), r"1280 of 1280 values are NaN"),
        (
            lambda eeg: eeg[:, 130:].fill(0),
            r"trial 1, field 'Sleep_EEG': zeros in all channels at the end of the trial",
        ),
        (lambda eeg: eeg[:, 156:].fill(0), r"trial 1, field 'Sleep_EEG': (zeros in all channels|\d+ of 1280 values)"),
    ],
    ids=["a hole", "one channel", "too short", "nothing", "zeros", "a few zeros"],
)
def test_what_is_no_end_is_refused_by_file_and_trial(simulation, tmp_path, change, words):
    from shutil import copytree

    root = copytree(simulation, tmp_path / "data")
    path = root / "SI Main Test" / "subject_test_0" / "N2N3_data.pickle"
    trials = read_pickle(path)
    trials[1]["Sleep_EEG"] = np.array(trials[1]["Sleep_EEG"])
    change(trials[1]["Sleep_EEG"])
    write_pickle(trials, path)
    with pytest.raises(UserError, match=words):
        read_test_subjects(root)
    skipped = []
    assert len(read_test_subjects(root, skipped=skipped)[0]) == len(trials) - 1 and skipped[0]["record"] == 1


def jittered_night(card, folder, gaps):
    """Write a night whose cues come at these intervals in s, the first at 31 s; return their onsets as stored."""
    raw, _ = recordings.night(0, ["W", "N2", "N3", "R"], list(card.channels), 3.4, planted=False, words=card.item_names)
    kept = [k for k, text in enumerate(raw.annotations.description) if "cue/" not in text]
    stages = raw.annotations[kept]
    onsets = 31 + np.cumsum([0, *gaps])
    texts = [f"cue/{card.item_names[k % 2]}" for k in range(len(onsets))]
    raw.set_annotations(stages + type(stages)(onsets, [0.0] * len(onsets), texts, stages.orig_time))
    path = recordings.write(raw, folder / "lab" / "s0_night.vhdr")
    texts = zip(*(getattr(Recording(path).annotations, key) for key in ("onset", "description")), strict=True)
    return np.array([onset for onset, text in texts if "cue/" in text])


def test_a_prepared_trial_ends_at_the_next_cue(tmp_path):
    """Filters off: the samples of the recording up to there, through the function that a session uses."""
    card = varying(conditions=["N2N3"])
    gaps = np.round(np.random.default_rng(4).uniform(0.6, 1.3, 50) * 500) / 500
    onsets = jittered_night(card, tmp_path, gaps)
    gaps = np.diff(onsets)
    out, manifest, _ = prepared(card, tmp_path, base="prepare_realtime")
    assert card_of(out).windows == card.windows
    path = out / "SI Main Test" / "subject_test_0"
    own_trials, before = (read_pickle(path / name) for name in ("N2N3_data.pickle", "precue_N2N3_data.pickle"))
    ends = np.minimum(np.append(gaps, np.inf), 1.0)
    samples = np.floor((ends + 0.25) * 128 + 1e-6).astype(int)
    kept = np.flatnonzero(samples >= 128)
    assert len(own_trials) == len(before) == len(kept) < len(onsets) - 3
    cues = manifest["subjects"]["subject_test_0"]["sessions"]["night"]
    assert cues["trials"]["cue"]["next cue before the earliest end"] == len(onsets) - len(kept)
    assert not any("reach beyond the next event" in remark for remark in cues["remarks"])
    raw = Recording(tmp_path / "lab" / "s0_night.vhdr")
    data = np.concatenate([group.read(0, group.length) for group in raw.groups(card.channels)]) * 1e6
    for trial, early, k in zip(own_trials, before, kept, strict=True):
        at, count = round(onsets[k] * 500), int(samples[k] * 500 / 128)
        for stored, first in ((trial["Sleep_EEG"], at - 125), (early["Sleep_EEG"], at - count)):
            cut = data[:, first : first + count].astype(np.float32)
            expected = decoding_window(cut, decimation_of(card)).T
            assert np.isnan(stored[:, samples[k] :]).all()
            np.testing.assert_allclose(stored[:, : samples[k]], expected, atol=1e-5)
        assert at - 125 + count <= at + round(ends[k] * 500)
    assert survey_folder(out).problems == []


def test_the_same_night_without_the_setting_keeps_all_trials_and_says_so(tmp_path):
    card = varying(conditions=["N2N3"], windows={**WINDOWS, "sleep": {"begin": -0.25, "end": 1.0}})
    jittered_night(card, tmp_path, [0.7] * 40)
    out, manifest, _ = prepared(card, tmp_path, base="prepare_realtime")
    assert np.isfinite(read_test_subjects(out)[0].sleep).all()
    remarks = " ".join(manifest["subjects"]["subject_test_0"]["sessions"]["night"]["remarks"])
    assert "cue trials reach beyond the next event" in remarks and "windows.sleep.earliest_end" in remarks


def test_a_report_shows_the_mean_of_what_there_is(tmp_path):
    card = varying(conditions=["N2N3"])
    jittered_night(card, tmp_path, [0.8] * 40)  # no trial reaches the end of the window
    out, manifest, _ = prepared(card, tmp_path, "outputs.report=true", base="prepare_realtime")
    assert manifest["subjects"]["subject_test_0"]["status"] == "complete"
    assert (out / "Prepared" / "subject_test_0" / "report.html").stat().st_size > 10_000


def test_small_sets_of_tests_have_ends_too(tmp_path):
    card = own.card_of("pair", windows=own.VARYING)
    own.write(tmp_path, card, n=6)
    assert valid_lengths(read_test_subjects(tmp_path)[0].sleep).min() >= card.shortest_samples
