"""What `import sleep_interpreter` offers besides functions of its packages: whole steps in one call."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleep_interpreter.utils.core import config
from sleep_interpreter.utils.core.errors import UserError

if TYPE_CHECKING:
    from sleep_interpreter.data.formats.test_trials import TestSubject
    from sleep_interpreter.model.networks.ensemble import Ensemble


def simulate(
    preset: str, out: str | Path, settings: Mapping[str, Any] | None = None, *, raw: bool = False, processes: int = 1
) -> Path:
    """Write a simulated data set in the published layout; one that is there already is left as it is.

    Parameters
    ----------
    preset : str
        "test" (small and fast), "demo" or "paper".
    out : str | Path
        Folder of the data set.
    settings : mapping | None
        Changes to params/simulation.yaml: {"cohort.rem_trials": 0}.
    raw : bool
        Write raw nights too, as a BIDS folder.
    processes : int
        How many files are written at the same time.

    Raises
    ------
    UserError
        Settings that are refused, or whatever `data.simulation.dataset.write_dataset` refuses.
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
    """Prepare a lab's own recordings into the published layout.

    Parameters
    ----------
    bids, recordings
        One of the two: a BIDS folder, or patterns of file names ("raw/*.edf").
    settings : mapping | None
        Changes to the settings: {"channels.reference": "average"}.
    config_file : str | Path | None
        A YAML file instead of params/prepare.yaml.
    subjects : list of str | None
        Only these of the lab's names.
    jobs : int
        Subjects side by side.
    force : bool
        Prepare anew; replace what other settings made.

    Returns
    -------
    manifest : dict
        As in manifest.json: what became of every subject.

    Raises
    ------
    UserError
        Both or none of `bids` and `recordings`, or whatever `data.preparation.run.prepare` refuses.
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
    return run.prepare(sources, read, out, jobs, subjects, force)


def evaluate(
    network: "Ensemble",
    subjects: Sequence["TestSubject"],
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a decoder on unseen subjects and write everything about it into a folder.

    Parameters
    ----------
    subjects : list of sleep_interpreter.data.formats.training_trials.TestSubject
        From `sleep_interpreter.read_test_subjects`.
    folder : str | Path
        Receives summary.json, tables and figures; its name is that of the result.
    settings : mapping | None
        Changes to the section `evaluate` of params/_base.yaml: {"bootstrap": 1000}.

    Returns
    -------
    summary : dict
        As in summary.json: ``summary["overall"]["accuracy"]`` is the mean top-1 over subjects.

    Raises
    ------
    UserError
        Trials that the network does not take, or no trial at all.
    """
    from sleep_interpreter.data.formats.fingerprints import fingerprint  # lazy: start-up
    from sleep_interpreter.train.commands.test import cautions  # lazy: start-up
    from sleep_interpreter.train.evaluation import decoder_report  # lazy: start-up
    from sleep_interpreter.train.settings.experiment import EvaluateSettings  # lazy: start-up

    tree = config.read_yaml(config.find("_base"))["evaluate"] | dict(settings or {})
    folder = Path(folder)
    trained = getattr(network, "notes", {})
    notes = {
        "checkpoint_notes": trained,
        "members": len(network.individual_models),
        "data_fingerprint": fingerprint([subject.file for subject in subjects]),
        "simulated": any(subject.simulated for subject in subjects),
        "warnings": cautions(trained, subjects),
    }
    checked = config.validate(EvaluateSettings, tree, "evaluate()")
    return decoder_report.evaluate(network, subjects, folder, folder.name, checked, notes)


def _overrides(settings: Mapping[str, Any] | None) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
