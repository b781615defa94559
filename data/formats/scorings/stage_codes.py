"""What stages are called, and the numbers that stand for them."""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np

from sleep_interpreter.utils.core.constants import N2, N3, REM, STAGES, UNKNOWN, WAKE
from sleep_interpreter.utils.core.errors import UserError

UNSCORED = UNKNOWN
"""Code of what nobody scored, or of movement time."""
_NAMES = {
    **dict.fromkeys(("w", "wake", "awake", "s0", "sleep-s0", "sleep-wake", "stage w", "w/n1", "wk", "awa"), WAKE),
    **dict.fromkeys(("wach", "éveil", "eveil", "wakefulness"), WAKE),
    **dict.fromkeys(("n1", "s1", "nrem1", "nrem 1", "sleep-s1", "sleep-n1", "stage 1", "1 sleep"), WAKE),
    **dict.fromkeys(("n2", "s2", "nrem2", "nrem 2", "sleep-s2", "sleep-n2", "stage 2", "2 sleep"), N2),
    **dict.fromkeys(("n3", "s3", "nrem3", "nrem 3", "sleep-s3", "sleep-n3", "stage 3", "3 sleep", "sws"), N3),
    **dict.fromkeys(("n4", "s4", "nrem4", "nrem 4", "sleep-s4", "stage 4", "4 sleep"), N3),
    **dict.fromkeys(("r", "rem", "sleep-rem", "sleep-r", "stage r", "stage rem", "rem sleep"), REM),
    **dict.fromkeys(("?", "m", "mt", "movement", "movement time", "art", "artefact", "artifact", "bewegung"), UNSCORED),
    **dict.fromkeys(("uns", "unscored", "unknown", "unknownstage", "sleep-unscored", "sleep-mt", "artefakt"), UNSCORED),
    **dict.fromkeys(("lights", "l", "no stage", "not scored", "out_of_bounds", "sleep-unknown"), UNSCORED),
    **dict.fromkeys(("-1", "-2", "9", "nan", "n/a", ""), UNSCORED),
}  # fmt: skip
"""AASM, R&K (Rechtschaffen and Kales, 1968; S3, S4 are N3), Sleep-EDF, YASA, RemLogic, DOMINO, U-Time; lower case."""
_RK: Mapping[int, int] = {0: WAKE, 1: WAKE, 2: N2, 3: N3, 4: N3, 5: REM, 6: UNSCORED}
_YASA: Mapping[int, int] = {0: WAKE, 1: WAKE, 2: N2, 3: N3, 4: REM}
NUMBERINGS: dict[str, Mapping[int, int]] = {"rk": _RK, "yasa": _YASA}
"""What `stages.numbers` may say numbers mean."""
_READINGS: tuple[tuple[str, str, Mapping[int, int]], ...] = (
    ("4 = S4, 5 = REM", "stages.numbers=rk", _RK),
    ("4 = REM", "stages.numbers=yasa", _YASA),
    ("4 = REM, 5 = not scored", 'stages.numbers=yasa "stages.names={5: unscored}"', {**_YASA, 5: UNSCORED}),
    (
        "0 and 1 = N3, 2 = N2, 3 = N1, 4 = REM, 5 = wake", '"stages.names={0: N3, 1: N3, 2: N2, 3: N1, 4: R, 5: W}"',
        {0: N3, 1: N3, 2: N2, 3: WAKE, 4: REM, 5: WAKE},
    ),
    (
        "1 = wake, 2 = N1, 3 = N2, 4 = N3, 5 = REM", '"stages.names={1: W, 2: N1, 3: N2, 4: N3, 5: R}"',
        {1: WAKE, 2: WAKE, 3: N2, 4: N3, 5: REM},
    ),
)  # fmt: skip
"""Numberings in use that give numbers another meaning: in words, the setting that says so, {number: code}."""
_TO_3: tuple[tuple[str, str, Mapping[int, int]], ...] = (
    ("1 = N1, 2 = N2, 3 = N3", "stages.numbers=rk", _RK),
    (
        "1 = light sleep, 2 = deep sleep, 3 = REM", '"stages.names={0: W, 1: N2, 2: N3, 3: R}"',
        {0: WAKE, 1: N2, 2: N3, 3: REM},
    ),
    (
        "1 = REM, 2 = light sleep, 3 = deep sleep", '"stages.names={0: W, 1: R, 2: N2, 3: N3}"',
        {0: WAKE, 1: REM, 2: N2, 3: N3},
    ),
)  # fmt: skip
"""What 0 to 3 mean: a night without REM, or four stages as wearables and short scorings have them."""
_BESIDE_REM: tuple[tuple[str, str, Mapping[int, int]], ...] = (
    ("1 = N1, 2 = N2, 3 and 4 = N3", "stages.numbers=rk", _RK),
    (
        "1 = wake, 2 = N1, 3 = N2, 4 = N3", '"stages.names={1: W, 2: N1, 3: N2, 4: N3}"',
        {0: WAKE, 1: WAKE, 2: WAKE, 3: N2, 4: N3},
    ),
    ("3 = N1, 2 = N2, 1 = N3", '"stages.names={3: N1, 2: N2, 1: N3}"', {0: WAKE, 3: WAKE, 2: N2, 1: N3}),
)  # fmt: skip
"""What 0 to 4 mean where REM, or wake and no more, has a name."""
_PREFIXED = re.compile(r"(?:(?:sleep[ _-]?)?stage[/ _:-]*|s)([0-4])")
"""A number behind a word that tells nothing about its meaning."""
_NUMBER = re.compile(r"\d{1,3}")
"""A code; a line of more digits holds several."""


def known(name: str) -> int | None:
    """Return the code of a stage's name, None where it is none; a bare number is none (but -1, -2, 9: not scored)."""
    name = _whole(name)
    folded = _folded(name)
    found = _NAMES.get(name.casefold(), _NAMES.get(folded))
    if found is None and folded in ("0", "1", "2", "3", "4") and not _NUMBER.fullmatch(name):  # after "Sleep stage"
        found = _RK[int(folded)]
    return found


def stage_codes(
    names: Sequence[str], seconds: Sequence[float], where: str, numbers: str = "auto",
    meanings: Mapping[str, str] | None = None,
) -> list[int]:  # fmt: skip
    """Return the codes of stages as a file writes them, each of which lasts so many seconds.

    `meanings` says what some of them mean, {as written: W, N1, N2, N3, R or unscored}. `numbers` is the numbering of
    the rest (`NUMBERINGS`), or "auto": the file has to tell. Refuses a stage that nobody knows, and numbers that mean
    different stages in different numberings, with the minutes that each of these would give.
    """
    given = {_plain(written): meaning_of(stage) for written, stage in (meanings or {}).items()}
    prefixed = _unclear_behind_words(list(dict.fromkeys(names)), given)
    codes: dict[str, int | None] = {
        name: given.get(str(prefixed[name])) if name in prefixed else given.get(_plain(name), known(name))
        for name in dict.fromkeys(names)
    }
    bare = {
        name: prefixed[name] if name in prefixed else int(_whole(name))
        for name in codes
        if codes[name] is None and (name in prefixed or _NUMBER.fullmatch(_whole(name)))
    }
    if bare:
        numbering = NUMBERINGS.get(numbers) or _numbering(names, seconds, bare, codes, where)
        for name, number in bare.items():
            codes[name] = numbering.get(number)
    if unknown := next((name for name, code in codes.items() if code is None), None):
        what = "is none of stages.numbers = " + numbers if unknown in bare else "is no sleep stage that is known here"
        raise UserError(
            f"{where}: {unknown!r} {what}; say what it means with stages.names, "
            f'"stages.names={{{unknown!r}: N2}}" (W, N1, N2, N3, R or unscored)'
        )
    return [code for name in names if (code := codes[name]) is not None]


def _unclear_behind_words(names: Sequence[str], given: Mapping[str, int]) -> dict[str, int]:
    """Return the numbers of stages "Stage 0" to "Stage 4", S0 to S4 whose meaning their words do not tell; else none.

    With wake as W they are R&K's, and with REM by its name there is no doubt of 4.
    """
    rest = [name for name in names if _plain(name) not in given]
    found = {name: int(match[1]) for name in rest if (match := _PREFIXED.fullmatch(name.strip().casefold()))}
    others = {given.get(_plain(name), known(name)) for name in names if name not in found}
    return found if 4 in found.values() and not others & {WAKE, REM} else {}


def meaning_of(stage: str) -> int:
    """Return the code of a stage as `stages.names` writes it; a ValueError where it is none."""
    code = known(str(stage))
    if code is None:
        raise ValueError(f"{stage!r} is no stage: W, N1, N2, N3, R or unscored")
    return code


def minutes(codes: Sequence[int], seconds: Sequence[float]) -> str:
    """Return the minutes of each stage in words: "W/N1 60, N2 30.5, N3 20, R 0; not scored 2"."""
    code, length = np.asarray(codes, int), np.asarray(seconds, float)
    sums = [f"{stage} {length[code == k].sum() / 60:g}" for k, stage in enumerate(STAGES)]
    rest = length[code == UNSCORED].sum() / 60
    return ", ".join(sums) + (f"; not scored {rest:g}" if rest else "")


def _numbering(
    names: Sequence[str], seconds: Sequence[float], bare: Mapping[str, int], codes: Mapping[str, int | None], where: str
) -> Mapping[int, int]:
    """Return the only numbering that numbers can be of, or refuse several."""
    found = set(bare.values())
    wake = 0 in found or WAKE in codes.values()
    down = _counts_down(names, bare, codes)
    rem = REM in codes.values()  # by a name or a setting, so that no number is REM
    first = 1 in found or any(known(name) == WAKE and "1" in name for name in codes)
    if rem and (5 in found or found == {0} or (wake and first and not down)):
        return {number: code for number, code in _RK.items() if code != REM}
    unscored = any(code == UNSCORED and _whole(name) in ("-1", "-2", "9") for name, code in codes.items())
    told = any(
        name not in bare and (code != UNSCORED or _whole(name) in ("-2", "9")) for name, code in codes.items()
    )  # a stage by its name, YASA's artefact, NSRR's unscored
    four = 0 in found and found <= {0, 1, 2, 3} and len(found) > 1 and not told
    doubtful = rem or (down and found <= {0, 1, 2, 3} and not four)
    clear = wake and not (four or doubtful)
    if clear and (found <= {0, 1, 2, 3} or (found <= {0, 1, 2, 3, 5} and unscored)):
        return _RK
    possible = _TO_3 if four else _BESIDE_REM if doubtful else _READINGS
    readings: dict[tuple[int | None, ...], str] = {}
    for words, setting, numbering in possible:
        if found <= set(numbering):
            guess = [numbering[bare[n]] if n in bare else codes[n] for n in names]
            sums = minutes([UNSCORED if code is None else code for code in guess], seconds)
            readings.setdefault(tuple(guess), f"{words}: {sums} min ({setting})")
    if len(readings) == 1:
        return next(numbering for _, _, numbering in possible if found <= set(numbering))
    listed = _listed(found)
    if not readings:
        raise UserError(f"{where}: stages are the numbers {listed}, a numbering nobody knows; say it with stages.names")
    raise UserError(
        f"{where}: stages are the numbers {listed}, which mean different stages in different programs; "
        f"say which: {'; or '.join(readings.values())}"
    )


def _counts_down(names: Sequence[str], bare: Mapping[str, int], codes: Mapping[str, int | None]) -> bool:
    """Tell whether 3 or 4 follows wake, and 1 never does: then 1 hardly is N1."""
    awake = [bare.get(name) == 0 or (codes[name] == WAKE and "1" not in name) for name in names]
    after = {bare.get(b) for was, (_, b) in zip(awake, pairwise(names), strict=False) if was}
    return 1 not in after and bool(after & {3, 4})


def _listed(found: Collection[int]) -> str:
    return ", ".join(map(str, sorted(found)))


def _plain(name: str) -> str:
    """Return a stage as `stages.names` is compared with it: "4.0" is 4."""
    whole = _whole(name).casefold()
    return str(int(whole)) if _NUMBER.fullmatch(whole) else whole


def _whole(name: str) -> str:
    """Return a stage's name without blanks around it; a whole number as such: "-1.0" and "-1,0" are -1."""
    return re.sub(r"(?<=\d)[.,]0*$", "", name.strip())


def _folded(name: str) -> str:
    """Return a stage's name in lower case without "Sleep stage" and the like before it."""
    return re.sub(r"^(sleep[ _-]?)?stage[/ _:-]*", "", name.casefold()).strip() or name
