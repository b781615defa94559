"""Can the planted truth be found, and only the truth? The published scripts on simulated cohorts.

Trains and tests the sleep-only and the multi-domain decoder on training subjects and decodes unseen ones, by
the very scripts users run, and compares what comes out with what was planted: awake + sleep at least as good
as sleep alone, both above chance, up-states of the slow oscillation above down-states, fine-tuned above
zero-shot, more strength more accuracy; nothing with strength 0
or shuffled labels. Beside them the Lasso GLMs of every subject: on trials left out, from awake to sleep, and
when their accuracy peaks. All is simulated.

Writes    data/simulated/benchmark (a data set a strength, 6 GB); results/simulated_benchmark/summary.json,
          rows.csv, accuracy.png and a folder a run with what the scripts write and their commands
Stop it whenever you like: the same command goes on where it was, also after both folders have moved.

  python -m benchmarks.decoding.planted_benchmark
  python -m benchmarks.decoding.planted_benchmark --many-trials   (fine-tuning with 270 trials too)
  python -m benchmarks.decoding.planted_benchmark --quick      (hardly any training: to try the command)
"""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator
from tqdm import tqdm

from benchmarks import runner
from benchmarks.decoding import planted_verdicts
from benchmarks.decoding.planted_lasso import EXPERIMENTS
from sleep_interpreter.train.settings.experiment import Experiment
from sleep_interpreter.utils.core import command_line, config, provenance
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import ROOT

log = logging.getLogger(__name__)

Strength = Annotated[float, Field(ge=0, le=20)]


class PlantedBenchmarkSettings(config.Settings):
    """Settings of the benchmark (params/simulated_benchmark.yaml)."""

    data: str
    preset: str
    cohort: dict[str, Any]
    """Settings of the simulation that differ from its preset."""
    strengths: tuple[Strength, ...] = Field(min_length=2)
    strength: Strength
    seeds: tuple[int, ...] = Field(min_length=1)
    change: dict[str, Any]
    awake: dict[str, Any] = Field({})
    finetune: dict[str, Any] = Field({})
    many_trials: dict[str, Any] = Field({})
    """What differs from `cohort` in the data set of fine-tuning with many trials; empty: no such run."""
    lasso: dict[str, Any] = Field({})

    @model_validator(mode="after")
    def _whole(self):
        if list(self.strengths) != sorted(set(self.strengths)) or self.strengths[0] != 0:
            raise ValueError(f"strengths {self.strengths}: give them in rising order, beginning with 0")
        if self.strength not in self.strengths or self.strength == 0:
            raise ValueError(f"strength {self.strength} must be one of the strengths and not 0")
        return self

    def folder(self, strength, many=False):
        """Return the folder of the data set of a strength, with `many` of that with many trials."""
        return ROOT / self.data / f"strength_{strength:g}{'_many' if many else ''}"

    def simulation(self, strength, many=False):
        """Return the settings of the simulation of a strength, with `many` of that with many trials."""
        from sleep_interpreter.data.simulation.settings import load_settings

        changes = runner.overrides(self.cohort, self.many_trials if many else {})
        return load_settings(self.preset, [*changes, f"memory.strength={strength}"])

    def experiment(self):
        """Return the `Experiment` of the sleep-only network with the changes of all runs."""
        return config.load(Experiment, "N23SISD", overrides=runner.overrides(self.change))


class Run(NamedTuple):
    """Scripts run one after the other with one seed; every later one uses what the first one trained."""

    name: str
    strength: float
    scripts: tuple
    """(script, its own arguments) pairs; {results} stands for the run's folder, {SIMD} for that of SIMD."""
    many: bool = False
    lasso: bool = False
    once: bool = False
    """With the first seed alone."""

    def key(self, seed):
        return f"{self.name}_strength_{self.strength:g}_seed_{seed}"


def runs(study):
    """Return the runs that each seed goes through, but for those that are run once."""
    sleep = [("train/N23SISD.py", ()), ("test/N23SISD.py", ())]
    control = "{results}/Decoding checkpoint/N2N3_SISD_shuffled/ensemble.npz"
    shuffled = [("train/N23SISD.py", ("--shuffle-labels",)), ("test/N23SISD.py", ("--checkpoint", control))]
    awake = _arguments(study.awake)
    both = [(script, awake) for script in ("train/N23SIMD.py", "test/N23SIMD.py", "test/N23SIMD_SO.py")]
    both.append(("train/N23_finetune.py", (*awake, *_arguments(study.finetune))))
    trained = ("--checkpoint", "{SIMD}/Decoding checkpoint/N2N3_SIMD/ensemble.npz")
    many = [
        ("test/N23SIMD.py", (*awake, *trained)),
        ("train/N23_finetune.py", (*awake, *_arguments(study.finetune), *trained)),
    ]
    # Once: no seed but that of the folds has a say in a Lasso GLM.
    linear = tuple((f"lasso_glm/lasso_glm_{name}.py", ()) for name in EXPERIMENTS)
    return [
        *(Run("lasso", strength, linear, lasso=True, once=True) for strength in (0.0, study.strength)),
        *(Run("SISD", strength, tuple(sleep)) for strength in study.strengths),
        Run("SISD_shuffled", study.strength, tuple(shuffled)),
        Run("SIMD", study.strength, tuple(both)),
        *([Run("SIMD_many", study.strength, tuple(many), many=True, once=True)] if study.many_trials else []),
    ]


def _arguments(change):
    flat = config.flat(change)
    return tuple(word for key, value in flat.items() for word in ("--set", f"{key}={json.dumps(value)}"))


def write_data(study):
    """Simulate the data sets that are not there yet."""
    from sleep_interpreter.data.simulation.dataset import write_dataset

    many = [(study.strength, True)] if study.many_trials else []
    for place in (*((strength, False) for strength in study.strengths), *many):
        write_dataset(study.simulation(*place), study.folder(*place))


def execute(study, folder):
    """Run every script that was not run before with these settings on these data.

    Parameters
    ----------
    study : Benchmark
    folder : Path

    Raises
    ------
    UserError
        A script failed; its own message is above.
    """
    first = study.seeds[0]
    jobs = [(run, seed) for seed in study.seeds for run in runs(study) if seed == first or not run.once]
    for run, seed in tqdm(jobs, desc="benchmark", unit="run"):
        place, data = folder / run.key(seed), study.folder(run.strength, run.many)
        commands = _commands(study, run, seed, folder)
        done = {"commands": commands, "data": _identity(data)}
        if _placeless(_read(place / "done.json")) == _placeless(done):
            continue
        for command in commands:
            log.info("%s: %s", place.name, command[0])
            code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
            if code == 130:
                raise KeyboardInterrupt
            if code:
                raise UserError(
                    f"{run.key(seed)}: {command[0]} ended with exit code {code} (its message is above); "
                    "mend that and give the same command again, finished runs are kept"
                )
        provenance.write_json(place / "done.json", done)


def _commands(study, run, seed, folder):
    """Return the commands of a run, lists of words."""
    place, data = folder / run.key(seed), study.folder(run.strength, run.many)
    of_kind, of_seed = (study.lasso, "seed") if run.lasso else (study.change, "train.seed")
    common = ("--data", str(data), "--results", str(place), *_arguments(of_kind))
    places = {"{results}": str(place), "{SIMD}": str(folder / f"SIMD_strength_{study.strength:g}_seed_{seed}")}

    def filled(word):
        for name, path in places.items():
            word = word.replace(name, path)
        return word

    return [[script, *common, "--set", f"{of_seed}={seed}", *map(filled, own)] for script, own in run.scripts]


def _placeless(done):
    """Return what a run's done.json says without where data and results lie: both may have moved since."""
    if done is None:
        return None
    commands = []
    for words in done["commands"]:
        data, results = (words[words.index(flag) + 1] for flag in ("--data", "--results"))
        names = {data: "{data}", results: "{results}", str(Path(results).parent): "{all}"}
        commands.append([_renamed(word, names) for word in words])
    return {**done, "commands": commands}


def _renamed(word, names):
    for path, name in names.items():
        if word == path or word.startswith(f"{path}/"):
            return name + word.removeprefix(path)
    return word


def _identity(data):
    """Return what tells a simulated data set from another: its manifest's settings and version."""
    manifest = _read(data / provenance.SIDECAR)
    return {"settings": manifest["settings"], "version": manifest["version"]}


def _read(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def run(study, folder, args):
    """Simulate, run, compare; return the table."""
    if not args.many_trials:
        study = study.model_copy(update={"many_trials": {}})
    study.experiment()  # what no network knows is refused before anything is simulated
    write_data(study)
    execute(study, folder)
    return planted_verdicts.table(planted_verdicts.report(study, folder))


def _arguments_of_command(parser):
    parser.add_argument("--many-trials", action="store_true", help="fine-tune with 270 trials of a subject too")


main = runner.command(
    __doc__, "simulated_benchmark", run, schema=PlantedBenchmarkSettings, arguments=_arguments_of_command
)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
