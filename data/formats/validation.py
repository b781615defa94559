"""What every reader checks: that files are there, and that labels and signals are what they should be.

`where` is the place named in a message: file and record or trial.
"""

import logging
import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sleep_interpreter.utils.core.data_card import FILE, DataCard, published
from sleep_interpreter.utils.core.errors import UserError, did_you_mean
from sleep_interpreter.utils.core.paths import named_in_text
from sleep_interpreter.utils.core.safe_pickle import HOW_TO_SIMULATE, read_pickle
from sleep_interpreter.utils.signal.preprocessing import CLIP
from sleep_interpreter.utils.signal.trial_ends import FILLED_UP, valid_lengths

log = logging.getLogger(__name__)

_Container = TypeVar("_Container", list[Any], dict[Any, Any])


def find(folder: str | Path, pattern: str, what: str) -> list[Path]:
    """Return the files in `folder` that match `pattern` in natural order; a `UserError` if there is none."""
    files = sorted(named_in_text(p for p in Path(folder).glob(pattern) if p.is_file()), key=natural)
    if not files:
        raise UserError(f"no {what} found: there is no {folder}/{pattern}; {HOW_TO_SIMULATE}")
    return files


def subject_files(folder: str | Path, pattern: str, what: str) -> list[Path]:
    """Return the files in `folder` that match `pattern`, one a subject, as `find` does."""
    return one_file_a_subject(find(folder, pattern, what))


def one_file_a_subject(files: list[Path]) -> list[Path]:
    """Refuse a second file of one subject: counted twice, it would pass for another subject."""
    seen: dict[str, Path] = {}
    for file in files:
        name = subject_name(file)
        if name in seen:
            raise UserError(f"{file} and {seen[name]} are both of {name}; remove one of them")
        seen[name] = file
    return files


def read_container(file: Path, kind: type[_Container], content: str = "") -> _Container:
    """Return the list or dict that a pickle holds, its entries unchecked.

    `content` says in a message what it is a list or dict of, e.g. " of trials".
    """
    found = read_pickle(file)
    if not isinstance(found, kind):
        raise UserError(f"{file}: expected a {kind.__name__}{content}, found {type(found).__name__}")
    return found


def natural(path: str | Path) -> list[tuple[int, str]]:
    """Sort key that puts subject_test_2 before subject_test_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def subject_name(path: str | Path) -> str:
    """Return the subject a file belongs to by its own name or its folder's, else the file's stem."""
    path = Path(path)
    for text in (path.stem, path.parent.name):
        found = re.search(r"subject_(test_)?\d+", text)
        if found:
            return found.group()
    return path.parent.name if path.parent.name.startswith("subject") else path.stem


def one_hot(values: Any, where: str, field: str) -> np.ndarray:
    """Return `values` when they are one-hot, else raise a `UserError`."""
    values = np.asarray(values)
    if not (np.isin(values, (0, 1)).all() and values.sum() == 1):
        raise UserError(f"{where}, field {field!r}: expected a one-hot label, found {values.tolist()}")
    return values


def brief(value: Any) -> str:
    """Return what a message shows of an unexpected value, whatever it is, in a few words."""
    if isinstance(value, np.ndarray) and value.size > 32:
        return f"{value.dtype} array {value.shape}"
    return " ".join(reprlib.repr(value).split())


def unwrapped(value: Any) -> Any:
    """Return the text inside a 0-dimensional array (which some exporters write), else the value itself."""
    return value.item() if isinstance(value, np.ndarray) and value.shape == () else value


def card_remark(card: DataCard) -> str:
    """Return what a refusal says of the card that a file disagrees with."""
    if card == published():
        return f"without a {FILE} in its folder a data set is taken for the published experiment's"
    return (
        f"{FILE} says {len(card.items)} items, {len(card.channels)} channels, {card.sleep_samples} samples asleep and "
        f"{card.awake_samples} awake"
    )


def item_index(category: Any, card: DataCard, where: str) -> int:
    """Return the class index of a trial's category: an item's name or a one-hot vector (15,).

    A bare number is refused: nobody could tell whether it counts from 0 or from 1.
    """
    category = unwrapped(category)
    if isinstance(category, str):
        try:
            return card.item_index(category)
        except ValueError as error:
            raise UserError(f"{where}, field 'category': {error}") from None
    try:
        values = np.asarray(category)
    except (ValueError, TypeError, OverflowError):  # lists of unequal length
        values = np.empty(0, object)
    if values.shape != (len(card.items),) or values.dtype.kind not in "biuf":
        remark = f"; {card_remark(card)}" if values.ndim == 1 and values.dtype.kind in "biuf" else ""
        raise UserError(
            f"{where}, field 'category': expected a one-hot label of {len(card.items)} or an item's name, "
            f"found {brief(category)}{remark}"
        )
    return int(one_hot(values, where, "category").argmax())


def part_of(trial: Any, parts: Iterable[str], where: str) -> str:
    """Return a trial's `data_type`, which has to be one of `parts`."""
    part = unwrapped(entry(trial, "data_type", where))
    if not isinstance(part, str) or part not in parts:
        raise UserError(f"{where}, field 'data_type': expected {' / '.join(parts)}, found {brief(part)}")
    return str(part)


def entry(trial: Any, key: str, where: str) -> Any:
    """Return `trial[key]`, or raise a `UserError` that names the nearest key there is."""
    if not isinstance(trial, dict):
        raise UserError(f"{where}: expected a dict, found {type(trial).__name__}")
    if key not in trial:
        hint = did_you_mean(key, trial, f"it holds {', '.join(map(str, trial))}")
        raise UserError(f"{where}: no field {key!r}; {hint}")
    return trial[key]


def signal(
    trial: Any, key: str, shape: tuple[int, ...], where: str, gaps: bool = False, card: DataCard | None = None
) -> np.ndarray:
    """Return a trial's signals as float32 of `shape`, finite unless `gaps`, or raise a `UserError`.

    `card` is the one that the shape comes from.
    """
    values = entry(trial, key, where)
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        found = f"{values.dtype} array" if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(f"{where}, field {key!r}: expected an array of floats, found {found}")
    if values.shape != tuple(shape):
        remark = "" if card is None else f"; {card_remark(card)}"
        raise UserError(f"{where}, field {key!r}: expected shape {tuple(shape)}, found {values.shape}{remark}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused as that
        values = values.astype(np.float32, copy=False)
    return values if gaps else finite(values, where, key)


def sleep_signal(trial: Any, key: str, where: str, card: DataCard) -> np.ndarray:
    """Return a sleep trial's signals as `signal` does, finite as far as `finite_sleep` says."""
    return finite_sleep(signal(trial, key, card.sleep_shape, where, gaps=True, card=card), where, key, card)


def finite_sleep(values: np.ndarray, where: str, field: str, card: DataCard) -> np.ndarray:
    """Return a sleep trial (C, T) when it is finite up to its end, else raise a `UserError`.

    The end is that of the window, or where the card has trials of unequal length the NaN in all channels behind it.
    """
    if np.isfinite(values).all():
        if card.varying_lengths and not values[:, -FILLED_UP:].any():
            raise UserError(
                f"{where}, field {field!r}: zeros in all channels at the end of the trial; behind the end of a shorter "
                "trial NaN has to stand, so that nobody takes zeros for EEG"
            )
        return values
    length = int(valid_lengths(values.T))
    if not length or not np.isfinite(values[:, :length]).all():
        return finite(values[:, : length or None], where, field)  # which refuses it
    ends = f"{where}, field {field!r}: the trial ends after {length} of {values.shape[1]} samples (NaN in all channels)"
    if not card.varying_lengths:
        raise UserError(f"{ends}; trials of unequal length need windows.sleep.earliest_end in {FILE}")
    if length < card.shortest_samples:
        raise UserError(
            f"{ends}, {FILE} says {card.shortest_samples} at least; leave it out, or correct windows.sleep.earliest_end"
        )
    return values


def finite(values: np.ndarray, where: str, field: str) -> np.ndarray:
    """Return `values` when every one is finite, else raise a `UserError`."""
    if not np.isfinite(values).all():
        bad = int(np.size(values) - np.isfinite(values).sum())
        raise UserError(f"{where}, field {field!r}: {bad} of {np.size(values)} values are NaN or infinite")
    return values


def warn_of_scale(file: Path, largest: float) -> bool:
    """Log a warning, and return True, when the largest absolute value of a file's sleep trials is beyond the range."""
    remark = scale_remark(largest)
    if remark:
        log.warning("%s: %s", file, remark)
    return bool(remark)


def scale_remark(largest: float) -> str:
    """Return what there is to say about a file's sleep trials by their largest absolute value, "" if it is in range.

    With an interquartile range of 1 it is at least 0.5; 0 is that of a file without trials.
    """
    if largest == 0 or 0.5 <= largest <= CLIP + 0.01:  # more than a rounding
        return ""
    return (
        f"its sleep trials reach {largest:.4g}; expected are robustly scaled ones within ±{CLIP:g} (median "
        "0 and interquartile range 1 in each channel), and a decoder trained on those reads no others"
    )


def left_out(file: Path, record: int, where: str, error: UserError) -> dict[str, Any]:
    """Return the entry of a list of skipped records: {"file", "record" (from 0), "reason" (without `where`)}."""
    return {"file": str(file), "record": record, "reason": str(error).removeprefix(where).lstrip(",: ")}
