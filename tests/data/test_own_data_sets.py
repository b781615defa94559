"""Experiments other than the published one: simulated, prepared, read and checked by their data card."""

import json
import shutil

import numpy as np
import pytest
import recordings
import yaml

from sleep_interpreter.data.formats.single_trials import DOMAINS, read_subject
from sleep_interpreter.data.formats.slow_oscillation_trials import read_so_groups
from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.formats.training_trials import TrainingTrials
from sleep_interpreter.data.inventory.survey import survey_folder
from sleep_interpreter.data.inventory.text import summary_lines
from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.events import read_events
from sleep_interpreter.data.preparation.settings import load_settings as preparation
from sleep_interpreter.data.simulation.dataset import write_dataset
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.data.simulation.trials import staging_channel
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import FILE, DataCard, Filter, card_of, published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.safe_pickle import read_pickle, write_pickle
from sleep_interpreter.utils.signal.electrodes import standard_montage
from sleep_interpreter.utils.signal.preprocessing import decimation_of, decoding_window, stream_window
from sleep_interpreter.utils.signal.recording import Recording
from tests.data.conftest import TINY

EIGHT = ["F3", "F4", "Cz", "C3", "Pz", "P3", "O1", "O2"]
OLD_NAMES = {"T3", "T4", "T5", "T6", "M1", "M2", "A1", "A2"}
SMALLER = (
    *TINY, "cohort.train_subjects=1", "cohort.train_trials=4", "cohort.test_trials=5", "cohort.rem_trials=2",
    "cohort.so_trials=1", "cohort.awake_trials=1", "recording.stages=[[N2, 0.5]]",
    "night.hypnogram=[[W, 0.5], [N2, 0.5]]", "night.settled_s=0", "night.wake.repetitions=1",
)  # fmt: skip


def make_card(items=2, channels=8, rate=128, sleep=(-0.25, 0.75), wake=(0, 1), **more):
    """Return a card of so many items and channels."""
    if channels == 8:
        names = EIGHT
    else:
        names = [name for name in standard_montage().ch_names if name not in OLD_NAMES][:channels]
    windows = {key: {"begin": begin, "end": end} for key, (begin, end) in (("sleep", sleep), ("wake", wake))}
    words = [{"name": f"{k} word"} for k in range(items)]
    return DataCard(title="own", items=words, channels=names, rate_hz=rate, windows=windows, **more)


def write_card(card, path):
    config.save(card, path)
    return path


def simulated(card, folder, **options):
    settings = load_settings("test", SMALLER, write_card(card, folder.with_suffix(".yaml")))
    write_dataset(settings, folder, **options)
    return settings


LARGE = make_card(8, 32, 250, (-0.5, 2.5), (-0.2, 0.8), reference="average")
CARDS = {
    "2 items, 8 channels, 128 Hz, 1 s": make_card(reference="average", awake_per_sleep=3),
    "8 items, 32 channels, 250 Hz, 3 s": LARGE,
    "40 items, 128 channels, 100 Hz, 4 s, µV": make_card(
        40, 128, 100, (-1, 3), (0, 0.8), reference="mastoids", unit="uV"
    ),
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_simulated_experiment_has_the_shapes_of_its_card(card, tmp_path):
    settings = simulated(card, tmp_path / "data")
    root, channels = tmp_path / "data", len(card.channels)
    assert card_of(root) == settings.card and settings.card.fingerprint == card.fingerprint
    trials = TrainingTrials(root)
    batch = next(iter(trials.batches(4, 0, 0)))
    assert batch["sleep"].shape == (4, card.sleep_samples, channels) and batch["label"].shape == (4, len(card.items))
    assert batch["audio"].shape == (4, card.awake_samples, channels)
    for stage in ("N2N3", "REM"):
        (subject,) = read_test_subjects(root, stage, awake=True)
        assert subject.image.shape[1:] == (card.awake_per_sleep, card.awake_samples, channels)
        assert read_test_subjects(root, stage, window="precue")[0].sleep.shape == subject.sleep.shape
    assert len(read_so_groups(root)[0]) == 8
    single = read_subject(root / "SI Main Train" / "subject_0" / "Whole_data.pickle")
    assert [len(single.domains[name]) for name in DOMAINS] == [len(card.items), len(card.items), 4, 2]
    for values in (batch["sleep"], single.domains["image"].eeg):
        assert np.isfinite(values).all() and values.std(axis=(0, 1)).min() > 0.1
    manifest = json.loads((root / "simulation.json").read_text())
    assert manifest["planted"]["chance"] == 1 / len(card.items) and FILE in manifest["files"]
    assert (np.abs(batch["sleep"]).max() > 30) == (card.unit == "uV")
    found = survey_folder(root)
    assert found.problems == [] and not any("scaled" in warning for warning in found.warnings)
    text = "\n".join(summary_lines(found))
    assert f"{len(card.items)} items, {channels} channels, {card.rate_hz:g} Hz" in text


def test_raw_nights_and_the_recording_follow_the_card(tmp_path):
    card = make_card(conditions=["audio", "N2N3"], reference="average")
    settings = simulated(card, tmp_path / "data", bids=True)
    recording = Recording(tmp_path / "data" / "recordings" / "simulated_night.vhdr")
    assert recording.names[: len(EIGHT)] == EIGHT and len(recording.names) == len(EIGHT) + 6
    cues = {text.split("/")[-1] for text in recording.annotations.description if "cue/" in text}
    assert cues <= set(card.item_names)
    runs = [path.name for path in (tmp_path / "data" / "bids").rglob("*.vhdr")]
    assert runs and not any("task-image" in name for name in runs) and any("task-audio" in name for name in runs)
    assert "2 items" in (tmp_path / "data" / "bids" / "README").read_text()
    assert staging_channel(settings.card) == "C3"


@pytest.mark.parametrize("conditions", [("N2N3",), ("image", "audio"), ("image", "N2N3", "REM"), ("audio",)])
def test_some_conditions_alone_are_a_data_set(conditions, tmp_path):
    simulated(make_card(conditions=conditions, reference="average"), tmp_path / "data")
    found = survey_folder(tmp_path / "data")
    assert found.problems == [] and not any("no awake" in warning for warning in found.warnings)
    absent = {"image", "audio", "N2N3", "REM"} - set(conditions)
    assert not any("missing:" in line for line in summary_lines(found))
    with pytest.raises(UserError, match="the data card says that there are no trials of"):
        read_subject(next((tmp_path / "data").rglob("Whole_data.pickle")), absent, tmp_path / "data")
    if {"image", "N2N3"} <= set(conditions):
        (subject,) = read_test_subjects(tmp_path / "data", awake=True)
        assert subject.audio is None and len(subject.image) == 5


def test_a_card_that_says_something_else_is_a_problem_by_name(tmp_path):
    root = tmp_path / "data"
    simulated(make_card(reference="average"), root)
    tree = yaml.safe_load((root / FILE).read_text())
    (root / FILE).write_text(yaml.safe_dump(tree | {"conditions": ["image", "audio", "N2N3"]}))
    problems = survey_folder(root).problems
    assert all("the data card says that there are trials of image, audio, N2N3 only" in p.reason for p in problems)
    assert len(problems) == 4
    (root / FILE).write_text(yaml.safe_dump(tree | {"channels": EIGHT[:-1]}))
    reasons = [problem.reason for problem in survey_folder(root).problems]
    expected = "expected shape (7, 128), found (8, 128); dataset.yaml says 2 items, 7 channels, 128 samples asleep"
    assert all(reason.startswith(expected) for reason in reasons if "(8, 128)" in reason and "(3, " not in reason[:19])
    assert sum(expected in reason for reason in reasons) > 10
    (root / FILE).unlink()
    assert any("without a dataset.yaml in its folder" in problem.reason for problem in survey_folder(root).problems)


def test_sleep_trials_without_awake_ones_are_remarked_on_once(tmp_path):
    root = tmp_path / "data"
    simulated(make_card(reference="average"), root)
    path = root / "SI Main Test" / "subject_test_0" / "N2N3_data.pickle"
    trials = read_pickle(path)
    alone = [{key: value for key, value in trial.items() if "awake" not in key} for trial in trials]
    write_pickle(alone, path)
    found = survey_folder(root)
    assert found.problems == [] and sum("no awake trials" in warning for warning in found.warnings) == 1
    write_pickle([*alone[:2], *trials[2:]], path)
    (problem,) = survey_folder(root).problems
    assert problem.reason == "2 of 5 trials have no awake trials, the others do"


def test_settings_and_card_that_disagree_are_refused(tmp_path):
    card = write_card(LARGE, tmp_path / "own.yaml")
    assert load_settings("test", card=card).head.montage == LARGE.channels
    assert load_settings("test", ["head.montage=[Cz, Pz]"]).card.channels == ("Cz", "Pz")
    for changes, words in (
        ({"rate_hz": 1000}, "no higher rate"),
        ({"reference": "linked ears"}, "simulated are average and mastoids"),
        ({"channels": ["Cz", "EOG1"]}, "the simulator adds M1"),
    ):
        tree = LARGE.model_dump(mode="json") | changes
        (tmp_path / "other.yaml").write_text(yaml.safe_dump(tree))
        with pytest.raises(UserError, match=words):
            load_settings("test", card=tmp_path / "other.yaml")
    with pytest.raises(UserError, match="channels differ"):
        load_settings("test", ["head.montage=[Cz, Pz]"], card)
    with pytest.raises(UserError, match="2 factors for 8 items"):
        load_settings("test", ["memory.item_strength=[1, 1]"], card)
    assert "card" not in load_settings("test").model_dump()


def prepared(card, folder, *more, base=None):
    """Prepare a night and a wake recording with the items and channels of a card."""
    lab = folder / "lab"
    if not lab.is_dir():
        words, names = card.item_names, list(card.channels)
        night, _ = recordings.night(0, ["W", "N2", "N3", "R"], names, 3.4, planted=False, words=words)
        recordings.write(night, lab / "s0_night.vhdr")
        recordings.write(recordings.wake(0, 2, names, blinks=False, words=words), lab / "s0_wake_raw.fif")
    path = json.dumps(str(write_card(card, folder / "own.yaml")))
    options = [
        r"recordings.pattern=(?P<subject>s\d)_(?P<session>wake|night)", "split.test=[s0]", "outputs.report=false",
        "steps.ica.method=none", "steps.bad_channels.method=none", "stages.windows=false", f"card={path}", *more,
    ]  # fmt: skip
    settings = preparation(base, options)
    manifest = prepare_run.prepare(inputs.find_recordings(str(lab / "s*"), settings), settings, folder / "out")
    return folder / "out", manifest, settings


@pytest.mark.parametrize("card", list(CARDS.values())[:2], ids=list(CARDS)[:2])
def test_a_prepared_experiment_has_the_shapes_of_its_card(card, tmp_path):
    out, manifest, settings = prepared(card, tmp_path)
    assert manifest["subjects"]["subject_test_0"]["status"] == "complete"
    stored = card_of(out)
    assert stored == settings.card and stored.filter == Filter(low_hz=0.1, high_hz=50, line_hz=50)
    assert (stored.item_names, stored.channels) == (card.item_names, card.channels)
    for stage in ("N2N3", "REM"):
        (subject,) = read_test_subjects(out, stage, awake=True)
        assert subject.sleep.shape[1:] == (card.sleep_samples, len(card.channels))
        assert subject.audio.shape[1:] == (card.awake_per_sleep, card.awake_samples, len(card.channels))
    assert len(read_test_subjects(out, window="precue")[0]) > 10
    assert survey_folder(out).problems == []


def test_prepared_trials_are_cut_where_the_card_says(tmp_path):
    """Filters off: the samples of the recording, through the function that a session uses."""
    card = make_card(reference="average")
    out, _, settings = prepared(card, tmp_path, base="prepare_realtime")
    own = read_pickle(out / "SI Main Test" / "subject_test_0" / "Whole_data.pickle")["N2N3"]
    raw = Recording(tmp_path / "lab" / "s0_night.vhdr")
    data = np.concatenate([group.read(0, group.length) for group in raw.groups(EIGHT)]) * 1e6
    first, end = stream_window(card.windows.sleep)
    assert (first, end, decimation_of(card)) == (-125, 375, 500 / 128)
    texts = zip(raw.annotations.onset, raw.annotations.description, strict=True)
    cues = [(t, text.split("/")[-1]) for t, text in texts if "cue/" in text and 30 <= t < 90]
    assert len(own) == len(cues) > 10
    for trial, (onset, word) in zip(own, cues, strict=True):
        at = round(onset * 500)
        expected = decoding_window(data[:, at + first : at + end].astype(np.float32), decimation_of(card)).T
        assert card.item_names[trial["category"].argmax()] == word
        assert np.allclose(trial["EEG"], expected, atol=1e-5)
    assert settings.card.filter == Filter()


def test_conditions_of_the_card_are_those_that_are_prepared(tmp_path):
    card = make_card(conditions=["N2N3"])
    with pytest.raises(UserError, match="other settings"):
        shutil.copytree(prepared(make_card(), tmp_path)[0], tmp_path / "first")
        prepared(card, tmp_path)
    shutil.rmtree(tmp_path / "out")
    wake = tmp_path / "lab" / "s0_wake_raw.fif"
    _, manifest, _ = prepared(card, tmp_path)
    assert "is of modality 'image', but the data card has trials of N2N3 only" in str(manifest["subjects"])
    wake.unlink()
    shutil.rmtree(tmp_path / "out")
    out, manifest, _ = prepared(card, tmp_path)
    assert set(read_pickle(out / "SI Main Test" / "subject_test_0" / "Whole_data.pickle")) == {"N2N3"}
    trials = manifest["subjects"]["subject_test_0"]["sessions"]["night"]["trials"]["cue"]
    assert trials["in REM, which the data card has no trials of"] > 0
    total, rem = trials["events"], trials["in REM, which the data card has no trials of"]
    account = f"{total} cues: {trials['kept']} kept; "
    (line,) = [line for line in prepare_run.summary_lines(manifest, out) if account in line]
    assert line.startswith("  note, night: ") and f"; in REM, which the data card has no trials of: {rem}" in line
    assert survey_folder(out).problems == []


def test_the_card_and_the_steps_agree(tmp_path):
    own = LARGE.model_dump(mode="json")
    for changes, words in (
        ({"reference": "REST"}, "steps.reference is average, but the card says REST"),
        ({"filter": {"low_hz": 1}}, "the steps filter by 0.1 to 50.0 Hz, mains 50.0, but the card says 1.0 to None"),
        ({"rate_hz": 1000}, "no higher rate"),
    ):
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(own | changes))
        with pytest.raises(UserError, match=words):
            preparation(None, [f"card={tmp_path / 'own.yaml'}"])
    write_card(LARGE, tmp_path / "own.yaml")
    with pytest.raises(UserError, match=r"channels.montage is not that of the card"):
        preparation(None, [f"card={tmp_path / 'own.yaml'}", "channels.montage=[Cz]"])
    with pytest.raises(UserError, match=r"events.items.bike: unknown item 'watch'"):
        preparation(None, [f"card={tmp_path / 'own.yaml'}", "events.items={bike: watch}"])
    assert preparation().card == published() and "card" not in preparation().model_dump()
    assert preparation(None, ["steps.reference=mastoids"]).card.reference == "mastoids"


TABLE = "code;item;modality;session;run\n11;kiwi;image;;\n11;apple;cue;night;\n12;watch;cue;night;2\n99;;ignore;;\n"


def test_a_table_of_triggers_says_what_codes_mean_by_session_and_run(tmp_path):
    raw, _ = recordings.night(0, ["N2"] * 2, ["Cz"], planted=False)
    events = ["Stimulus/S 11", "Stimulus/S 12", "Stimulus/S 99", "Stimulus/S 13"]
    raw.set_annotations(type(raw.annotations)([1.0, 2.0, 3.0, 4.0], [0.0] * 4, events))
    path = recordings.write(raw, tmp_path / "s0_raw.fif")
    (tmp_path / "triggers.csv").write_text(TABLE)
    settings = preparation(None, [f"events.table={tmp_path / 'triggers.csv'}"])
    found = {}
    for name, run in (("wake", None), ("night", "01"), ("Night", "02")):
        session = inputs.Session(name, "sleep", path, names=(name,), run=run)
        recording = Recording(path)
        table, unknown = read_events(session, recording, recording.annotations, settings.events, card=settings.card)
        found[run] = list(zip(table["item"], table["modality"], strict=True))
        assert unknown["Stimulus/S 13"] == 1 and ("Stimulus/S 12" in unknown) == (run != "02")
    assert found == {
        None: [("kiwi", "image")],
        "01": [("apple", "cue")],  # the night's own row goes before that of any session
        "02": [("apple", "cue"), ("watch", "cue")],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("code,item,modality\n1,kiwi,cue\n2,kiwwi,cue\n", "csv, row 3: unknown item 'kiwwi'; did you mean 'kiwi'"),
        ("code,itme,modality\n1,kiwi,cue\n", "unknown column 'itme'; did you mean 'item'"),
        ("item,modality\nkiwi,cue\n", "no column 'code' or 'text'; it has item, modality"),
        ("code,item,modality\n1.5,kiwi,cue\n", "row 2: code '1.5' is no whole number"),
        ("code,item,modality\n1,kiwi,sound\n", "row 2: modality 'sound'; there are image, audio, cue, sham, ignore"),
        ("code,item,modality\n1,,cue\n", "row 2: no item"),
        ("code,item,modality\n1,kiwi,cue\n01,apple,cue\n", "row 3: means the same event as row 2"),
        ("code,text,item,modality\n1,a,kiwi,cue\n", "row 2: needs either a code or a text"),
        ("code,item,modality\n1,kiwi,cue\n\n2,apple,cue\n", "row 3: is empty"),
        ("code,item,modality\n1,kiwi,cue,night\n", "line 2: has 4 cells for 3 columns"),
        ("code,item,modality\n", "no row below its header"),
        ("", "is empty"),
    ],
)  # fmt: skip
def test_rows_that_say_too_little_are_refused_by_their_number(text, words, tmp_path):
    (tmp_path / "triggers.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        preparation(None, [f"events.table={tmp_path / 'triggers.csv'}"])


def test_a_rule_of_a_session_that_nobody_has_is_refused(tmp_path):
    (tmp_path / "triggers.csv").write_text("code,item,modality,session\n1,kiwi,cue,nihgt\n")
    (tmp_path / "s0_wake.edf").touch()
    pattern = r"recordings.pattern=(?P<subject>s\d)_(?P<session>wake|night)"
    settings = preparation(None, [f"events.table={tmp_path / 'triggers.csv'}", pattern])
    with pytest.raises(UserError, match=r"row 2: no recording is of the session 'nihgt'; did you mean 'night'"):
        inputs.find_recordings(str(tmp_path / "s*"), settings)


def test_texts_of_a_table_are_no_patterns(tmp_path):
    (tmp_path / "triggers.csv").write_text("text,item,modality\nthe (kiwi),kiwi,cue\n", encoding="utf-8-sig")
    (rule,) = preparation(None, [f"events.table={tmp_path / 'triggers.csv'}"]).events.table.rows
    assert rule.match == r"the\ \(kiwi\)"
