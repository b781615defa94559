"""What a session cued and what it decoded, as tables whose rows carry the same ids: cues.tsv and predictions.csv."""

import math
from typing import Any

import numpy as np
import pandas as pd

from sleep_interpreter.data.formats import trial_origin
from sleep_interpreter.realtime.Report.session_data import SessionData
from sleep_interpreter.utils.core.constants import N2, N3, REM, STAGES
from sleep_interpreter.utils.core.paths import atomic_write
from sleep_interpreter.utils.core.text_tables import write_tsv
from sleep_interpreter.utils.metrics.decoding_metrics import Predictions, trial_rows

_ASLEEP = {STAGES[code] for code in (N2, N3, REM)}
_NOT_PLAYED = {"cue_skipped": "skipped", "cue_cancelled": "taken back"}


def write_trial_tables(session: SessionData) -> None:
    """Write cues.tsv, every cue that was planned and what became of it, and predictions.csv, every decode.

    Columns are those of a test script's predictions.csv (docs/data_format.md); `onset_sample` is on the session's clock
    of 500 Hz. `correct` and `rank` are empty for shams, and where the signal holds no response to the cues.
    """
    cues = _cues(session)
    decodes = {e["detail"]["number"]: e["detail"] for e in session.select("decode")}
    failed = {e["detail"]["number"]: e["detail"]["reason"] for e in session.select("decode_failed")}
    columns = ["number", "item", "group", *(key for key in trial_origin.COLUMNS if any(key in own for own in cues))]
    rows = [
        {
            **{key: own.get(key) for key in columns},
            "decoded": decodes.get(own["number"], {}).get("item"),
            "left_out": own["left_out"] or failed.get(own["number"]),
        }
        for own in cues
    ]
    write_tsv(session.folder / "cues.tsv", pd.DataFrame(rows, columns=[*columns, "decoded", "left_out"]), "%.9g")
    with atomic_write(session.folder / "predictions.csv") as temporary:
        _predictions(session, cues, decodes).to_csv(temporary, index=False, float_format="%.9g")


def _cues(session: SessionData) -> list[dict[str, Any]]:
    """Return what is known of each planned cue: number, item, group, left_out (why it did not sound) and its origin."""
    about, card, found = session.about, session.card, []
    subject = _subject(session)
    name = about.get("recording", {}).get("name") if isinstance(about.get("recording"), dict) else None
    phases = {e["detail"]["number"]: e["detail"] for e in session.select("cue_phase")}
    asleep = [e["seconds"] for e in session.select("stage") if e["detail"].get("stage") in _ASLEEP]
    times = dict.fromkeys(card.item_names, 0)
    for e in session.select("cue", "sham", *_NOT_PLAYED):
        detail, kind = e["detail"], e["event"]
        number, item, phase = detail["number"], detail["item"], phases.get(detail["number"], {})
        left_out = f"{_NOT_PLAYED[kind]}: {detail.get('reason')}" if kind in _NOT_PLAYED else None
        if kind == "cue" and number in session.silent:
            left_out = "did not sound"
        times[item] += kind == "cue" and left_out is None
        degrees = phase.get("degrees")
        origin = {
            "cue_id": trial_origin.cue_id(subject, session.folder.resolve().name, number),
            "recording": name,
            "session": session.folder.resolve().name,
            "onset_s": e["seconds"],
            "onset_sample": e["sample"],
            "stage": detail.get("stage"),
            "so_phase_rad": None if degrees is None else math.radians(degrees),
            "so_phase_from": phase.get("phase_from"),
            "repetition": times[item] if kind == "cue" and left_out is None else None,
            "minutes_since_sleep_onset": (e["seconds"] - asleep[0]) / 60 if asleep else None,
            "sham": kind == "sham",
        }
        known = {key: value for key, value in origin.items() if value is not None}
        found.append({"number": number, "item": item, "group": detail.get("group"), "left_out": left_out, **known})
    return found


def _predictions(session: SessionData, cues: list[dict[str, Any]], decodes: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """Return one row a decode, in the order of the cues."""
    items, cued = session.card.item_names, {own["number"]: own for own in cues if own["number"] in decodes}
    told = [decodes[number] for number in cued]
    origin = [{k: v for k, v in own.items() if k in trial_origin.COLUMNS} for own in cued.values()]
    predictions = Predictions(
        _subject(session), session.folder, np.array([items.index(detail["cued"]) for detail in told], int),
        np.full(len(told), "session"), np.array([d["probabilities"] for d in told]).reshape(-1, len(items)), items,
        trial_origin.to_table(origin, str(session.folder)),
    )  # fmt: skip
    table = trial_rows(predictions)
    right_or_wrong = np.array([session.has_responses and not detail.get("sham") for detail in told], bool)
    known = {key: table[key].convert_dtypes().where(right_or_wrong) for key in ("correct", "rank")}
    return table.assign(**known)


def _subject(session: SessionData) -> str:
    return str(session.about.get("subject", {}).get("id") or session.folder.resolve().parent.name)
