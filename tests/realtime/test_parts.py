"""The parts of the loop, one by one."""

import numpy as np
import pytest
from scipy import signal

from sleep_interpreter.realtime.Cues.schedule import CueSchedule, RecordedCues
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.settings import CueSettings
from sleep_interpreter.realtime.Recording.event_log import EventLog, read_log
from sleep_interpreter.realtime.Session.session_context import RingBuffer
from sleep_interpreter.realtime.Sources.montage import make_montage
from sleep_interpreter.realtime.Sources.recorded_inputs import ReplayedInputs
from sleep_interpreter.realtime.Subject import Subject, load_subject
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.constants import N2, N3, REM, UNKNOWN, WAKE
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.channel_names import find_channel
from sleep_interpreter.utils.signal.resample import Merger, Resampler, ratio
from sleep_interpreter.utils.staging.cue_gate import GateState, advance
from sleep_interpreter.utils.staging.settings import GateSettings


def test_defaults_of_the_yaml_are_those_of_the_class():
    assert config.load(SessionSettings, "realtime") == SessionSettings()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("gate.nrem_probabilty=0.5", "nrem_probability"),
        ("audio.volume_db=0", "cap max_db"),
        ("cues.interval_seconds=[1, 2]", "at least 2.5 s"),
        ("cues.groups=[[1, 2], [2, 3]]", "share an item"),
        ("source.amplitude_range=[5, 1]", "rising"),
        ("staging.filters.emg=[10, 300]", "250 Hz"),
    ],
)
def test_settings_refuse(override, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        config.load(SessionSettings, "realtime", overrides=[override])


@pytest.mark.parametrize("identifier", ["../x", "a/b", "a\\b", "", ".", "a b", "x" * 65])
def test_subject_id_names_a_folder_and_nothing_else(identifier):
    with pytest.raises(UserError, match="--subject: id"):
        load_subject(identifier)


def test_subject_file(tmp_path):
    path = tmp_path / "subject.yaml"
    path.write_text("id: s07\nsession: night 2\n", encoding="utf-8")
    assert load_subject(path=path) == Subject(id="s07", session="night 2")
    path.write_text("id: s07\nbirthday: 2000-01-01\n", encoding="utf-8")
    with pytest.raises(UserError, match="birthday"):
        load_subject(path=path)
    with pytest.raises(UserError, match="not both"):
        load_subject("s07", path)


# --- channels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("C4", "EEG C4"), ("EEG C4", "EEG C4"), ("c4", "EEG C4"), ("EOG1", "EOG EOG1"), ("C3", "C3"), ("C3-M2", None)],
)
def test_channel_names(wanted, found):
    assert find_channel(wanted, ["EEG C4", "EOG EOG1", "C3", "C4-M1"]) == found


def test_a_channel_that_matches_twice_is_refused():
    with pytest.raises(UserError, match="EEG C4, eeg c4"):
        find_channel("C4", ["EEG C4", "eeg c4"])


def test_montage_subtracts_references_and_names_what_is_missing():
    channels = SessionSettings().channels.model_copy(update={"eeg_ref": "M1", "emg": None})
    montage = make_montage(channels, ("Fz", "C4"), ["Fz", "C4", "M1", "EOG1"], "x.edf")
    assert montage.picks == ("C4", "M1", "EOG1", "Fz")
    assert montage.decoder == (3, 0)
    window = np.array([[5.0, 6], [1, 1], [2, 3], [0, 0]])
    derived = montage.derive(window)
    np.testing.assert_array_equal(derived[:2], [[4, 5], [2, 3]])
    assert np.isnan(derived[2]).all()
    assert make_montage(channels, ("Fz", "Oz"), ["Fz", "C4", "M1", "EOG1"], "x.edf").missing == ("Oz",)
    with pytest.raises(UserError, match=r"x\.edf: .*channels\.eog = 'EOG1' \(nearest: EOG2\)"):
        make_montage(channels, (), ["C4", "M1", "EOG2"], "x.edf")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (("FZ", "Cz", "Fz"), ["C4", "Fz", "Cz"]),
        (("EEG Fz-Ref", "Cz", "Fz"), ["C4", "EEG Fz-Ref", "EEG Cz-Ref"]),
        (("Fz", "Cz", "EEG FZ"), ["C4"]),  # whether or not the recording has it
    ],
)
def test_one_electrode_in_two_spellings_is_refused(wanted, names):
    channels = SessionSettings().channels.model_copy(update={"emg": None, "eog": None})
    with pytest.raises(UserError, match=rf"x\.edf: .* twice, as '{wanted[0]}' and as '{wanted[2]}'"):
        make_montage(channels, wanted, names, "x.edf")


def test_derivations_of_one_electrode_are_channels_of_their_own():
    channels = SessionSettings().channels.model_copy(update={"emg": None, "eog": None})
    names = ["C4", "F3-C3", "F3-M2"]
    assert make_montage(channels, ("F3-C3", "F3-M2"), names, "x.edf").decoder == (1, 2)


# --- resampling and buffer -----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [200, 250, 256, 500, 512, 1000, 1024, 2048, 5000])
def test_resampler_agrees_with_scipy_and_has_no_seams(rate):
    x = np.random.default_rng(rate).standard_normal((2, 6 * rate))
    results = []
    for block in (1 + rate // 50, 997, x.shape[1]):
        resampler = Resampler(rate, 500, 2)
        parts = [resampler.push(x[:, i : i + block]) for i in range(0, x.shape[1], block)]
        results.append(np.concatenate(parts, axis=1))
    up, down = ratio(rate, 500)
    first = x[:, :1]
    expected = signal.resample_poly(x - first, up, down, axis=1) + first
    kept = results[0].shape[1]
    assert expected.shape[1] - 60 < kept <= expected.shape[1]
    np.testing.assert_allclose(results[0], expected[:, :kept], atol=3e-3)  # scipy's gain at 0 Hz is not 1
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("rate", [200, 256, 512])
def test_an_electrodes_offset_stays_an_offset(rate):
    """A dead channel must come out constant, or it would not be found flat."""
    signal = np.random.default_rng(0).standard_normal((1, 10 * rate))
    signal[:, 4 * rate :] = 300.0
    resampled = Resampler(rate, 500, 1).push(signal)
    np.testing.assert_allclose(resampled[:, 5 * 500 :], 300.0, rtol=1e-12)
    np.testing.assert_allclose(Resampler(rate, 500, 1).push(signal[:, 4 * rate :]), 300.0, rtol=1e-12)


def test_channels_of_several_rates_come_out_in_step():
    """Each as its own resampler gives it, whatever the blocks; never one ahead of another."""
    rng = np.random.default_rng(1)
    rates, rows = (512, 200, 125), ((1, 3), (0,), (2,))
    data = [rng.standard_normal((len(r), 8 * rate)) for rate, r in zip(rates, rows, strict=True)]
    alone = {
        row: line
        for rate, block, own in zip(rates, data, rows, strict=True)
        for row, line in zip(own, Resampler(rate, 500, len(own)).push(block), strict=True)
    }
    results = []
    for pieces in (1, 7, 400):
        merger = Merger(list(zip(rates, rows, strict=True)), 500)
        cuts = [np.round(np.linspace(0, 8 * rate, pieces + 1)).astype(int) for rate in rates]
        parts = [
            merger.push([block[:, c[k] : c[k + 1]] for block, c in zip(data, cuts, strict=True)]) for k in range(pieces)
        ]
        results.append(np.concatenate(parts, axis=1))
    assert results[0].shape[1] == min(line.size for line in alone.values()) > 3900
    for result in results:
        for row, line in alone.items():
            np.testing.assert_array_equal(result[row], line[: result.shape[1]])


@pytest.mark.parametrize("rate", [499.907, 333.33, 1e6])
def test_resampler_refuses_odd_rates(rate):
    with pytest.raises(UserError, match="no ratio of whole numbers"):
        Resampler(rate, 500, 1)


def test_ring_buffer_gives_what_was_written_and_nothing_else():
    buffer = RingBuffer(2, 10)
    data = np.arange(46, dtype=float).reshape(2, 23)
    for start, stop in ((0, 3), (3, 10), (10, 11), (11, 23)):
        buffer.write(data[:, start:stop])
    np.testing.assert_array_equal(buffer.read(13, 23), data[:, 13:])
    np.testing.assert_array_equal(buffer.read(15, 17), data[:, 15:17])
    for start, stop, words in ((12, 15, "oldest"), (20, 24, "stream is at 23"), (-1, 3, "not a range")):
        with pytest.raises(IndexError, match=words):
            buffer.read(start, stop)


def test_a_ring_buffer_of_a_session_that_goes_on_holds_nothing_from_before_its_origin():
    buffer = RingBuffer(1, 10, origin=1000)
    assert (buffer.start, buffer.end) == (1000, 1000)
    buffer.write(np.arange(4.0)[None])
    assert (buffer.start, buffer.end) == (1000, 1004)
    np.testing.assert_array_equal(buffer.read(1000, 1004), [[0, 1, 2, 3]])
    with pytest.raises(IndexError, match="oldest one held is 1000"):
        buffer.read(998, 1002)
    buffer.write(np.arange(4.0, 23)[None])
    assert (buffer.start, buffer.end) == (1013, 1023)


# --- inputs of a replay --------------------------------------------------------------------------------


def test_a_replay_takes_the_inputs_of_its_first_sample():
    events = [
        {"sample": sample, "event": event, "detail": {"at": sample}}
        for sample, event in ((499, "command"), (500, "stream"), (500, "cue"), (700, "gap"))
    ]
    inputs = ReplayedInputs(events, start=500)
    assert inputs.replaying and inputs.due == 500
    assert list(inputs.pop_due(499)) == []
    assert list(inputs.pop_due(500)) == [("stream", {"at": 500})] and inputs.due == 700
    assert list(inputs.pop_due(10_000)) == [("gap", {"at": 700})] and inputs.due is None


# --- gate ----------------------------------------------------------------------------------------------

_SURE = {WAKE: [1, 0, 0, 0], N2: [0, 1, 0, 0], N3: [0, 0, 1, 0], REM: [0, 0, 0, 1]}


def _walk(estimates, **settings):
    state, states = GateState(), []
    for estimate in estimates:
        state = advance(state, None if estimate is None else np.array(estimate, float), GateSettings(**settings))
        states.append(state)
    return states


def test_gate_smooths_and_starts_with_the_first_estimate():
    first, second, third = _walk([_SURE[WAKE], _SURE[N2], _SURE[N2]])
    assert first.probabilities == (1, 0, 0, 0)
    np.testing.assert_allclose(second.probabilities, [0.8, 0.2, 0, 0])
    np.testing.assert_allclose(third.probabilities, [0.64, 0.36, 0, 0])
    assert [s.stage for s in (first, second, third)] == [WAKE] * 3


@pytest.mark.parametrize(
    ("estimates", "opens"),
    [
        ([_SURE[N2]] * 30, [False] * 29 + [True]),
        ([_SURE[N3]] * 15 + [_SURE[N2]] * 15, [False] * 29 + [True]),  # N2 and N3 count together
        ([[0.2, 0.4, 0.4, 0]] * 31, [False] * 29 + [True] * 2),  # exactly 0.8 is enough
        ([[0.21, 0.4, 0.39, 0]] * 40, [False] * 40),
        ([_SURE[REM]] * 40, [False] * 40),  # REM cueing is off
        ([_SURE[N2]] * 30 + [None] + [_SURE[N2]] * 30, [False] * 29 + [True] + [False] * 30 + [True]),
        # one wake estimate: 0.8 is left, so the gate holds; the second closes it
        ([_SURE[N2]] * 30 + [_SURE[WAKE]] * 2, [False] * 29 + [True, True, False]),
        # the stage changes at the fourth wake estimate (0.8^4 < 0.5), which also ends the count
        ([_SURE[N2]] * 30 + [_SURE[WAKE]] * 4 + [_SURE[N2]] * 30, [False] * 29 + [True, True] + [False] * 32 + [True]),
    ],
)
def test_gate_table(estimates, opens):
    assert [s.open for s in _walk(estimates)][: len(opens)] == opens


def test_gate_counts():
    states = _walk([_SURE[N2], _SURE[N3], _SURE[REM], None], smoothing=1)
    assert [(s.stage, s.n2, s.n3, s.rem, s.nrem) for s in states] == [
        (N2, 1, 0, 0, 1), (N3, 0, 1, 0, 2), (REM, 0, 0, 1, 0), (UNKNOWN, 0, 0, 0, 0),
    ]  # fmt: skip


def test_gate_opens_in_rem_only_when_asked():
    assert [s.open for s in _walk([_SURE[REM]] * 3, rem=True, rem_detections=2)] == [False, True, True]


# --- cues ----------------------------------------------------------------------------------------------


def _schedule(seed=1, subject="a", label="", n=400):
    schedule = CueSchedule(CueSettings(), seed, Subject(id=subject, session=label), published())
    schedule.start(1000)
    cues = []
    for _ in range(n):
        due = schedule.due
        cue = schedule.next_cue(schedule.due)
        assert cue.onset - due == 100  # 0.2 s of lead
        cues.append(cue)
    return schedule, cues


def test_schedule_keeps_intervals_groups_and_items():
    schedule, cues = _schedule()
    gaps = np.diff([1000] + [c.onset for c in cues]) / 500
    assert gaps.min() >= 4 and gaps.max() <= 6 and 4.8 < gaps.mean() < 5.2
    for cue in cues:
        assert cue.group == cue.onset // 15000 % 2
        assert cue.item in (range(8) if cue.group == 0 else range(8, 15))
    assert {c.item for c in cues} == set(range(15))
    assert [c.number for c in cues] == list(range(1, 401))
    assert schedule.next_switch(14999) == 15000 and schedule.next_switch(15000) == 30000
    schedule.stop()
    assert schedule.due is None


def test_schedule_depends_on_seed_subject_and_label_alone():
    def order(*args):
        return [(c.onset, c.item) for c in _schedule(*args, 40)[1]]

    assert order(1, "a", "") == order(1, "a", "")
    assert len({tuple(order(*a)) for a in ((1, "a", ""), (2, "a", ""), (1, "b", ""), (1, "a", "night 2"))}) == 4


def test_recorded_cues_come_in_order():
    cues = RecordedCues([(3.0, 9), (1.5, 0)], CueSettings().groups_of(published().item_names), published().item_names)
    assert cues.due == 750
    first, second = cues.next_cue(cues.due), cues.next_cue(cues.due)
    assert (first.item, first.group, first.recorded) == (0, 0, True)
    assert (second.onset, second.group) == (1500, 1)
    assert cues.due is None


# --- log -----------------------------------------------------------------------------------------------


def test_log_survives_a_torn_line(tmp_path):
    path = tmp_path / "log.jsonl"
    log = EventLog(path, 500, offset=10)
    log.write(500, "cue", 3, item="ball")
    log.write(1000, "decode", 24, latency=0.012, item="book", probabilities=[0.5, 0.5])
    assert [e["seconds"] for e in read_log(path)] == [11, 12]  # on disk before the log is closed
    with path.open("a", encoding="utf-8") as handle:
        handle.write('{"sample": 1500, "eve')
    assert [e["event"] for e in read_log(path)] == ["cue", "decode"]
    log.close()
    rows = [line.split("\t") for line in path.with_suffix(".tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["sample", "seconds", "event", "code", "item", "probabilities", "wall_latency_ms", "wall_time"]
    assert rows[2][:7] == ["1000", "12.0", "decode", "24", "book", "[0.5, 0.5]", "12.0"]
    path.write_text('{"torn\n{"sample": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 is damaged"):
        read_log(path)
    with pytest.raises(FileExistsError):
        EventLog(path, 500)
