"""What a header says that MNE keeps to itself: every channel's rate, the promised length, gaps.

Layout: Kemp et al., 1992 (EDF); Kemp and Olivan, 2003 (EDF+); Schlögl, 2006 (GDF). BDF is EDF with samples of
3 bytes. In all of them a signal's samples in a data record stand at the same place.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

_FIXED = 256
_PER_CHANNEL = 256
_BEFORE_SAMPLES = 216  # bytes a signal takes before the field "samples in a data record"
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class EdfHeader:
    """The part of a header that decides how samples lie in time.

    Attributes
    ----------
    rates : tuple of float
        Hz, one a signal, in the file's order; the channels of annotations are left out.
    announced : int
        Data records the header announces; negative = it does not say.
    whole : int
        Complete data records in the file.
    record_seconds : float
        Length of a data record.
    gaps : bool
        EDF+D or BDF+D: data records need not follow each other without a gap.
    """

    rates: tuple
    announced: int
    whole: int
    record_seconds: float
    gaps: bool

    def faults(self):
        """Return what is wrong with the recording's length, as sentences."""
        found = []
        seconds, announced = self.whole * self.record_seconds, self.announced * self.record_seconds
        if self.announced < 0:
            found.append(
                f"the file was not closed properly: its header does not say how long it is, "
                f"{seconds:g} s were found"
            )
        elif self.whole < self.announced:
            found.append(
                f"the file breaks off: {announced - seconds:g} s of the {announced:g} s that its header "
                "announces are missing"
            )
        elif self.whole > self.announced:
            found.append(
                f"the file holds {seconds - announced:g} s more than the {announced:g} s that its header "
                "announces; they are used"
            )
        if self.gaps:
            found.append(
                "the header says that the recording may hold gaps (EDF+D): they are not seen here, and "
                "everything after one comes too early"
            )
        return found


def read_header(path):
    """Return the `EdfHeader` of a file that MNE has read already.

    Raises
    ------
    ValueError
        A field is no number.
    """
    path = Path(path)
    sample_bytes = 3 if path.suffix.lower() == ".bdf" else 2
    with path.open("rb") as handle:
        fixed = handle.read(_FIXED)
        count = int(_text(fixed[252:256]))
        signals = handle.read(count * _PER_CHANNEL)
    labels = [signals[16 * i : 16 * (i + 1)].strip().decode("latin-1") for i in range(count)]
    first = count * _BEFORE_SAMPLES
    samples = [int(_text(signals[first + 8 * i : first + 8 * (i + 1)])) for i in range(count)]
    record_seconds = float(_text(fixed[244:252])) or 1.0  # zero means 1 s, as MNE has it
    data_bytes = path.stat().st_size - int(_text(fixed[184:192]))
    return EdfHeader(
        rates=tuple(
            n / record_seconds for n, label in zip(samples, labels, strict=True) if label not in _ANNOTATIONS
        ),
        announced=int(_text(fixed[236:244])),
        whole=data_bytes // sample_bytes // sum(samples),
        record_seconds=record_seconds,
        gaps=_text(fixed[192:236])[:5] in ("EDF+D", "BDF+D"),
    )


def read_gdf_samples(path):
    """Return the samples that each signal of a GDF file has in a data record."""
    with Path(path).open("rb") as handle:
        (count,) = struct.unpack("<H", handle.read(_FIXED)[252:254])
        handle.seek(_FIXED + count * _BEFORE_SAMPLES)
        return struct.unpack(f"<{count}i", handle.read(4 * count))


def _text(field):
    return field.split(b"\0")[0].decode("latin-1").strip()
