"""What `import sleep_interpreter` offers besides functions of its packages: whole steps in one call."""

import argparse
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError

if TYPE_CHECKING:
    from sleep_interpreter.data.formats.test_trials import TestSubject
    from sleep_interpreter.data.preparation.epochs import EpochsData
    from sleep_interpreter.model.networks.ensemble import Ensemble
    from sleep_interpreter.realtime.Report.session_data import SessionData


def simulate(
    preset: str, out: str | Path, settings: Mapping[str, Any] | None = None, *, raw: bool = False, processes: int = 1
) -> Path:
    """Write a simulated data set in the published layout to a folder; one that is there is left as it is.

    The preset is "test" (small and fast), "demo" or "paper"; `settings` are changes to params/simulation.yaml:
    {"cohort.rem_trials": 0}. `raw` writes raw nights too, as a BIDS folder; `processes` files are written at the
    same time. Settings that are refused, or whatever `data.simulation.dataset.write_dataset` refuses, are a
    `UserError`.
    """
    from sleep_interpreter.data.simulation.dataset import write_dataset  # lazy: start-up
    from sleep_interpreter.data.simulation.settings import load_settings  # lazy: start-up

    write_dataset(load_settings(preset, _overrides(settings)), out, bids=raw, processes=processes)
    return Path(out)


def prepare(
    out: str | Path,
    *,
    bids: str | Path | None = None,
    recordings: str | Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    config_file: str | Path | None = None,
    subjects: Collection[str] | None = None,
    jobs: int = 1,
    force: bool = False,
) -> dict[str, Any]:
    """Prepare a lab's own recordings into the published layout; return what became of every subject (manifest.json).

    Of `bids`, a BIDS folder, and `recordings`, patterns of file names ("raw/*.edf"), one is given; both or none are a
    `UserError`, as is whatever `data.preparation.run.prepare` refuses. `settings` are changes,
    {"steps.reference": "average"}, to params/prepare.yaml or to `config_file`. `subjects` are the only ones to
    prepare, by the lab's names, `jobs` of them side by side; `force` prepares anew what other settings made.
    """
    from sleep_interpreter.data.preparation import inputs, run  # lazy: start-up
    from sleep_interpreter.data.preparation.settings import load_settings  # lazy: start-up

    read = load_settings(config_file, _overrides(settings))
    if recordings is not None and bids is None:
        sources = inputs.find_recordings(recordings, read)
    elif bids is not None and recordings is None:
        sources = inputs.find_bids(bids, read)
    else:
        raise UserError("prepare: give either a BIDS folder or recordings")
    return run.prepare(sources, read, out, jobs if jobs > 1 else None, subjects, force)


def train_network(
    network: str,
    data: "str | Path | EpochsData",
    results: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    mode: str | None = None,
    quick: bool = False,
    restart: bool = False,
) -> "Ensemble":
    """Train a network of params/ on a data folder, or on `sleep_interpreter.from_epochs`, and return it.

    What train/NETWORK.py does: the run's folder is below `results`, and the same call goes on where one was stopped.
    `settings` are changes to params/NETWORK.yaml: {"train.epochs": 10}; `quick` takes its section of that name,
    `restart` forgets an earlier run. Whatever the script refuses is a `UserError`.
    """
    from sleep_interpreter.data.preparation.epochs import EpochsData  # lazy: start-up
    from sleep_interpreter.model.checkpoints import checkpoint  # lazy: start-up
    from sleep_interpreter.train.commands import train as command  # lazy: start-up
    from sleep_interpreter.train.settings import experiment  # lazy: start-up

    in_memory = isinstance(data, EpochsData)
    args = argparse.Namespace(
        config=None, overrides=_overrides(settings), quick=quick, mode=mode, data=None if in_memory else data,
        results=results, skip_bad=False, restart=restart, member=None, collect=False, devices=None,
    )  # fmt: skip
    read = experiment.read(network, args, card=data.card if isinstance(data, EpochsData) else None)
    if isinstance(data, EpochsData):
        path = command.train_in_memory(read, data, results, mode, restart)
    else:
        path = command.train(network, read, args)
    return checkpoint.restore(path)


def replay(
    recording: str | Path,
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    decoder: str | Path | None = None,
    subject: str = "replayed",
) -> "SessionData":
    """Run a session as fast as it goes on a recording that stands in for the amplifier; return what its folder holds.

    What realtime/Main_Decode.py does: the new folder is `out`/`subject`/session_001, the next one 002. `settings` are
    changes to params/realtime.yaml: {"cues.mode": "recorded"}; `decoder` is a checkpoint. Whatever the script refuses
    is a `UserError`.
    """
    from sleep_interpreter.realtime.Report.session_data import load_session  # lazy: start-up
    from sleep_interpreter.realtime.Setup import command_line  # lazy: start-up

    words = [f"--recording={recording}", f"--out={out}", f"--subject={subject}"]
    words += [f"--decoder-checkpoint={decoder}"] if decoder is not None else []
    words += [f"--set={change}" for change in _overrides(settings)]
    command_line.start(None, words)
    return load_session(sorted((Path(out) / subject).glob("session_*"))[-1])


def evaluate(
    network: "Ensemble",
    subjects: Sequence["TestSubject"],
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    interpolate: bool = False,
) -> dict[str, Any]:
    """Evaluate a decoder on unseen subjects (`sleep_interpreter.read_test_subjects`); write all about it to a folder.

    The folder receives summary.json, tables and figures; its name is that of the result. `settings` are changes to
    the section `evaluate` of params/_base.yaml: {"bootstrap": 1000}. Returned is what summary.json holds:
    ``summary["overall"]["accuracy"]`` is the mean top-1 over subjects. Channels and items are matched by name; with
    `interpolate` channels that the data lack are interpolated by spherical splines. Trials that the network does not
    take, or no trial at all, are a `UserError`.
    """
    from sleep_interpreter.data.formats import plausibility  # lazy: start-up
    from sleep_interpreter.data.formats.test_trials import TestSubject  # lazy: start-up
    from sleep_interpreter.train.commands.test import LONG_NOTES, cautions  # lazy: start-up
    from sleep_interpreter.train.evaluation import decoder_report, matching  # lazy: start-up
    from sleep_interpreter.train.settings.experiment import EvaluateSettings  # lazy: start-up

    if not all(
        isinstance(subject, TestSubject) for subject in (subjects if isinstance(subjects, list | tuple) else [0])
    ):
        raise UserError(
            "evaluate: expected a list of subjects, such as read_test_subjects(folder) or from_epochs(...).subjects(), "
            f"found {type(subjects).__name__}"
        )
    tree = config.read_yaml(config.find("_base"))["evaluate"] | dict(settings or {})
    folder = Path(folder)
    trained = getattr(network, "notes", {})
    notes = {
        "checkpoint_notes": {key: value for key, value in trained.items() if key not in LONG_NOTES},
        "members": len(network.individual_models),
        "data_fingerprint": _fingerprint(subjects),
        "simulated": any(subject.simulated for subject in subjects),
        "warnings": [
            *cautions(trained, subjects),
            *matching.said(network, subjects, "the data", network.network, interpolate),
            *plausibility.of_training(trained, subjects),
            *plausibility.of_subjects(subjects),
        ],
    }
    checked = config.validate(EvaluateSettings, tree, "evaluate()")
    predictions = decoder_report.predict_subjects(network, subjects, checked.batch_size, interpolate=interpolate)
    return decoder_report.report(predictions, folder, folder.name, checked, notes)


def _fingerprint(subjects: Sequence["TestSubject"]) -> str:
    """Return what tells these test data from others: by their files, or for data in memory by their numbers."""
    from sleep_interpreter.data.formats.fingerprints import fingerprint  # lazy: start-up

    if all(subject.file.is_file() for subject in subjects):
        return fingerprint([subject.file for subject in subjects])
    total = hashlib.sha256()
    for subject in subjects:
        total.update(subject.name.encode() + subject.label.tobytes() + subject.sleep.tobytes())
    return total.hexdigest()


def _overrides(settings: Mapping[str, Any] | None) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
