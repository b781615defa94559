"""Tables, scorings and settings that anybody may have written."""

import pytest

from sleep_interpreter.data.formats.scoring_readers import read_hypnogram
from sleep_interpreter.data.preparation import trigger_table
from sleep_interpreter.data.preparation.inputs import find_bids
from sleep_interpreter.data.preparation.settings import Preparation
from sleep_interpreter.realtime.Cues.sounds import read_playlist
from sleep_interpreter.train.evaluation.memory_scores import read_behaviour
from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.data_card import DataCard, published
from tests.fuzz.engine import changed_text, fuzz, refused

pytestmark = pytest.mark.slow

ITEMS = published().item_names
_SCORINGS = [
    b"onset\tduration\tstage\n0\t30\tW\n30\t30\tN2\n60\t30\tN3\n90\t30\tR\n",
    b"start;stage\n22:00:00;Wake\n22:00:30;Sleep stage 2\n23:59:30;S4\n00:00:00;REM\n",
    b"0\n2\n2\n3\n5\n",
    b'<?xml version="1.0"?><CMPStudyConfig><EpochLength>30</EpochLength><SleepStages><SleepStage>0</SleepStage>'
    b"<SleepStage>2</SleepStage><SleepStage>5</SleepStage></SleepStages></CMPStudyConfig>",
    b"Patient:\tX\n\nSleep Stage\tTime [hh:mm:ss]\tEvent\tDuration[s]\n"
    b"W\t22:00:00\tSLEEP-S0\t30\nS2\t22:00:30\tSLEEP-S2\t30\n",
]
_CARD = b"""name: Lab
items:
  - kiwi
  - {name: bell, sound: bell.wav}
channels: [Fz, Cz, Pz]
rate: 100
windows:
  sleep: {seconds: [0, 2]}
"""


@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".xml", ".csv"])
def test_scorings(tmp_path, suffix):
    path = tmp_path / f"night{suffix}"

    def attempt(content):
        path.write_bytes(content)
        read_hypnogram(path)

    fuzz(attempt, changed_text(_SCORINGS), 500)


def test_participants(tmp_path):
    (tmp_path / "sub-01" / "eeg").mkdir(parents=True)
    (tmp_path / "sub-01" / "eeg" / "sub-01_task-sleep_eeg.vhdr").touch()
    settings = Preparation.model_validate({"split": {"group_column": "group"}})
    table = b"participant_id\tage\tgroup\nsub-01\t23\ttrain\nsub-02\tn/a\ttest\n"

    def attempt(content):
        (tmp_path / "participants.tsv").write_bytes(content)
        find_bids(tmp_path, settings)

    fuzz(attempt, changed_text([table]), 250)


def test_playlists(tmp_path):
    (tmp_path / "a.wav").touch()
    rows = f"item,file,gain_db,group\n{ITEMS[0]},a.wav,-3,0\n{ITEMS[1]},,0,1\n".encode()
    cues = f"cues:\n- {{item: {ITEMS[0]}, file: a.wav, gain_db: -3}}\n- item: {ITEMS[1]}\n  group: 1\n".encode()

    def attempt(content):
        for suffix in (".csv", ".yaml"):
            path = tmp_path / f"list{suffix}"
            path.write_bytes(content)
            refused(read_playlist, path, published())

    fuzz(attempt, changed_text([rows, cues]), 500)


def test_tables_of_triggers(tmp_path):
    path = tmp_path / "triggers.csv"
    table = f"code,item,modality,session\n11,{ITEMS[0]},cue,sleep\n12,{ITEMS[1]},image,wake\n99,,ignore,\n".encode()

    def attempt(content):
        path.write_bytes(content)
        trigger_table.read(path)

    fuzz(attempt, changed_text([table]), 600)


def test_memory_scores(tmp_path):
    path = tmp_path / "memory.tsv"
    table = f"subject\titem\tscore\nsub-01\t{ITEMS[0]}\t0.5\nsub-01\t{ITEMS[1]}\tn/a\nsub-02\t{ITEMS[0]}\t1\n".encode()

    def attempt(content):
        path.write_bytes(content)
        read_behaviour(path, ["subject_0"], {"sub-01": "subject_0"}, ITEMS)

    fuzz(attempt, changed_text([table]), 400)


def test_settings(tmp_path):
    path = tmp_path / "lab.yaml"
    own = (
        b"extends: prepare\nseed: 1\nrecordings:\n  pattern: '(?P<subject>s\\d+)'\n"
        b"  sessions: {nap: sleep}\nquick: {seed: 2}\n"
    )

    def attempt(content):
        path.write_bytes(content)
        for schema in (Preparation, DataCard):
            refused(config.load, schema, path)

    fuzz(attempt, changed_text([own, _CARD]), 400)
