"""The cue schedule's rules: balance, shams, limits, playlists, and going on after a crash."""

from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import pytest

from sleep_interpreter.realtime.Control.request import Request
from sleep_interpreter.realtime.Cues.schedule import CueSchedule, RecordedCues
from sleep_interpreter.realtime.Cues.sounds import read_playlist, read_sound
from sleep_interpreter.realtime.Parameters import SessionSettings
from sleep_interpreter.realtime.Parameters.settings import CueSettings
from sleep_interpreter.realtime.Session.cueing import CueController
from sleep_interpreter.realtime.Session.operator_commands import CommandHandler
from sleep_interpreter.realtime.Subject import Subject
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

WHO = Subject(id="s1")
CARD = published()
ITEMS = CARD.item_names


def run(schedule, count, start=0):
    """Return the next `count` cues as (onset, item, sham)."""
    if schedule.onset is None:
        schedule.start(start)
    return [(c.onset, c.item, c.sham) for c in (schedule.next_cue(schedule.due) for _ in range(count))]


def make(seed=1, playlist=None, **settings):
    return CueSchedule(CueSettings(**settings), seed, WHO, CARD, playlist)


def test_balanced_groups_come_whole_and_never_twice_in_a_row():
    cues = run(make(rule="balanced", group_seconds=4000), 8 * 50)
    items = [item for _, item, _ in cues]
    assert Counter(items) == dict.fromkeys(range(8), 50)
    assert all(sorted(items[k : k + 8]) == list(range(8)) for k in range(0, 400, 8))
    assert all(a != b for a, b in pairwise(items))
    assert len({tuple(items[k : k + 8]) for k in range(0, 400, 8)}) > 40


def test_shams_change_neither_times_nor_items():
    plain, with_shams = run(make(), 600), run(make(sham_share=0.3), 600)
    assert [c[:2] for c in plain] == [c[:2] for c in with_shams]
    assert not any(sham for *_, sham in plain) and 140 <= sum(sham for *_, sham in with_shams) <= 220


def test_no_hour_holds_more_than_the_limit():
    cues = run(make(max_per_hour=40), 200)
    onsets = [onset for onset, *_ in cues]
    for onset in onsets:
        assert sum(onset - 3600 * 500 < other <= onset for other in onsets) <= 40


def test_the_limit_is_counted_from_the_oldest_cue_of_the_hour():
    """As many cues as the limit permits come: the next one an hour after the first, not after the last."""
    onsets = [onset for onset, *_ in run(make(max_per_hour=40), 90)]
    hour = 3600 * 500
    assert onsets[39] < onsets[0] + 40 * 6 * 500
    assert onsets[40] == onsets[0] + hour and onsets[80] == onsets[40] + hour


def test_after_a_crash_shams_count_for_the_limit_too():
    more = {"sham_share": 0.5, "max_per_hour": 40}
    whole = run(make(**more), 41)
    assert any(sham for *_, sham in whole[:40])
    resumed = make(**more)
    resumed.resume(_log(make(**more), whole[:40]))
    resumed.start(whole[39][0] + 20_000)
    assert resumed.onset == whole[0][0] + 3600 * 500 == whole[40][0]


def _log(schedule, cues):
    """What a session would have logged of these cues."""
    events = [{"event": "cueing", "sample": 0, "detail": {"on": True}}]
    for number, (onset, item, sham) in enumerate(cues, start=1):
        kind = "sham" if sham else "cue"
        detail = {"number": number, "item": ITEMS[item], "group": schedule.group(onset)}
        events.append({"event": kind, "sample": onset, "detail": detail})
    return events


@pytest.mark.parametrize("rule", ["published", "balanced"])
def test_after_a_crash_the_same_cues_come(rule):
    more = {"rule": rule, "sham_share": 0.2, "group_seconds": 60, "max_per_hour": 500}
    whole = run(make(**more), 120)
    resumed = make(**more)
    resumed.resume(_log(make(**more), whole[:70]))
    resumed.onset = whole[70][0]  # a session's gate opens anew; the draws after that are what counts
    rest = run(resumed, 50)
    assert [c[1:] for c in rest if c] == [c[1:] for c in whole[70:]]
    with pytest.raises(UserError, match="seed, subject"):
        make(seed=2, **more).resume(_log(make(**more), whole[:70]))


def test_the_operator_turns_the_groups():
    schedule = make()
    assert [schedule.group(s) for s in (0, 15000)] == [0, 1]
    schedule.switch_group(100)
    assert [schedule.group(s) for s in (200, 15000)] == [1, 0]


def test_the_operator_cannot_turn_recorded_cues():
    rows, answers = [], []
    context = SimpleNamespace(
        settings=SessionSettings(cues={"mode": "recorded"}), log_event=lambda *row, **more: rows.append(more), card=CARD
    )
    cueing = CueController(context, RecordedCues([(1.0, 0)], ((0,), (1,)), ITEMS), None, None)
    commands = CommandHandler(context, cueing, None, dict)
    commands.handle(7, Request("group", {}, "command line", lambda ok, **more: answers.append((ok, more["error"]))))
    assert answers == [(False, "recorded cues have no turns")]
    assert rows[0]["command"] == "group" and rows[0]["ok"] is False


def _write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_playlist_gives_items_gains_groups_and_files(tmp_path):
    import soundfile
    from numpy import ones

    soundfile.write(tmp_path / "bark.wav", 0.5 * ones(22050 // 2), 22050)
    path = _write(tmp_path / "cues.csv", "item,file,gain_db,group\nkiwi,bark.wav,-3,0\nball,,0,1\nbook,,,1\n")
    playlist = read_playlist(path, CARD)
    assert playlist.groups == ((ITEMS.index("kiwi"),), (ITEMS.index("ball"), ITEMS.index("book")))
    cues = [make(playlist=playlist).next_cue(0, onset=100) for _ in range(1)]
    assert cues[0].item == ITEMS.index("kiwi") and cues[0].gain_db == -3
    sound = read_sound(playlist.files[ITEMS.index("kiwi")], 16000, 0.5, 0.005)
    assert abs(len(sound) - 8000) <= 1 and abs(sound[0]) < 1e-6 and sound[4000] == pytest.approx(0.5, abs=0.02)
    with pytest.raises(UserError, match=r"0\.500 s long; audio\.max_seconds permits 0\.2 s"):
        read_sound(playlist.files[ITEMS.index("kiwi")], 16000, 0.2, 0.005)
    same = read_playlist(
        _write(tmp_path / "cues.yaml", "cues:\n  - {item: kiwi, gain_db: -3}\n  - {item: ball}\n"), CARD
    )
    assert same.groups[0] == same.groups[1] and len(same.groups[0]) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item,file\nkiwy,\n", r"line 2, item: 'kiwy' is no item; did you mean 'kiwi'"),
        ("item,gain_db\nkiwi,loud\n", r"line 2, gain_db: 'loud' is no number"),
        ("item,gain_db\nkiwi,99\n", r"gain_db: 99; permitted are -60 to 20"),
        ("item,file\nkiwi,none.wav\n", r"line 2, file: .*none\.wav does not exist"),
        ("item,group\nkiwi,0\nkiwi,1\n", r"line 3: item 'kiwi' is listed twice"),
        ("item,group\nkiwi,0.5\n", r"line 2, group: '0\.5', expected 0 or 1"),
        ("items\nkiwi\n", r"columns items; there must be item"),
        ("item,group\nkiwi\n", r"another number of cells"),
        ("item\n", r"lists no item"),
    ],
)
def test_a_wrong_playlist_is_named_by_line_and_column(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        read_playlist(_write(tmp_path / "cues.csv", text), CARD)
