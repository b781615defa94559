"""The command line of realtime/Main_Decode.py."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from sleep_interpreter.realtime.Utils.registries import SOURCES
from sleep_interpreter.realtime.Utils.stop_request import StopRequest
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.paths import RESULTS
from sleep_interpreter.utils.staging.registry import STAGERS

logger = logging.getLogger(__name__)


def _parser(doc: str | None) -> argparse.ArgumentParser:
    parser = command_line.parser(doc)
    add = parser.add_argument
    add("--source", choices=SOURCES.names(), help="where the signal comes from (default: replay, a recorded file)")
    add("--recording", metavar="FILE", help="for --source replay: any format MNE reads (EDF, BrainVision, ...)")
    add("--speed", type=float, metavar="X", help="0 = as fast as possible (default), 1 = real time")
    add("--unit", choices=["V", "uV"], help="what MNE returns for this file: V (its convention) or µV")
    add("--start", type=float, metavar="S", help="begin here in the recording, in s")
    add("--stop", type=float, metavar="S", help="end here: s into the recording, or of a stream's session")
    add("--stager", choices=STAGERS.names(), help="default yasa, which needs no checkpoint")
    add("--stager-checkpoint", metavar="FILE", help="weights of sistaging")
    add("--decoder-checkpoint", metavar="FILE", help="weights of the decoder; without it nothing is decoded")
    add("--cues", choices=["scheduled", "recorded"], help='cues of our own, or the annotations "cue/<item>"')
    add("--lsl-markers", action="store_const", const=True, help="send the markers over LSL too")
    add("--subject", metavar="ID", help="pseudonym: letters, digits, - and _")
    add("--subject-file", metavar="YAML", help="id, session, notes")
    add("--config", metavar="YAML", help="settings file instead of params/realtime.yaml")
    add("--set", dest="overrides", metavar="a.b=c", action="append", default=[], help="change one setting")
    add("--out", metavar="DIR", default=str(RESULTS / "realtime"), help="default: results/realtime")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--check", action="store_true", help="test everything a night needs, say go or no-go, end")
    way.add_argument("--resume", metavar="SESSION", help="go on with a session that broke off, in its folder")
    add("--gap", type=float, metavar="S", help="with --resume: how long nothing was recorded, if clocks cannot tell")
    way.add_argument(
        "--session", metavar="SESSION", help="replay a session's own recording, with all that the operator did"
    )
    add("--segment", type=int, metavar="N", help="with --session: which part of its recording (default: 1)")
    add("--dry-run", action="store_true", help="everything as in the night, but nothing sounds, no marker goes out")
    add("--monitor", action="store_true", help="show the session in the browser (127.0.0.1)")
    return parser


def start(doc: str | None, argv: Sequence[str] | None = None) -> int:
    """Run a session as the command line asks; `doc` is the script's docstring. Return the exit code.

    That is 0; 130 after Ctrl-C and 143 after SIGTERM, at whatever moment it came; 3 if --check says no-go.
    """
    stop = StopRequest()
    with stop.catching():
        try:
            args = _parser(doc).parse_args(argv)
            from sleep_interpreter.realtime.Setup import plan, preflight, preparation, runner  # lazy: start-up

            planned = plan.make_plan(args)
            if args.check:
                return preflight.check(planned, Path(args.out) / planned.subject.id)
            prepared = preparation.prepare(planned)
            stop.defer()
        except BaseException:
            if not stop.requested():
                raise
            # what was raised, or broke, is what the signal made of the imports and checks under way
        if stop.requested():
            logger.warning("stopped by %s before the session began: nothing was written", stop.by)
            return stop.code
        home = Path(args.out) / planned.subject.id if planned.folder is None else planned.folder.parent
        with runner.sole_night(prepared, home):
            folder = planned.folder or runner.new_folder(home)
            logger.info("session folder: %s", folder)
            runner.run(prepared, planned, folder, stop, monitor=args.monitor)
        return stop.code
