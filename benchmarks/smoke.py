"""`make smoke`: every script, every benchmark and every verb of make runs to its end, as small as it gets.

Nothing is judged but whether it ends as it should: this finds what no test calls. All runs in a copy of the
checkout (results/smoke/checkout), so that data and results of yours are left alone; what a step printed is in
results/smoke/log/. A step that ended well is not run again until the code changes; --restart begins anew.

  python -m benchmarks.smoke
  python -m benchmarks.smoke --only train/        (steps whose command has this text, and what they need)
  python -m benchmarks.smoke --list

A new script, benchmark or verb has to be listed here: tests/benchmarks/test_smoke.py fails until it is.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sleep_interpreter.utils.core import command_line, provenance
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS, ROOT

DATA, PREPARED, OUT = "data/simulated/smoke", "data/simulated/smoke_prepared", "results/smoke"
SMALL = (
    "--set model.stem.filters=8 --set model.stem.dilations=[1] --set model.d_model=8"
    " --set model.sleep_encoder.ffn=8 --set members=1 --set train.epochs=1"
)
SMALL_STAGER = (
    "--set model.kernels=[20] --set model.stride=500 --set model.map_filters=8 --set model.branch_filters=2"
    " --set model.block_filters=2 --set members=1 --set train.epochs=1"
)
SCORES = "--set evaluate.bootstrap=100 --set evaluate.permutations=100"
PLACES = f"--quick --data {DATA} --results {OUT}"
SESSION = f"{OUT}/sessions/smoke/session_001"
LIVE = f"{OUT}/live/smoke/session_001"
LIVE_SESSION = (
    f"realtime/Main_Decode.py --source simulate --speed 1 --subject smoke --out {OUT}/live"
    " --set audio.sink=file --set recording.enabled=true"
)
DECODER = f'"{OUT}/Decoding checkpoint/N2N3_SIMD/ensemble.npz"'


class Step(NamedTuple):
    """One command line.

    Attributes
    ----------
    command : str
        As typed in a shell without one: a script with its flags (python is put before it), "-m MODULE ..." or
        "make VERB ...".
    needs : tuple of str
        Beginnings of commands that have to be run before.
    beside : str | None
        A command that runs beside it and is stopped by Ctrl-C after it.
    seconds : float | None
        Stop the command by Ctrl-C after so many seconds: it has no end of its own.
    after_all : bool
        Run it only when all others have ended well: it takes away what they need.
    """

    command: str
    needs: tuple[str, ...] = ()
    beside: str | None = None
    seconds: float | None = None
    after_all: bool = False


SIMULATE = "data/simulate.py"
DECODERS = ("N23SIMD", "N23SISD", "REMSIMD", "REMSISD")
LASSO = ("image2image", "audio2audio", "N2N3N2N3", "REM2REM", "awake2sleep", "NREM2awake", "REM2awake")
STEPS: tuple[Step, ...] = (
    Step("environment/check.py"),
    Step("make help"),
    Step("make setup"),
    Step("make check-environment"),
    Step("make lint"),
    # data
    Step(f"{SIMULATE} --preset test --bids --out {DATA} --set night.hypnogram=[[W,0.5],[N2,3],[N3,2],[R,1]]"),
    Step(f"data/check.py {DATA} --csv {OUT}/counts.csv", (SIMULATE,)),
    Step(f"data/hypnograms.py {DATA} --out {OUT}/hypnograms", (SIMULATE,)),
    Step(f"data/prepare.py --bids {DATA}/bids --config prepare_realtime --out {PREPARED}", (SIMULATE,)),
    # training and testing
    *(Step(f"train/{n}.py {PLACES} {SMALL}", (SIMULATE,)) for n in DECODERS),
    Step(f"train/N23SIMD.py {PLACES} {SMALL} --mode retrained", (SIMULATE,)),
    Step(f"train/SIStaging.py {PLACES} {SMALL_STAGER}", (SIMULATE,)),
    Step(f"train/N23_finetune.py {PLACES} {SMALL} {SCORES} --set finetune.epochs=1", ("train/N23SIMD.py",)),
    Step(f"train/REM_finetune.py {PLACES} {SMALL} {SCORES} --set finetune.epochs=1", ("train/REMSIMD.py",)),
    *(Step(f"test/{n}.py {PLACES} {SMALL} {SCORES}", (f"train/{n}.py",)) for n in DECODERS),
    Step(f"test/N23SIMD_SO.py {PLACES} {SMALL} {SCORES}", ("train/N23SIMD.py",)),
    Step(f"test/N23SIMD_retrained_SO.py {PLACES} {SMALL} {SCORES}", ("train/N23SIMD.py",)),
    Step(f"test/SIStagingtest.py {PLACES} {SMALL_STAGER} {SCORES}", ("train/SIStaging.py",)),
    Step(f"test/compare.py {OUT}/N23SIMD {OUT}/N23SISD --results {OUT}", ("test/N23SIMD.py", "test/N23SISD.py")),
    Step(
        f"test/reactivation.py --data {PREPARED} --results {OUT} --checkpoint {DECODER} "
        "--set step_seconds=0.5 --set guard_seconds=0 --set control.minutes=1 --set permutations=100",
        ("data/prepare.py", "train/N23SIMD.py"),
    ),
    *(
        Step(
            f"lasso_glm/lasso_glm_{n}.py --quick --data {DATA} --results {OUT} --set statistics.permutations=100",
            (SIMULATE,),
        )
        for n in LASSO
    ),
    Step(f"train/network.py EEGNet {PLACES} --set train.epochs=1", (SIMULATE,)),
    Step(f"test/network.py EEGNet {PLACES} {SCORES}", ("train/network.py",)),
    Step(f"model/checkpoint.py export {DECODER} --format onnx --out {OUT}/exported", ("train/N23SIMD.py",)),
    Step(f"model/checkpoint.py inspect {DECODER}", ("train/N23SIMD.py",)),
    Step(f"model/checkpoint.py convert {DECODER} {OUT}/converted.ckpt --overwrite", ("train/N23SIMD.py",)),
    # real time
    Step(
        f"realtime/Main_Decode.py --recording {DATA}/bids/sub-test000/ses-night/eeg/"
        "sub-test000_ses-night_task-sleep_eeg.vhdr --cues recorded --set channels.eeg_ref=M1 "
        f"--decoder-checkpoint {DECODER} --subject smoke --out {OUT}/sessions",
        ("train/N23SIMD.py",),
    ),
    Step(
        f"realtime/Main_Decode.py --source simulate --check --subject smoke --out {OUT}/sessions --set audio.sink=file"
    ),
    Step(f"realtime/report.py {SESSION}", ("realtime/Main_Decode.py",)),
    Step(f"realtime/calibrate.py --subject smoke --simulate -50 --above 7 --out {OUT}/calibration"),
    Step(f"realtime/rehearse.py --minutes 0.2 --members 1 --sink file --out {OUT}/rehearsal"),
    Step(f"realtime/control.py {LIVE} status", beside=LIVE_SESSION),
    Step(f"realtime/monitor.py {LIVE} --quiet", ("realtime/control.py",), seconds=8),
    Step(f"realtime/export.py {LIVE} --edf {OUT}/live.edf", ("realtime/control.py",)),
    Step("-m sleep_interpreter.realtime.Setup.stand_in_amplifier --source-id smoke --session-id s --seconds 2"),
    # benchmarks and verbs
    Step("make test ARGS=tests/utils/test_preprocessing.py"),
    Step("make test-slow ARGS='tests/train/test_training_devices.py'"),
    Step("make notebooks"),
    Step("make test-tools"),
    Step("make demo ARGS=--quick"),
    Step(
        "make hypnogram-fit "
        f"ARGS='\"data/simulated/demo/SI Staging Label/Whole_label_data.pickle\" --out {OUT}/hypnogram.yaml'",
        ("make demo",),
    ),
    Step("make bench ARGS='--only lasso'"),
    Step("make class-loss-study ARGS=--quick"),
    Step("make lasso-real"),
    Step("make real-eeg ARGS=--quick"),
    Step("make real-staging"),
    Step("make simulated-benchmark ARGS=--quick"),
    Step("make planted-study ARGS=--quick", ("make simulated-benchmark",)),
    Step("make real-preparation"),
    Step("-m benchmarks.preparation.so_groups"),
    Step("make simulator-report ARGS=--quick"),
    Step("make phase-study ARGS='--minutes 0.5 --subjects 1'"),
    Step("make calibration-study ARGS='--simulations 2'"),
    Step("make arousal-study ARGS='--minutes 0.5 --subjects 1'"),
    Step("make endurance ARGS='--hours 0.03'"),
    Step("make fault-matrix ARGS='--only 512'"),
    Step("make soak ARGS='--minutes 0.2 --members 1 --sink file'"),
    Step("-m benchmarks.speed.optimizers --steps 1"),
    Step("-m benchmarks.realtime.soak --minutes 0.1"),
    Step("make monitor-cost ARGS='--seconds 3'"),
    Step("make clean", after_all=True),
)
NOT_RUN = {
    "make smoke": "it is this command",
    "make fuzz": "other inputs each time; the slow tests run fixed ones",
    "make monitor-pictures": "a quarter of an hour of real time; its tests are among the slow ones",
}
"""What is left out, and why."""


def revision(root: Path) -> str:
    """Return a digest of all tracked and new files of a checkout: what a finished step was run on."""
    digest = hashlib.sha256()
    for name in files(root):
        path = root / name
        digest.update(name.encode() + b"\0" + (bytes(path.readlink()) if path.is_symlink() else path.read_bytes()))
    return digest.hexdigest()


def files(root: Path) -> list[str]:
    """Return the files of a checkout that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return sorted(name for name in listed if name and (root / name).exists())


def make_copy(root: Path, copy: Path) -> None:
    """Copy a checkout; data/external, which is fetched from the network, is shared with it."""
    for name in files(root):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            shutil.copy2(root / name, target, follow_symlinks=False)
    external = copy / "data" / "external"
    if (root / "data" / "external").is_dir() and not external.exists():
        external.symlink_to(root / "data" / "external")


def chosen(only: str | None, steps: Sequence[Step] = STEPS) -> list[Step]:
    """Return the steps whose command holds `only`, and those that they need, in order."""
    wanted = {step.command for step in steps if only is None or only in step.command}
    for step in reversed(steps):
        if step.command in wanted:
            wanted |= {s.command for s in steps if s.command.startswith(step.needs or ("\0",))}
    return [step for step in steps if step.command in wanted]


def words(command: str) -> list[str]:
    """Return the words that the system is handed: `make` gets this Python, a script is put behind it."""
    split = shlex.split(command)
    if split[0] == "make":
        return [*split, f"PYTHON={sys.executable}"]
    return [sys.executable, *split]


def run_step(step: Step, copy: Path, log: Path, limit: float = 1500) -> int:
    """Run a step in the copy; what it prints goes to `log`. Return its exit code, 0 where it ended well."""
    environment = os.environ | {"MPLBACKEND": "Agg"}
    with log.open("w", encoding="utf-8") as output:
        options = {
            "cwd": copy, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "env": environment,
            "start_new_session": True,  # so that what a command has started ends with it
            "preexec_fn": _heed_interrupts,
        }  # fmt: skip
        beside = None
        if step.beside:
            ready = copy / LIVE / "control.json"
            with log.with_suffix(".beside").open("w", encoding="utf-8") as told:
                beside = subprocess.Popen(words(step.beside), stdout=told, **options)
            deadline = time.monotonic() + 120
            while not ready.exists() and beside.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(2)
        process = subprocess.Popen(words(step.command), stdout=output, **options)
        try:
            code = process.wait(step.seconds or limit)
            code = 1 if step.seconds else code  # it ended by itself, too early
        except subprocess.TimeoutExpired:
            ended = _end(process)
            code = 0 if step.seconds and ended in (0, 130) else 124
        except KeyboardInterrupt:
            _end(process)
            raise
        finally:
            if beside is not None and _end(beside) not in (0, 130):
                code = 1
    return code


def _end(process: subprocess.Popen, patience: float = 60) -> int | None:
    """Stop a command and all that it started by Ctrl-C; return its exit code, None where it had to be killed."""
    _signal(process, signal.SIGINT)
    try:
        code: int | None = process.wait(patience)
    except subprocess.TimeoutExpired:
        code = None
    _signal(process, signal.SIGKILL)
    process.wait()
    return code


def _heed_interrupts() -> None:
    """A shell lets commands in the background ignore Ctrl-C, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _signal(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def smoke(
    steps: Sequence[Step], folder: Path, root: Path = ROOT, restart: bool = False, minutes: float = float("inf")
) -> tuple[list[str], list[str]]:
    """Run steps one after the other; return the commands that failed, and those for which no time was left."""
    copy, log, record = folder / "checkout", folder / "log", folder / "done.json"
    code = revision(root)
    if restart or _finished(record)["revision"] != code:
        shutil.rmtree(folder, ignore_errors=True)
        provenance.write_json(record, {"revision": code, "done": []})
    make_copy(root, copy)
    log.mkdir(exist_ok=True)
    done, failed, left = _finished(record)["done"], [], []
    deadline = time.monotonic() + 60 * minutes
    for place, step in enumerate(steps, 1):
        if step.command in done:
            continue
        if time.monotonic() > deadline or (step.after_all and (failed or left)):
            left.append(step.command)
            continue
        begun = time.perf_counter()
        file = log / f"{place:02d}_{''.join(c if c.isalnum() else '_' for c in step.command[:50])}.log"
        status = run_step(step, copy, file)
        seconds = time.perf_counter() - begun
        ending = "ok    " if status == 0 else "FAILED"
        command_line.say(f"[{place:2d}/{len(steps)}] {ending} {seconds:5.0f} s  {step.command[:90]}")
        if status == 0:
            done.append(step.command)
            provenance.write_json(record, {"revision": code, "done": done})
        else:
            failed.append(step.command)
            tail = file.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            command_line.say(f"    exit code {status}; the end of {file}:", *(f"    | {line}" for line in tail))
    return failed, left


def _finished(record: Path) -> dict:
    """Return the revision that was run and its commands that ended well; an unreadable file has neither."""
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"revision": None, "done": []}


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for; exit code 1 if anything failed or no time was left for it."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--only", metavar="TEXT", help="steps whose command has this text, and what they need")
    parser.add_argument("--list", action="store_true", help="say what would be run")
    parser.add_argument("--restart", action="store_true", help="run finished steps again")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no step after so long")
    args = parser.parse_args(argv)
    steps = chosen(args.only)
    if not steps:
        raise UserError(f"--only {args.only}: no step has this text; --list names all")
    if args.list:
        command_line.say(*(step.command for step in steps))
        return 0
    failed, left = smoke(steps, RESULTS / "smoke", restart=args.restart, minutes=args.minutes)
    good = len(steps) - len(failed) - len(left)
    told = [
        *(f"failed: {c}" for c in failed),
        *(f"left out (no time, or something before it failed): {c}" for c in left),
    ]
    command_line.say(f"{good} of {len(steps)} steps ended well", *told)
    return 1 if failed or left else 0


if __name__ == "__main__":
    sys.exit(command_line.run(main))
