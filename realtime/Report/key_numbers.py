"""What a night report says first: five numbers of the night, and its sleep."""

import math

import numpy as np

from sleep_interpreter.data.formats import hypnograms
from sleep_interpreter.realtime.Report.session_data import SessionData
from sleep_interpreter.realtime.Report.summary import stage_minutes, stage_spans
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, UNKNOWN


def key_numbers(session: SessionData) -> list[tuple[str, str]]:
    """Return five (name, value): cues, sleep, cueing, arousals, what was lost."""
    cued, shams, silent = len(session.cues()), len(session.cues("sham")), len(session.silent)
    minutes = stage_minutes(stage_spans(session.events), session.end - session.begin)
    on = sum(end - begin for begin, end in session.states("cueing", "on")) / 60
    nrem = minutes["N2"] + minutes["N3"]
    arousals, gaps = len(session.select("arousal")), session.select("gap")
    lost = sum(e["detail"].get("seconds", 0) for e in gaps)
    away = sum(end - begin for begin, end in session.outages())
    said = [f"{cued / on * 60:.0f} an hour of cueing" if on >= 1 else ""]
    said += [f"{shams} silent ones (shams)" if shams else "", f"{silent} more did not sound" if silent else ""]
    return [
        ("cues that sounded", _joined(str(cued), *said)),
        ("asleep (N2, N3, R)", f"{length(60 * (nrem + minutes['R']))} of {length(session.end - session.begin)}"),
        ("cueing was on", f"{length(60 * on)}; N2 and N3: {length(60 * nrem)}"),
        ("arousals that paused cueing", _joined(str(arousals), f"{arousals / on * 60:.0f} an hour of cueing" if on >= 1
                                               else "")),
        ("signal lost", _joined(f"{lost:.1f} s in {len(gaps)} gaps", f"no session ran for {length(away)}" if away >= 3
                                else "")),
    ]  # fmt: skip


def sleep_statistics(session: SessionData) -> list[tuple[str, str]]:
    """Return (name, value) of `hypnograms.STATISTICS`, of the session's own stages; [] where none was known."""
    epochs = _epochs(session)
    if not (epochs != UNKNOWN).any():
        return []
    found = hypnograms.night_statistics(hypnograms.to_yasa(epochs, "session"))
    asleep = {"TIB": "length of the session, in whole epochs (min)", "SE": "asleep, of that (%)"}
    rows = [(asleep.get(key, text), "-" if math.isnan(found[key]) else f"{found[key]:.1f}")
            for key, text in hypnograms.STATISTICS.items()]  # fmt: skip
    return [*rows, ("no stage known (min)", f"{(epochs == UNKNOWN).sum() / hypnograms.EPOCHS_PER_MIN:.1f}")]


def length(seconds: float) -> str:
    """Return a length of time in words: "7 h 05 min", "12.3 min"."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _epochs(session: SessionData) -> np.ndarray:
    """Return the stage in force at the beginning of each 30 s of the session: codes, int (n,)."""
    codes = {name: code for code, name in enumerate(STAGES)}
    starts = session.begin + STAGING_SECONDS * np.arange(int((session.end - session.begin) // STAGING_SECONDS))
    epochs = np.full(len(starts), UNKNOWN)
    for onset, duration, stage, _ in stage_spans(session.events):
        epochs[(starts >= onset) & (starts < onset + duration)] = codes.get(stage, UNKNOWN)
    return epochs


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
