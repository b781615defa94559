"""Annotations that call a stretch of a recording bad: which they are, and from when to when."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.signal.gaps import without_kind

if TYPE_CHECKING:
    import mne

_BREAKS = (
    r"(?:recording|acquisition|data)[ _]*(?:is )?(?:paused?|resumed?|stopp?(?:ed|s)?|start(?:ed|s)?|end(?:ed|s)?"
    r"|interrupted|lost|loss|missing|gap)",
    r"(?:start|stop|end|pause|resume|restart)[ _]*(?:of )?(?:the )?(?:recording|acquisition)",
    r"(?:aufnahme|aufzeichnung|messung|ableitung|enregistrement|grabaci[oó]n|registrazione|opname)[ _]*"
    r"(?:(?:ist |wurde |en |in |est )?(?:pausiert|pause|pausada|pausa|gestoppt|angehalten|unterbrochen|beendet"
    r"|fortgesetzt|arrêtée?|interrompue?|interrumpida|interrotta|gepauzeerd|gestopt))",
    r"(?:recording )?(?:pause[ds]?|breaks?|break[ _]cnt|unterbrechung|interruption|discontinuity)",
)
_FAULTS = (
    r"(?:signal|samples?|lost)[ _]*(?:lost|loss|samples?|data|dropouts?)|drop-?outs?",
    r"(?:electrodes?|leads?|head ?box|jack ?box|cables?)[ _]*(?:is |are )?(?:off|loose|disconnected|unplugged"
    r"|pop(?:s|ped|ping)?)",
    r"(?:amp(?:lifier)? |buffer |signal |eeg )?(?:saturat(?:ed|ion)|clipp(?:ed|ing)|over(?:load|flow|range))",
    r"impedances?[ _-]*(?:check|test|measurement)?|calibration",
    r"(?:gross |large |body )?(?:movements?|motion|bewegung|beweging|mouvement|movimento|movimiento)(?: time)?",
    r"reject(?:ed)?|excluded?|mt|(?:eeg |signal )?(?:noise|noisy)",
    r"(?:invalid|unusable|ungültig|unbrauchbar|inutilisable)(?: (?:data|eeg|signal|segments?|epochs?))?",
    r"out of bed|(?:toilet|bathroom|wc|toilette)(?: (?:break|visit))?",
)
_NONE = (
    r"art[eiéè]fa\w*\W+(?:none|nil|no|not present|absent|keine?|aucun|0)$"
    r"|\b(?:no|not an?|without|ohne|keine?) art|art[eiéè]fa\w*?[ -]?(?:free|frei)"
)
_OTHER = (
    r"[cs][ap]?o2|\bph\b|temperature|pressure|resp|flow|thora|abdo|pleth|position"
    r"|snor|\bplms?\b|\bhr\b|heart ?rate|\blegs?\b|tibial"
)
"""Of breathing, blood, posture, heart rate, legs."""
_KIND = r"(?:(?:comment|new segment|annotation|event|note|user)/)?"  # what readers put before a text
_STARTS = "starts?|begins?|beginning|beginn|anfang|onset|on|début|debut|inicio|inizio|begint"
_ENDS = "ends?|stops?|ende|offset|off|fin|fine|einde|eind"
_WHERE = r"(?:starts?|begins?|beginn|anfang|ends?|stops?|ende|début|debut|fin|inicio|inizio|fine|einde)"
STANDARD = "|".join(
    (
        r"(?i)bad.*",  # what MNE rejects
        r"(?!.*bad_channel)(?:.*/)?bad(?:[ _/:-].*)?",
        r"(?:(?:stimulus|marker)/)?(?:edge boundary|boundary)|-99",  # splices: MNE, EEGLAB, ERPLAB
        rf"{_KIND}(?:edge boundary|boundary)",
        rf"(?!.*bad_channel)(?!.*(?:{_NONE}|{_OTHER})).*art[eiéè]fa.*",
        rf"{_KIND}(?:{_WHERE}(?: of)? )?(?:{'|'.join((*_BREAKS, *_FAULTS))})(?:[ _]*(?:[\d:,(-].*|{_WHERE}))?",
    )
)
"""What `rejection.annotations` = standard means: what MNE rejects by itself, splices, breaks, and scorers' marks of
artefacts in a text of its own. Artefacts of breathing and oxygen are none of the EEG's."""
_EDGE = f"{_STARTS}|{_ENDS}"
_PAIRED = re.compile(
    rf"(?:(?P<first>{_EDGE})[ _/:-]+(?:of )?(?P<after>.+)|(?P<before>.+?)[ _/:-]+(?P<last>{_EDGE}))", re.IGNORECASE
)
_NO_PAIR = re.compile(r"recording|acquisition|electrode|lead|box|cable", re.IGNORECASE)  # good from start to end
_PAUSED = re.compile(rf"{_KIND}(?:recording )?(?:paused?|break|unterbrechung|aufnahme pausiert)", re.IGNORECASE)
_GOES_ON = re.compile(
    rf"{_KIND}(?:recording )?(?:continued?|continues|resumed?|resumes|weiter|fortsetzung|aufnahme fortgesetzt)",
    re.IGNORECASE,
)


def bad_spans(
    annotations: "mne.Annotations", pattern: str | None, first_time: float, where: str = "the recording",
    is_event: Callable[[str], bool] | None = None,
) -> np.ndarray:  # fmt: skip
    """Return (start, stop) in s from the first sample of the annotations that make trials bad, array (n, 2).

    Two marks without length that say where something starts and where it ends ("artefact start", "artefact end") are
    one span; one of them without the other is a `UserError`. A pause without length lasts until the recording is said
    to go on, if that is said. `is_event` tells texts that are an event of the experiment and no mark. EEGLAB's
    "boundary" is a moment: its duration is that of what was cut out there.
    """
    if pattern is None:
        return np.zeros((0, 2))
    breaks = list[tuple[float, bool]]()
    found, edges = list[tuple[float, float]](), dict[str, list[tuple[float, bool, str]]]()
    for o, d, text in zip(annotations.onset, annotations.duration, map(str, annotations.description), strict=True):
        if pattern == STANDARD and not d and (_PAUSED.fullmatch(text.strip()) or _GOES_ON.fullmatch(text.strip())):
            breaks.append((float(o) - first_time, bool(_PAUSED.fullmatch(text.strip()))))
        if not re.fullmatch(pattern, text.strip()) or (is_event is not None and is_event(text.strip())):
            continue
        onset, length = float(o) - first_time, 0.0 if without_kind(text).casefold() == "boundary" else float(d)
        pair = _PAIRED.fullmatch(text.strip()) if not length and not _NO_PAIR.search(text) else None
        if pair is None:
            found.append((onset, onset + length))
        else:
            word = (pair["first"] or pair["last"]).casefold()
            own = edges.setdefault((pair["after"] or pair["before"]).casefold(), [])
            own.append((onset, bool(re.fullmatch(_ENDS, word)), text))
    breaks.sort()
    found += [(one[0], other[0]) for one, other in pairwise(breaks) if one[1] and not other[1]]
    for own in edges.values():
        own.sort()
        starts, ends = own[::2], own[1::2]
        wrong = next((mark for k, mark in enumerate(own) if mark[1] != bool(k % 2)), None)
        if wrong is not None or len(starts) != len(ends):
            onset, ends_something, text = wrong or own[-1]
            lacks = "start before" if ends_something else "end after"
            raise UserError(
                f"{where}: annotation {text!r} at {onset:.2f} s has no {lacks} it; mend the marks, or name others in "
                "rejection.annotations"
            )
        found += [(start[0], end[0]) for start, end in zip(starts, ends, strict=True)]
    return np.array(sorted(found), float).reshape(-1, 2)
