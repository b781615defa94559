"""A board that brainflow knows, as the stream."""

import time
from typing import Any

import numpy as np

from sleep_interpreter.realtime.Parameters.source import SourceSettings
from sleep_interpreter.realtime.Sources.live_source import LiveSource
from sleep_interpreter.utils.core.errors import UserError

_BUFFERED = 45_000


class BrainflowSource(LiveSource):
    """A board, with brainflow's names of its channels. A `UserError` says that brainflow is not installed, does not
    know the board, or that the board does not answer."""

    def __init__(self, settings: SourceSettings) -> None:
        try:
            from brainflow import board_shim  # lazy: optional dependency
        except ImportError:
            raise UserError("the package brainflow is not installed: pip install -e '.[boards]'") from None
        wanted = settings.brainflow
        board_shim.BoardShim.disable_board_logger()
        board = _board_id(board_shim.BoardIds, wanted.board)
        parameters = board_shim.BrainFlowInputParams()
        for key in ("serial_port", "ip_address", "ip_port", "mac_address", "serial_number", "file"):
            setattr(parameters, key, getattr(wanted, key))
        if wanted.master_board is not None:
            parameters.master_board = _board_id(board_shim.BoardIds, wanted.master_board)
        where = f"brainflow board {wanted.board}"
        try:
            self._board = board_shim.BoardShim(board, parameters)
            self._board.prepare_session()
            self._board.start_stream(_BUFFERED)
            described = board_shim.BoardShim.get_board_descr(self._board.get_board_id())
        except board_shim.BrainFlowError as error:
            raise UserError(f"{where}: {error}") from error
        names, self._channels = _channels(described)
        self._stamps, rate = described["timestamp_channel"], float(described["sampling_rate"])
        self._about = {"board": wanted.board, "rate": described["sampling_rate"]}
        super().__init__(settings, names, rate, [1.0] * len(names), where)

    def pull(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what has come; the board's stamps are time of day."""
        block = self._board.get_board_data()
        offset = time.perf_counter() - time.time()
        return block[self._channels].T, np.asarray(block[self._stamps]) + offset

    def disconnect(self) -> None:
        if self._board.is_prepared():
            self._board.stop_stream()
            self._board.release_session()

    def fingerprint(self) -> dict[str, Any]:
        return {**self._about, "name": self.where, "channels_of_stream": list(self.names)}


def _board_id(ids: Any, name: str) -> int:
    if name not in ids.__members__:
        raise UserError(f"source.brainflow: no board {name!r}; brainflow knows {', '.join(ids.__members__)}")
    return ids[name].value


def _channels(described: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Return the names of the electric channels and their rows, EEG first."""
    rows, names = [], []
    own = [n.strip() for n in described.get("eeg_names", "").split(",") if n.strip()]
    for kind in ("eeg", "eog", "emg", "ecg"):
        for place, row in enumerate(described.get(f"{kind}_channels", [])):
            if row in rows:  # many boards list the same rows under every kind
                continue
            named = kind == "eeg" and place < len(own)
            names.append(own[place] if named else f"{kind.upper()}{place + 1}")
            rows.append(row)
    if not rows:
        raise UserError(f"brainflow board {described.get('name')}: it has no EEG, EOG or EMG channels")
    return names, rows
