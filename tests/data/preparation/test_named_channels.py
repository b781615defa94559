"""Channels by name: what is called bad is bad, what is good is kept, and older names are understood."""

import re
import warnings

import mne
import numpy as np
import planted_cues
import pytest
import recordings
import short_night

from sleep_interpreter.data.formats.test_trials import read_test_subjects
from sleep_interpreter.data.preparation import inputs
from sleep_interpreter.data.preparation import run as prepare_run
from sleep_interpreter.data.preparation.channels import make_plan, refuse_mixed_references
from sleep_interpreter.data.preparation.cleaning import find_bad
from sleep_interpreter.data.preparation.report import _in_words
from sleep_interpreter.data.preparation.settings import Channels, Steps, load_settings
from sleep_interpreter.data.preparation.signal import SignalFile
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import against_ear, electrode

NAMES = short_night.NAMES


@pytest.fixture(scope="module")
def noisy():
    """Return a minute of N2 and REM whose T7 and M1 hold noise of their own."""
    raw = short_night.night()
    rng = np.random.default_rng(3)
    for name, microvolts in (("T7", 60.0), ("M1", 150.0)):
        raw._data[raw.ch_names.index(name)] += microvolts * 1e-6 * rng.standard_normal(raw.n_times).cumsum() / 300
    return raw


def prepare(folder, *more, bids=False):
    settings = load_settings(None, [*short_night.SETTINGS, *more])
    found = inputs.find_bids(folder / "lab", settings) if bids else inputs.find_recordings(f"{folder}/lab/*", settings)
    return prepare_run.prepare(found, settings, folder / "out")["subjects"]["subject_test_0"]


def trials(folder):
    return [read_test_subjects(folder / "out", stage)[0].sleep for stage in ("N2N3", "REM")]


@pytest.fixture(scope="module")
def without_t7(noisy, tmp_path_factory):
    """Return the trials of a recording whose T7 is called bad as the settings have always had it."""
    folder = tmp_path_factory.mktemp("known")
    recordings.write(noisy, folder / "lab" / "s1_night_raw.fif")
    assert prepare(folder, "channels.bad={s1: [T7]}")["sessions"]["night"]["bad"] == {"T7": "channels.bad"}
    return trials(folder)


@pytest.mark.parametrize(
    ("lab", "in_file", "settings"),
    [
        ("T7", True, ()),  # info["bads"] of a FIF file
        ("E7", True, ("channels.rename={E7: T7}",)),
        ("E7", False, ("channels.rename={E7: T7}", "channels.bad={s1: [E7]}")),  # the lab's name
        ("E7", False, ("channels.rename={E7: T7}", "channels.bad={s1: [T7]}")),  # ours
        ("EEG T7-Ref", False, ("channels.bad={s1: [t7]}",)),
        ("T3", False, ("channels.bad={s1: [T7]}",)),
        ("T7.", False, ("channels.bad={s1: [EEG T3]}",)),
    ],
)
def test_a_channel_that_is_called_bad_is_bad(noisy, without_t7, tmp_path, lab, in_file, settings):
    raw = noisy.copy().rename_channels({"T7": lab}, verbose="error")
    raw.info["bads"] = [lab] if in_file else []
    recordings.write(raw, tmp_path / "lab" / "s1_night_raw.fif")
    record = prepare(tmp_path, *settings)
    assert list(record["sessions"]["night"]["bad"]) == ["T7"]
    assert planted_cues.check_trials(tmp_path / "out", short_night.planted(noisy)) == short_night.COUNT
    for own, known in zip(trials(tmp_path), without_t7, strict=True):
        assert np.array_equal(own, known)


def write_bids(raw, root, change):
    """Write a BIDS folder and change the lines of its channels.tsv."""
    import mne_bids

    raw = raw.copy()
    raw.info["line_freq"] = 50
    path = mne_bids.BIDSPath(subject="1", session="night", task="sleep", datatype="eeg", root=root)
    with warnings.catch_warnings(action="ignore"):
        mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, verbose="error")
    table = path.copy().update(suffix="channels", extension=".tsv").fpath
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8-sig").splitlines()]
    table.write_text("\n".join("\t".join(line) for line in change(lines)) + "\n", encoding="utf-8")
    return table


@pytest.mark.parametrize("name", ["T7", "EEG T7", "T3", "t7-ref"])
def test_channels_tsv_may_write_names_otherwise(noisy, without_t7, tmp_path, name):
    def change(lines):
        (row,) = [line for line in lines if line[0] == "T7"]
        row[0], row[lines[0].index("status")] = name, "Bad"
        return lines if name == "T7" else lines[:-1]  # with as many rows mne-bids would have refused it

    write_bids(noisy, tmp_path / "lab", change)
    record = prepare(tmp_path, "split.test=[sub-1]", bids=True)
    assert record["sessions"]["night_sleep"]["bad"] == {"T7": "channels.tsv"}
    assert planted_cues.check_trials(tmp_path / "out", short_night.planted(noisy)) == short_night.COUNT
    for own, known in zip(trials(tmp_path), without_t7, strict=True):
        assert np.allclose(own, known, atol=1e-3)  # BrainVision rounds


@pytest.mark.parametrize(("cells", "words"), [
    (("T77", "bad"), r"channels.tsv: 'T77' is bad, but .*has no such channel \(nearest: T7"),
    (("T7", "schlecht"), r"channels.tsv, row 5: status 'schlecht'; BIDS has good and bad"),
])  # fmt: skip
def test_what_channels_tsv_says_otherwise_is_refused(noisy, tmp_path, cells, words):
    def change(lines):
        (row,) = [line for line in lines if line[0] == "T7"]
        row[0], row[lines[0].index("status")] = cells
        return lines

    write_bids(noisy, tmp_path / "lab", change)
    record = prepare(tmp_path, "split.test=[sub-1]", bids=True)
    assert record["status"] == "failed" and re.search(words, record["reason"])


@pytest.mark.parametrize(("bad", "more", "words"), [
    ("{s2: [T7]}", (), "channels.bad: no subject 's2'; nearest: s1"),
    ("{S1: [T7]}", (), "channels.bad: no subject 'S1'; nearest: s1"),
    ("{s1: [TT7]}", (), r"channels.bad: s1 has no channel 'TT7' \(nearest: T7"),
    ("{s1: [E99]}", ("channels.rename={T7: T9}",), r"s1 has no channel 'E99'"),
    ("{s1: [T8]}", ("channels.rename={T7: T8, T8: T7}",), "T8 may be the recording's T8 or T7"),
])  # fmt: skip
def test_a_bad_name_that_matches_nothing_is_refused_before_the_work(noisy, tmp_path, bad, more, words):
    recordings.write(noisy, tmp_path / "lab" / "s1_night_raw.fif")
    with pytest.raises(UserError, match=words):
        prepare(tmp_path, f"channels.bad={bad}", *more)
    assert not (tmp_path / "out").exists()


def test_a_bad_mastoid_is_no_reference(noisy, tmp_path):
    """Neither of the trials nor where slow oscillations are searched."""
    found = {}
    for way, settings in {"called bad": "channels.bad={s1: [M1]}", "left out": "channels.mastoids=[M2]"}.items():
        recordings.write(noisy, tmp_path / way / "lab" / "s1_night_raw.fif")
        record = prepare(tmp_path / way, settings, "steps.reference=mastoids")
        found[way] = trials(tmp_path / way), record["sessions"]["night"]["slow_oscillations"]["count"]
    assert found["called bad"][1] == found["left out"][1] > 2
    assert all(np.array_equal(a, b) for a, b in zip(found["called bad"][0], found["left out"][0], strict=True))
    recordings.write(noisy, tmp_path / "both" / "lab" / "s1_night_raw.fif")
    record = prepare(tmp_path / "both", "channels.bad={s1: [M1, M2]}")
    assert "no good M1/M2: slow oscillations and spindles are searched as recorded" in " | ".join(
        record["sessions"]["night"]["remarks"]
    )


def test_a_bad_channel_does_not_stage():
    names = [*NAMES, "M1", "M2", "EOG1", "EMG1", "EMG2"]
    plan = make_plan(Channels(montage=NAMES), names, "file", {"C4": "channels.bad", "M2": "channels.tsv"})
    assert plan.derivations[0] is None and plan.derivations[1] == (plan.picks.index("EOG1"), None)
    assert "no EEG for staging: C4 is called bad" in plan.notes and plan.bad.keys() == {"C4", "M2"}


SPELLED = {
    "PhysioNet's dots": lambda name: f"{name.capitalize()}." if len(name) > 2 else f"{name.capitalize()}..",
    "EDF against A2": lambda name: f"EEG {name}-A2",
    "clinical, older names": lambda name: f"EEG {OLD.get(name, name).upper()}-REF",
    "against M2, written together": lambda name: f"{name}M2",
    "linked ears": lambda name: f"{OLD.get(name, name)}-A1A2",
    "unit behind it": lambda name: f"EEG_{name} [uV]",
    "capitals": str.upper,
}
OLD = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}


@pytest.mark.parametrize("way", SPELLED)
def test_channels_are_found_however_they_are_spelled(way):
    montage = [*NAMES, "P7", "P8"]
    plan = make_plan(Channels(montage=montage), [SPELLED[way](name) for name in montage], "file")
    assert plan.missing == [] and plan.eeg == montage and [*plan.rows.values()] == [*range(len(montage))]
    refuse_mixed_references(plan, "average", "file")


def test_older_names_give_the_trials_of_the_new_ones(noisy, tmp_path):
    found = []
    for way, names in {"new": {}, "old": {"T7": "T3", "T8": "EEG T4-Ref", "M1": "A1", "M2": "A2"}}.items():
        raw = noisy.copy().rename_channels(names, verbose="error")
        recordings.write(raw, tmp_path / way / "lab" / "s1_night_raw.fif")
        record = prepare(tmp_path / way)
        assert record["sessions"]["night"]["bad"] == {} and planted_cues.check_trials(
            tmp_path / way / "out", short_night.planted(raw)
        )
        found.append((trials(tmp_path / way), record["sessions"]["night"]["slow_oscillations"]["count"]))
    assert found[0][1] == found[1][1]
    assert all(np.array_equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True))


def test_what_was_not_recorded_is_said_and_two_of_one_name_are_refused(noisy, tmp_path):
    recordings.write(noisy.copy().drop_channels(["T7"]), tmp_path / "lab" / "s1_night_raw.fif")
    record = prepare(tmp_path)
    said = prepare_run.summary_lines({"subjects": {"subject_test_0": record}}, tmp_path)
    assert "  note, night: not recorded, interpolated from the others: T7" in said
    others = [name for name in NAMES if name != "T7"]
    for pair in (["T7-Ref", "T3"], ["T7-A1", "T7-A2"], ["T7-0", "T7-1"]):
        with pytest.raises(UserError, match=rf"file: T7 may be {pair[0]} or {pair[1]}; say which in channels.rename"):
            make_plan(Channels(montage=NAMES), [*others, *pair], "file")


def test_sides_are_no_reference_of_all():
    """A polysomnography against the other side's mastoid: no average can be made of it, but it may be kept."""
    names = ["F3-M2", "F4-M1", "C3-M2", "C4-M1", "E1-M2"]
    plan = make_plan(Channels(montage=["F3", "F4", "C3", "C4"], eog=("E1", "M2")), names, "file")
    assert plan.missing == [] and plan.against == {"F3": "m2", "F4": "m1", "C3": "m2", "C4": "m1"}
    assert plan.derivations[:2] == [(3, None), (4, None)] and "C4-M1 is taken for C4" in plan.notes
    with pytest.raises(UserError, match=r"F3, C3 against the ear or mastoid M2.*set steps.reference=none"):
        refuse_mixed_references(plan, "average", "file")
    refuse_mixed_references(plan, "none", "file")
    bipolar = ["Fp1-F7", "F7-T3", "T3-T5", "T5-O1", "EEG Fpz-Cz"]
    assert make_plan(Channels(montage=["F7", "Fpz", *NAMES]), [*NAMES, *bipolar], "file").missing == ["F7", "Fpz"]
    assert [electrode(n) for n in ("T3-LE", "EEG Fpz-Cz", "FC5.")] == ["t7", "fpz-cz", "fc5"]
    assert against_ear("LOC-A2") == ("loc", "m2") and against_ear("M1") is None


@pytest.mark.parametrize("names", [
    ["EEG O1-LE", "EEG O1-RE"], ["O1-RE", "O1-LE", "O2-RE"], ["O1-LE", "O2-RE"], ["O1 - le", "O1 - re"],
    ["O1-A1", "O1-A2"], ["O1-Ref", "O1-Avg"], ["O1-LE", "O1-Ref"],
])  # fmt: skip
def test_one_electrode_against_two_references_is_refused(names):
    with pytest.raises(UserError, match=r"file: O1 may be .* or\b.*say which in channels\.rename"):
        make_plan(Channels(montage=["O1"]), names, "file")
    chosen = make_plan(Channels(montage=["O1"], rename={names[0]: "O1"}), names, "file")
    assert chosen.picks[0] == names[0]
    assert make_plan(Channels(montage=["O1"]), ["O1-LE", "O2-LE", "M1-LE"], "file").picks[0] == "O1-LE"  # linked


def test_alpha_is_no_fault(tmp_path):
    """Clean wake EEG with alpha at the back: nothing is rejected for its spectrum unless that is asked for."""
    names = list(published().channels)
    rng = np.random.default_rng(0)
    data = recordings.background(60, names, 1) * 1e6 * rng.uniform(0.6, 1.4, (len(names), 1))
    place = np.exp(4 * (recordings.place(names) @ recordings.place(["Oz"])[0] - 1))
    alpha = mne.filter.filter_data(rng.standard_normal(data.shape[1]), 500.0, 8, 12, verbose="error")
    data += np.outer(place, 10 * alpha / alpha.std())
    data[names.index("C3")] += 80 * rng.standard_normal(data.shape[1])
    file = SignalFile(tmp_path / "raw.npy", data.shape)
    file.write(0, data.astype(np.float32))
    plan = make_plan(Channels(montage=names), names, "file")
    found = {
        psd: find_bad(file, plan, Steps().bad_channels.model_copy(update={"psd": psd}), 0, "standard_1005")
        for psd in (False, True)
    }
    assert found[False].keys() == {"C3"} and "hf_noise" in found[False]["C3"]
    assert found[True]["O1"] == "pyprep: psd"
    assert "much power above 50 Hz" in _in_words(found[False]["C3"]) and _in_words("channels.tsv") == "channels.tsv"


def test_a_derivation_of_one_channel_is_taken_as_recorded():
    settings = load_settings(None, ["channels.emg=EMG1", "channels.eog=[EOG1, null]"])
    assert settings.channels.emg == ("EMG1", None) and settings.channels.eog == ("EOG1", None)
    with pytest.raises(UserError, match=r"channels\.emg"):
        load_settings(None, ["channels.emg=[EMG1, EMG2, EMG3]"])
