"""The night report: one HTML file that says what happened in the night, from the session's folder.

Any part may be missing: a session that broke off, without recording, without decodes. What cannot be said is
left out, and the report says that it is.
"""

import logging
from pathlib import Path

from sleep_interpreter.realtime.Report import night_sections as sections
from sleep_interpreter.realtime.Report.recorded_signal import evoked, open_segments, spectrogram
from sleep_interpreter.realtime.Report.session_data import load_session
from sleep_interpreter.utils.core.paths import shown, writing
from sleep_interpreter.utils.plots import html_page

logger = logging.getLogger(__name__)

FILE = "report.html"


def write_night_report(folder):
    """Write report.html into a session's folder.

    Parameters
    ----------
    folder : str | Path

    Returns
    -------
    path : Path

    Raises
    ------
    UserError
        There is no session, or its log is damaged.
    """
    folder = Path(folder)
    session = load_session(folder)
    opened, problems = open_segments(session)
    for text in problems:
        logger.warning("%s", text)
        session.lacking.append(text)
    spectrum = spectrogram(opened, session)
    # the sleeper has heard what a live session played; a file holds responses to its own cues only
    heard = session.live or session.setting("cues.mode") == "recorded"
    responses = {}
    for name, kind in (("cues", "cue"), ("shams", "sham")):
        onsets = [cue["seconds"] for cue in session.cues(kind)]
        found = evoked(opened, onsets) if heard and onsets else None
        if found is not None:
            responses[name] = found
    kind = {True: "simulated recording", False: None, None: "simulated or not: unknown"}[session.simulated]
    parts = [
        ("The night", sections.night(session, spectrum, kind)),
        ("Cues", sections.cues(session, kind)),
        ("Pauses", sections.pauses(session)),
        ("Phase of the slow oscillation at cues", sections.phase(session, kind)),
        ("Evoked responses", sections.responses(session, responses, heard, kind)),
        ("Decoding", sections.decoding(session, kind)),
        ("Latencies", sections.latencies(session, kind)),
        ("Signal quality", sections.quality(session, kind)),
        ("Gaps, faults and commands", sections.faults(session)),
        ("Settings and origin", sections.origin(session)),
    ]
    title = f"{sections.subject(session)}, {folder.resolve().name}"
    html = html_page.page(title, kind, parts, sections.head(session, kind))
    path = folder / FILE
    with writing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")
    logger.debug("%s written", shown(path))
    return path
