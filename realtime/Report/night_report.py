"""The report in the morning: one HTML file that says what happened in the night, from the session's folder.

Any part may be missing: a session that broke off, without recording, without decodes. What cannot be said is
left out, and the report says that it is.
"""

import logging
from pathlib import Path

from sleep_interpreter.realtime.Report import night_sections as sections
from sleep_interpreter.realtime.Report.recorded_signal import evoked, open_segments, spectrogram
from sleep_interpreter.realtime.Report.session_data import load
from sleep_interpreter.utils.core.paths import shown, writing
from sleep_interpreter.utils.plots import html_page

logger = logging.getLogger(__name__)

FILE = "report.html"


def write_morning_report(folder):
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
    morning = load(folder)
    opened, problems = open_segments(morning)
    for text in problems:
        logger.warning("%s", text)
        morning.lacking.append(text)
    spectrum = spectrogram(opened, morning)
    # the sleeper has heard what a live session played; a file holds responses to its own cues only
    heard = morning.live or morning.setting("cues.mode") == "recorded"
    responses = {}
    for name, kind in (("cues", "cue"), ("shams", "sham")):
        onsets = [cue["seconds"] for cue in morning.cues(kind)]
        found = evoked(opened, onsets) if heard and onsets else None
        if found is not None:
            responses[name] = found
    kind = {True: "simulated recording", False: None, None: "simulated or not: unknown"}[morning.simulated]
    parts = [
        ("The night", sections.night(morning, spectrum, kind)),
        ("Cues", sections.cues(morning, kind)),
        ("Pauses", sections.pauses(morning)),
        ("Phase of the slow oscillation at cues", sections.phase(morning, kind)),
        ("Evoked responses", sections.responses(morning, responses, heard, kind)),
        ("Decoding", sections.decoding(morning, kind)),
        ("Latencies", sections.latencies(morning, kind)),
        ("Signal quality", sections.quality(morning, kind)),
        ("Gaps, faults and commands", sections.faults(morning)),
        ("Settings and origin", sections.origin(morning)),
    ]
    title = f"{sections.subject(morning)}, {folder.resolve().name}"
    html = html_page.page(title, kind, parts, sections.head(morning, kind))
    path = folder / FILE
    with writing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")
    logger.debug("%s written", shown(path))
    return path
