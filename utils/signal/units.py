"""The V/µV trap: whether a recording's amplitude can be that of a head, and what mends it."""

from collections.abc import Mapping

import numpy as np
from scipy import signal

from sleep_interpreter.utils.core.errors import UserError

TO_MICROVOLT = {"V": 1e6, "uV": 1.0}
"""What the reader's numbers are multiplied with: MNE gives volts, some files hold µV labelled V."""
STREAM_UNITS = {"V": 1e6, "mV": 1e3, "uV": 1.0}
"""The same of a stream, whose unit can be said whatever it says itself."""
_MISTAKEN = ((1e6, "volts"), (1e3, "millivolts"))


def deviations(data: np.ndarray) -> list[float]:
    """Return the SDs of the finite rows of (channels, n) after removing their trends, as a list."""
    data = data[np.isfinite(data).all(axis=1)]
    return list(signal.detrend(data, axis=1).std(axis=1)) if data.size else []


def check(
    amplitude: float, unit: str, limits: tuple[float, float], where: str, what: str = "EEG",
    others_fit: bool = False, option: str | None = "--unit", limit: str = "limits",
    choices: Mapping[str, float] = TO_MICROVOLT,
) -> float:  # fmt: skip
    """Return an amplitude in µV, or raise a `UserError` that says what mends one that cannot be that of a head.

    It is the typical SD of 30 s in the reader's own unit, which is taken to be `unit`, one of the `choices` (what each
    is multiplied with); `limits` is the permitted range in µV; `others_fit`: other channels have passed, so that the
    unit of the whole file is right. The message names the recording (`where`), `what` of its channels, and how unit
    (`option`; None: not at all, a stream of µV) and range (`limit`) are set.
    """
    low, high = limits
    microvolts = amplitude * choices[unit]
    if low <= microvolts <= high:
        return microvolts
    stream = option is None or choices is not TO_MICROVOLT
    chosen = f", its numbers being {unit}" if stream else f" with {option} {unit}"
    found = f"{where}: the {what}'s typical SD is {microvolts:.3g} µV{chosen}, expected {low:g} to {high:g} µV"
    if stream:
        raise UserError(f"{found}; {_stream_remedy(amplitude, microvolts, limits, others_fit, option, limit, choices)}")
    other = "V" if unit == "uV" else "uV"
    corrected = amplitude * choices[other]
    if microvolts == 0:
        remedy = (
            "it is flat: check the electrode, the channel's name, and the unit in which the file was "
            "written (volts stored as whole µV become zero)"
        )
    elif low <= corrected <= high and not others_fit:
        remedy = f"with {option} {other} it would be {corrected:.3g} µV, so use that"
    elif microvolts < low / 10:
        meant = [name for factor, name in _MISTAKEN if low <= microvolts * factor <= high]
        cause = f"{meant[0]} labelled µV in the file's header" if meant else "a wrong unit in the header"
        remedy = (
            f"it is all but flat: most likely {cause}, else a dead electrode; neither {option} mends that, "
            "so correct the header"
        )
    else:
        remedy = (
            f"neither {option} mends that: check the physical unit in the file's header, "
            f"or widen {limit} if the amplitude is real"
        )
    raise UserError(f"{found}; {remedy}")


def _stream_remedy(
    amplitude: float, microvolts: float, limits: tuple[float, float], others_fit: bool, option: str | None,
    limit: str, choices: Mapping[str, float],
) -> str:  # fmt: skip
    """Return what mends the amplitude of a stream: there is no file whose header could be corrected."""
    low, high = limits
    # 1000 lie between two units, as between the limits: it must fit well to be the likely cause
    fitting = {name: found for name, factor in choices.items() if 4 * low <= (found := amplitude * factor) <= high / 2}
    if microvolts == 0:
        return "it is flat: check the electrode, the channel's name, and that the amplifier measures, not tests itself"
    if fitting and option is not None and not others_fit:
        name, corrected = next(iter(fitting.items()))
        return f"with {option}={name} it would be {corrected:.3g} µV: --set {option}={name}"
    if microvolts < low:
        return f"it is all but flat: check the electrode and the amplifier's gain, or lower {limit} if it is real"
    if others_fit:
        return f"the other channels fit: check this electrode, or widen {limit} if the amplitude is real"
    return f"check reference and ground, the amplifier's gain and unit, or widen {limit} if the amplitude is real"
