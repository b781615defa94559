"""An LSL outlet that stands in for an amplifier, for rehearsals, the soak test and the tests.

  python -m sleep_interpreter.realtime.Setup.stand_in_amplifier --source-id amp1 --session-id trial

streams a counter and noise; with `--file night.npz` (names, rate, data in µV) what the file holds, over and
over. With `--markers ID` it takes the markers of that LSL stream as triggers, into its channel TRIGGER.
A line on standard input is a command: `lose N` (chunks that are not pushed), `stall S` (pushes nothing for S
seconds, then the backlog at once), `jump S` (stamps jump by S seconds), `off X` (from now on the rate is off by a
share X), `quit`.
"""

import argparse
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from any directory

import numpy as np


def main(argv: Sequence[str] | None = None) -> int:
    """Stream until the end, or until told to quit."""
    args = _arguments(argv)
    from sleep_interpreter.realtime.Utils.liblsl import clock_offset, configure  # lazy: start-up

    configure(True, args.session_id)
    from mne_lsl.lsl import StreamInfo, StreamOutlet, local_clock  # lazy: optional dependency

    names, rate, data = _signal(args)
    info = StreamInfo(args.name, "EEG", len(names), rate, "float32", args.source_id)
    info.set_channel_names(names)
    info.set_channel_units([args.unit] * len(names))
    outlet = StreamOutlet(info, max_buffered=360)
    if args.wait:
        outlet.wait_for_consumer(timeout=60)
    commands: deque[str] = deque()
    threading.Thread(target=lambda: commands.extend(line.strip() for line in sys.stdin), daemon=True).start()
    rng = np.random.default_rng(0)
    size, sent, lose, shift = max(1, round(args.chunk * rate)), 0, 0, 0.0
    offset = clock_offset()
    began = time.perf_counter()
    clock = began - offset
    true, since = rate * args.speed * (1 + args.off), 0  # samples a second, from that sample on
    triggers = _Triggers(args.markers, names, offset) if args.markers else None
    zero = time.time() if args.stamps == "unix" else clock
    total = round(args.seconds * rate)
    print("streaming", flush=True)
    while sent < total:
        due = began + (sent + size - since) / true + args.delay
        while time.perf_counter() < due:
            time.sleep(min(0.002, max(0.0, due - time.perf_counter())))
        while commands:
            word, *value = commands.popleft().split()
            if word == "quit":
                return 0
            lose += int(value[0]) if word == "lose" else 0
            shift += float(value[0]) if word == "jump" else 0.0
            if word == "stall":
                time.sleep(float(value[0]))
            if word == "off":
                began, since, true = began + (sent - since) / true, sent, rate * args.speed * (1 + float(value[0]))
        block = data(sent, size)
        if triggers is not None:
            triggers.put_into(block, began + (sent - since) / true, true)
        # of the newest sample, on the amplifier's own clock, or when the block is sent, as many programs do
        stamp = (local_clock() if args.stamps == "sent" else zero + (sent + size - 1) / rate) + shift
        stamp = 1.0 if args.stamps == "same" else stamp
        if args.jitter:
            stamp += float(rng.uniform(-args.jitter, args.jitter))
        if lose > 0 or (args.loss and rng.random() < args.loss):
            lose = max(0, lose - 1)
        else:
            outlet.push_chunk(np.ascontiguousarray(block, np.float32), timestamp=stamp)
        sent += size
    time.sleep(0.5)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--name", default="Outlet")
    add("--source-id", default="outlet")
    add("--session-id", default="default")
    add("--file", type=Path, help=".npz with names, rate and data (channels, n) in µV")
    add("--count", action="store_true", help="the file's first channel gives way to a counter")
    add("--channels", type=int, default=64)
    add("--unit", default="uv", help="what the stream calls it; the numbers stay")
    add("--prefix", default="E", help="of the channels' names")
    add("--rate", type=float, default=500.0)
    add("--seconds", type=float, default=60.0)
    add("--chunk", type=float, default=0.02, help="seconds pushed at a time")
    add("--delay", type=float, default=0.0, help="s from sample to sending, as an amplifier's buffer")
    add("--loss", type=float, default=0.0, help="share of chunks that are not pushed")
    add("--jitter", type=float, default=0.0, help="s, by which stamps are off at random")
    add("--off", type=float, default=0.0, help="share by which the rate is off what the stream says")
    add("--stamps", choices=["counted", "unix", "sent", "same"], default="counted", help="from where the stamps are")
    add("--markers", help="source_id of the LSL stream whose codes are written into the channel TRIGGER")
    add("--speed", type=float, default=1.0, help="pushed this much faster than its stamps say, for tests")
    add("--wait", action="store_true", help="begin when somebody listens")
    return parser.parse_args(argv)


class _Triggers:
    """Take the codes of a marker stream, and put each into the sample that is taken when it comes."""

    def __init__(self, source_id: str, names: Sequence[str], offset: float) -> None:
        self._row, self._offset = list(names).index("TRIGGER"), offset  # of LSL's clock to perf_counter
        self._codes: deque[tuple[int, float]] = deque()
        threading.Thread(target=self._listen, args=(source_id,), daemon=True).start()

    def _listen(self, source_id: str) -> None:
        from mne_lsl.lsl import StreamInlet, resolve_streams  # lazy: optional dependency

        found: list[Any] = []
        while not found:
            found = resolve_streams(timeout=1.0, source_id=source_id)
        inlet = StreamInlet(found[0], max_buffered=60)
        inlet.open_stream(timeout=10)
        while True:
            code, stamp = inlet.pull_sample(timeout=1.0)
            if stamp is not None:
                self._codes.append((int(code[0]), stamp + self._offset))

    def put_into(self, block: np.ndarray, first: float, rate: float) -> None:
        """Write the codes into a block (n, channels) whose first sample was taken at that time of perf_counter."""
        block[:, self._row] = 0
        waiting = [self._codes.popleft() for _ in range(len(self._codes))]
        for code, at in waiting:
            sample = max(0, round((at - first) * rate))
            if sample < len(block):
                block[sample, self._row] = code
            else:
                self._codes.append((code, at))


def _signal(args: argparse.Namespace) -> tuple[list[str], float, Callable[[int, int], np.ndarray]]:
    """Return names, rate, and data(first, count) -> (count, channels)."""
    if args.file is not None:
        with np.load(args.file, allow_pickle=False) as content:
            data, names, rate = content["data"], [str(n) for n in content["names"]], float(content["rate"])

        def played(first: int, count: int) -> np.ndarray:
            block = data[:, np.arange(first, first + count) % data.shape[1]].T.copy()
            if args.count:
                block[:, 0] = np.arange(first, first + count) % 2**22
            return block

        return names, rate, played
    names = ["COUNTER", *(f"{args.prefix}{k:02d}" for k in range(1, args.channels))]
    noise = 20 * np.random.default_rng(1).standard_normal((5000, args.channels)).astype(np.float32)

    def block(first: int, count: int) -> np.ndarray:
        made = noise[np.arange(first, first + count) % 5000].copy()
        made[:, 0] = np.arange(first, first + count) % 2**22  # whole numbers that a float32 holds
        return made

    return names, args.rate, block


if __name__ == "__main__":
    sys.exit(main())
