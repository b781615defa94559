"""A writer of EDF, EDF+, BDF and GDF files for the tests: any rate a channel, any unit, any header."""

import struct

import numpy as np

_TAL_BYTES = 80


def write_edf(path, channels, *, cues=(), record_seconds=1, kind="", announced=None, keep=None, pause=None):
    """Write an EDF file, or a BDF file where the path ends in .bdf.

    Parameters
    ----------
    path : Path
    channels : sequence of (str, float, array, str)
        Label, Hz, samples and their unit as the header names it; whole data records, equally long.
    cues : sequence of (float, str)
        Annotations (EDF only): seconds, text. They make it EDF+.
    record_seconds : float
    kind : str
        "EDF+C" or "EDF+D".
    announced : int | None
        Data records the header speaks of; None = the truth.
    keep : int | None
        Data records that are really written; None = all.
    pause : (int, float) | None
        Data records before a pause of so many seconds (EDF+ with `cues` only, which count it).
    """
    bdf = path.suffix == ".bdf"
    records, top = round(len(channels[0][2]) / channels[0][1] / record_seconds), 2 ** (23 if bdf else 15) - 1
    signals, rows = [], []
    for label, rate, data, unit in channels:
        count, span = round(rate * record_seconds), f"{np.abs(data).max() * 1.01 + 1e-3:.6f}"[:7]
        signals.append(np.round(np.asarray(data) / float(span) * top).astype("<i4").reshape(records, count))
        rows.append((label, unit, f"-{span}", span, count))
    if cues:
        kind = kind or "EDF+C"
        signals.append(_tals(cues, records, record_seconds, *(pause or (records, 0))))
        rows.append(("EDF Annotations", "", "-1", "1", _TAL_BYTES // 2))
    header = [
        ("\xffBIOSEMI" if bdf else "0", 8), ("X X X X", 80), ("Startdate X X X X", 80),
        ("01.01.00", 8), ("00.00.00", 8), (256 * (len(rows) + 1), 8), (kind, 44),
        (records if announced is None else announced, 8), (record_seconds, 8), (len(rows), 4),
    ]  # fmt: skip
    columns = [
        [(r[0], 16) for r in rows], [("", 80) for _ in rows], [(r[1], 8) for r in rows],
        [(r[2], 8) for r in rows], [(r[3], 8) for r in rows], [(-top, 8) for _ in rows],
        [(top, 8) for _ in rows], [("", 80) for _ in rows], [(r[4], 8) for r in rows],
        [("", 32) for _ in rows],
    ]  # fmt: skip
    fields = [*header, *(field for column in columns for field in column)]
    text = b"".join(str(value).encode("latin-1").ljust(width) for value, width in fields)
    samples = np.ascontiguousarray(np.concatenate(signals, axis=1)[:keep], "<i4")
    data = samples.view(np.uint8).reshape(*samples.shape, 4)[..., : 3 if bdf else 2]
    path.write_bytes(text + data.tobytes())
    return path


def write_gdf(path, channels, *, record_seconds=1, version="1.25", events=()):
    """Write a GDF file of 32-bit floats, version 1.25 or 2.20; channels as in `write_edf`, events (sample, type)."""
    new = version == "2.20"
    n, records = len(channels), round(len(channels[0][2]) / channels[0][1] / record_seconds)
    counts = [round(rate * record_seconds) for _, rate, _, _ in channels]
    head = f"GDF {version}".encode() + b"X X".ljust(66 if new else 80) + bytes(14 if new else 0)
    head += b"X".ljust(64) + bytes(32) + struct.pack("<H", n + 1) + bytes(50) if new else (
        b"X".ljust(80) + b"2000010100000000" + struct.pack("<q", 256 * (n + 1)) + bytes(24 + 20)
    )  # fmt: skip
    head += struct.pack("<q3I", records, record_seconds, 1, n)
    text = [b"".join(c[0].encode().ljust(16) for c in channels), bytes(80 * n)]
    text += [bytes(6 * n) + struct.pack("<H", 4275) * n if new else b"".join(c[3].encode().ljust(8) for c in channels)]
    numbers = struct.pack(f"<{n}d", *[-1e3] * n) + struct.pack(f"<{n}d", *[1e3] * n)
    whole = "d" if new else "q"
    numbers += struct.pack(f"<{n}{whole}", *[-1000] * n) + struct.pack(f"<{n}{whole}", *[1000] * n)
    tail = bytes(80 * n) + struct.pack(f"<{n}i", *counts) + struct.pack(f"<{n}i", *[16] * n) + bytes(32 * n)
    blocks = [np.asarray(c[2], "<f4").reshape(records, k) for c, k in zip(channels, counts, strict=True)]
    count = struct.pack("<I", len(events))
    marks = b"\1" + (count[:3] + struct.pack("<f", 100.0) if new else bytes(3) + count)
    marks += np.array([sample + 1 for sample, _ in events], "<u4").tobytes()
    marks += np.array([kind for _, kind in events], "<u2").tobytes()
    path.write_bytes(head + b"".join(text) + numbers + tail + np.concatenate(blocks, axis=1).tobytes() + marks)
    return path


def _tals(cues, records, record_seconds, before, pause):
    rows = np.zeros((records, _TAL_BYTES), np.uint8)
    for k in range(records):
        begin = k * record_seconds + (pause if k >= before else 0)
        text = f"+{begin:.15g}\x14\x14\0"
        for onset, words in cues:
            if begin <= onset < begin + record_seconds:
                text += f"+{onset:g}\x14{words}\x14\0"
        found = np.frombuffer(text.encode(), np.uint8)
        rows[k, : found.size] = found
    return rows.view("<i2").astype("<i4")
