"""The evaluation of stagers: one night at a time, against the expert and beside YASA."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from sleep_interpreter.data.formats.fingerprints import Unchanged
from sleep_interpreter.data.formats.staging_windows import StagingSubject, read_staging_subject
from sleep_interpreter.train.evaluation import paired_values, staging_agreement
from sleep_interpreter.train.evaluation.decoder_report import kind_of, write_csv
from sleep_interpreter.train.evaluation.staging_agreement import mean_of_known
from sleep_interpreter.train.settings.experiment import EvaluateSettings, Experiment, StagingEvaluation
from sleep_interpreter.utils.core import file_hashes, provenance
from sleep_interpreter.utils.core.constants import STAGES, STAGING_SECONDS, UNKNOWN
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import display_path, replaced_files
from sleep_interpreter.utils.core.safe_pickle import write_pickle
from sleep_interpreter.utils.metrics import staging_metrics
from sleep_interpreter.utils.metrics.reliability import nrem_reliability
from sleep_interpreter.utils.metrics.staging_metrics import pooled_agreement
from sleep_interpreter.utils.plots import staging as plots_staging
from sleep_interpreter.utils.staging import gate_tradeoff
from sleep_interpreter.utils.staging.replay import WINDOW_STEP, Estimates, of_windows, replay, stages, stitched
from sleep_interpreter.utils.staging.settings import GateSettings, StagingSettings
from sleep_interpreter.utils.staging.stagers import SIStagingStager, build_without_checkpoint, yasa_whole_night

if TYPE_CHECKING:  # it brings TensorFlow
    from sleep_interpreter.model.networks.ensemble import Ensemble

log = logging.getLogger(__name__)

WHOLE, CAUSAL = "YASA, whole night", "YASA, past alone"
ALL_PRESENT = (True, True, True)
ONE_SUBJECT = "1 subject: the interval is over stretches of its night and says nothing about another"


@dataclass(eq=False)
class StagedNight:
    """What stagers said about one night; stages are of its m epochs of 30 s, int array (m,).

    `epochs` are the expert's; `estimates` those of the stager under test, one a stored window; `found` its stages, of
    the window that covers the epoch, unsmoothed; `others` those of YASA; `past` YASA's estimates on the past alone.
    """

    name: str
    epochs: np.ndarray
    estimates: Estimates
    found: np.ndarray
    others: dict = field(default_factory=dict)
    past: Estimates | None = None


def stage_night(
    subject: StagingSubject, network: "Ensemble", settings: StagingEvaluation, batch_size: int, progress: tqdm | None
) -> StagedNight:
    """Stage one subject's night; refused below 30 s, or without a window that can be staged (with the reasons)."""
    if not len(subject.window):
        raise UserError(f"{subject.file}: shorter than {STAGING_SECONDS} s, nothing can be staged")
    staging = StagingSettings(stager="sistaging")
    stager = SIStagingStager(staging, network, prepared=True)
    estimates = of_windows(stager, subject.window, batch_size, progress)
    if not estimates.known.any():
        why = "; ".join(f"{reason} ({n} windows)" for reason, n in estimates.unknown_reasons().items())
        raise UserError(f"{subject.file}: no window can be staged: {why}")
    rows = staging_metrics.at_epochs(estimates.seconds, len(subject.epoch_stage))
    night = StagedNight(subject.name, subject.epoch_stage, estimates, _picked(stages(estimates.probability), rows))
    if settings.yasa:
        signal = stitched(subject.window, settings.stitched_microvolts)
        minutes = staging.yasa.minimum_minutes
        night.others[WHOLE] = stages(yasa_whole_night(signal, ALL_PRESENT, minutes))
        for name, other in build_without_checkpoint(StagingSettings(), ALL_PRESENT).items():
            past = replay(other, signal, settings.yasa_every_seconds)
            rows = staging_metrics.at_epochs(past.seconds, len(subject.epoch_stage))
            night.others[CAUSAL if name == "yasa" else name] = _picked(stages(past.probability), rows)
            if name == "yasa":
                night.past = past
    return night


def _picked(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.where(rows < 0, UNKNOWN, codes[rows]) if len(codes) else np.full(len(rows), UNKNOWN)


def evaluate(
    network: "Ensemble", files: Sequence[Path], root: Path, folder: Path, name: str, experiment: Experiment,
    notes: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Stage and measure every test subject, write everything about it and return the summary.

    What is wrong with one subject is reported and the others go on; it is refused if not one could be staged. `files`
    are those of `data.formats.staging_windows.staging_files` in the data folder `root`. The folder receives
    summary.json, predictions.csv and the figures; the result pickle goes beside it. `notes` are kept in the summary
    (checkpoint, data, "simulated", "warnings" ...).
    """
    settings = experiment.staging
    assert settings is not None  # refused before anything was read
    nights, failures = [], []
    kind = kind_of(notes, "stager")
    data = Unchanged(file_hashes.marks(files), notes.get("data_fingerprint"))
    with replaced_files(folder, "summary.json", {f"{name}.pickle"}, ("nights/*.png",)) as place:
        for file in files:
            try:
                subject = read_staging_subject(file, root, gaps=True)
                with tqdm(total=len(subject.window), desc=subject.name, unit="window", disable=None) as bar:
                    night = stage_night(subject, network, settings, experiment.evaluate.batch_size, bar)
                spectrum = staging_metrics.spectrum(subject.window[::10, 0])
                del subject
            except MemoryError:  # the machine's trouble, not the subject's
                raise
            except Exception as error:  # one subject's trouble must not cost the cohort; it stands in the summary
                reason = f"{'' if isinstance(error, UserError) else type(error).__name__ + ': '}{error}"
                failures.append({"file": display_path(file), "reason": " ".join(reason.split())})
                log.warning("WARNING: %s left out: %s", file, failures[-1]["reason"])
                log.debug("details", exc_info=True)
            else:
                nights.append(night)
                figure = place / "nights" / f"{night.name}.png"
                plots_staging.night_figure(night, spectrum, settings.smoothing, figure, kind)
        data.check()
        if not nights:
            raise UserError(f"none of {len(files)} subjects could be staged; the first: {failures[0]['reason']}")
        notes = {**notes, "simulated": bool(notes.get("simulated"))}
        summary = measured(nights, settings, experiment.evaluate, notes, name, failures)
        _write(nights, summary, place, name, settings.smoothing, kind)
        provenance.write_json(place / "summary.json", summary)
    return summary


def measured(
    nights: Sequence[StagedNight], settings: StagingEvaluation, resampling: EvaluateSettings,
    notes: dict[str, Any], name: str, failures: list[dict],
) -> dict[str, Any]:  # fmt: skip
    """Return the summary of staged nights."""
    grids = {night.name: _grid(night, settings.smoothing) for night in nights}
    epochs = {night.name: (night.epochs, night.found) for night in nights}
    size = max(1, round(settings.block_minutes * 60 / STAGING_SECONDS))
    subjects: dict[str, dict] = {}
    for night in nights:
        known = night.estimates.known
        subjects[night.name] = {
            "epochs": pooled_agreement([epochs[night.name]], size),
            "grid": pooled_agreement([grids[night.name]], 10 * size),
            "unknown": {"share": float(1 - known.mean()), "reasons": night.estimates.unknown_reasons()},
            "absent_stages": [s for c, s in enumerate(STAGES) if not (night.epochs == c).any()],
        }
    overall = {
        "subjects": len(nights),
        "epochs": pooled_agreement(epochs.values(), size),
        "grid": pooled_agreement(grids.values(), 10 * size),
        "mean_over_subjects": {
            part: {m: mean_of_known([row[part][m] for row in subjects.values()]) for m in staging_metrics.MEASURES}
            for part in ("epochs", "grid")
        },
    }
    expert = {night.name: night.epochs for night in nights}
    scorers = {name: {night.name: night.found for night in nights}}
    for other in nights[0].others:
        scorers[other] = {night.name: night.others[other] for night in nights}
    pairs = [("expert", expert, key, found) for key, found in scorers.items()]
    pairs += [(name, scorers[name], key, found) for key, found in scorers.items() if key != name]
    return {
        "experiment": name,
        "measure": "stages W/N1, N2, N3, R",
        "warnings": [*notes.pop("warnings", ()), *([] if len(nights) > 1 else [ONE_SUBJECT])],
        **notes,
        "overall": overall,
        "subjects": subjects,
        "failures": failures,
        "latency": _latency(nights, settings),
        "reliability": _reliability(nights, settings),
        "gate": _gates(nights, settings, name),
        "agreement": [staging_agreement.agreement(ref, obs, (one, two), size) for one, ref, two, obs in pairs],
        "paired": [
            staging_agreement.paired_scorers(expert, scorers[name], found, (name, key), resampling)
            for key, found in scorers.items()
            if key != name
        ],
        "sleep_statistics": {key: staging_agreement.bland_altman(expert, found) for key, found in scorers.items()},
        "method": METHOD | {"smoothing": settings.smoothing, "block_minutes": settings.block_minutes},
        "provenance": provenance.record(),
    }


METHOD = {
    "epochs": "30 s epochs: the window that covers the epoch exactly, unsmoothed",
    "grid": "published: smoothed estimate of the window from 3 k s on against the expert's stage there",
    "paired": "difference of two stagers' agreement with the expert, two-sided sign flips of nights; "
    "interval: Student's t, further to the side of the longer tail",
    "interval": "95 %, jackknife over subjects with Student's t, never narrower than one over stretches of consecutive "
    "time within them; of one subject over its stretches alone",
    "chance": "expected from how often either names each stage; majority: always the most frequent stage",
    "unknown": "windows that could not be staged are left out of agreement and counted apart",
    "latency": "from a true change of stage to the first estimate after it, and before the next change, that "
    "names the new stage; a window's estimate is there when the window ends; changes whose new stage was "
    "named already are early and have none",
    "gate": "the gate of params/realtime.yaml, staged every 6 s (stored windows) instead of 5 s",
    "yasa": "on the windows put together to one recording of assumed scale (staging.stitched_microvolts)",
}
"""How the figures were computed, for the summary."""


def _grid(night: StagedNight, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    return staging_metrics.published_grid(stages(night.estimates.smoothed(smoothing)), night.epochs)


def _gates(nights: Sequence[StagedNight], settings: StagingEvaluation, name: str) -> dict[str, list[dict]]:
    """Return the gate's table for the stager under test, and for YASA where it was asked about as often."""
    step = settings.gate_every_windows
    gated = {name: [gate_tradeoff.ScoredNight(n.name, n.estimates.every(step), n.epochs) for n in nights]}
    if settings.yasa and settings.yasa_every_seconds <= WINDOW_STEP * step:
        gated[CAUSAL] = [gate_tradeoff.ScoredNight(n.name, n.past, n.epochs) for n in nights if n.past]
    choices = (settings.gate_thresholds, settings.gate_detections)
    return {scorer: gate_tradeoff.sweep(own, GateSettings(), *choices) for scorer, own in gated.items()}


def _latency(nights: Sequence[StagedNight], settings: StagingEvaluation) -> dict[str, Any]:
    found = {}
    for weight in settings.latency_smoothing:
        rows = []
        for night in nights:
            codes = stages(night.estimates.smoothed(weight))
            rows += staging_metrics.onset_latencies(night.estimates.seconds, codes, night.epochs)
        into = {stage: [row for row in rows if row["to"] == stage] for stage in STAGES}
        found[f"{weight:g}"] = {
            **staging_metrics.latency_summary(rows),
            "to": {stage: staging_metrics.latency_summary(own) for stage, own in into.items()},
            "changes": rows,
        }
    return found


def _reliability(nights: Sequence[StagedNight], settings: StagingEvaluation) -> dict[str, Any]:
    """Return the reliability of P(N2) + P(N3) at the ends of epochs, as given and as the gate smooths it."""
    truth = np.concatenate([night.epochs for night in nights])
    found = {}
    for words, weight in (("as given", 1.0), ("smoothed as in real time", GateSettings().smoothing)):
        rows = []
        for night in nights:
            at = staging_metrics.at_epochs(night.estimates.seconds, len(night.epochs))
            rows.append(np.where(at[:, None] < 0, np.nan, night.estimates.smoothed(weight)[at]))
        found[words] = nrem_reliability(np.concatenate(rows), truth, settings.reliability_bins)
    return found


def _write(
    nights: Sequence[StagedNight], summary: Mapping[str, Any], folder: Path, name: str, smoothing: float,
    kind: str | None,
) -> None:  # fmt: skip
    pickled, frames = {}, []
    for night in nights:
        truth, found = _grid(night, smoothing)
        smooth = night.estimates.smoothed(smoothing)
        smooth = np.concatenate([smooth, np.repeat(smooth[-1:], len(truth) - len(smooth), axis=0)])
        pickled[night.name] = {
            "label": truth, "prediction": found, "probability": smooth.astype(np.float32),
            **({"simulated": True} if summary["simulated"] else {}),
        }  # fmt: skip
        frames.append(_frame(night))
    write_pickle(pickled, folder / f"{name}.pickle")
    write_csv(folder / "predictions.csv", frames)
    counts = {part: np.array(summary["overall"][part]["confusion"]) for part in ("epochs", "grid")}
    plots_staging.confusion_figure(counts, folder / "confusion_matrix.png", name, kind)
    plots_staging.latency_figure(summary["latency"], folder / "latency.png", name, kind)
    plots_staging.reliability_figure(summary["reliability"], folder / "reliability.png", name, kind)
    plots_staging.bland_altman_figure(summary["sleep_statistics"], folder / "sleep_statistics.png", kind)
    plots_staging.gate_figure(summary["gate"], folder / "gate.png", kind)


def _frame(night: StagedNight) -> pd.DataFrame:
    """Return one row a 30 s epoch: expert, stagers, and the probabilities of the one under test."""
    names = np.array([*STAGES, "unknown"])
    at = staging_metrics.at_epochs(night.estimates.seconds, len(night.epochs))
    probability = np.where(at[:, None] < 0, np.nan, night.estimates.probability[at])
    columns = {"subject": night.name, "epoch": np.arange(len(night.epochs)), "expert": names[night.epochs]}
    columns |= {"stage": names[night.found], **{key: names[codes] for key, codes in night.others.items()}}
    return pd.DataFrame(columns | {f"p_{stage}": probability[:, k] for k, stage in enumerate(STAGES)})


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary as lines for a terminal."""
    kind = kind_of(summary, "stager")
    lines = [f"{summary['experiment']}: {summary['measure']}{'' if kind is None else f' ({kind})'}"]
    for part, words in (("epochs", "30 s epochs"), ("grid", "published 3 s grid, smoothed")):
        lines.append(
            f"  {words:<30} {'accuracy':>8} {'95 % interval':>16} {'kappa':>6} {'macro F1':>8} {'chance':>7} {'n':>7}"
        )
        rows = {n: row[part] for n, row in summary["subjects"].items()} | {"all": summary["overall"][part]}
        lines += [_line(label, row) for label, row in rows.items()]
    for other in summary["agreement"]:
        if other["pooled"]:
            kappa = "-" if other["pooled"]["kappa"] is None else f"{other['pooled']['kappa']:.3f}"
            found = other["interval"]["accuracy"]
            interval = "no interval" if found is None else f"95 % {found[0]:.1%} to {found[1]:.1%}"
            lines.append(
                f"  {' and '.join(other['scorers'])}: agree in {other['pooled']['accuracy']:.1%} "
                f"({interval}, chance {other['chance']:.1%}), kappa {kappa}, n = {other['epochs']} epochs"
            )
    for pair in summary["paired"]:
        lines += [
            f"  {' - '.join(pair['scorers'])}, {measure}: {paired_values.in_words(pair[measure], 'nights')}"
            for measure in staging_metrics.MEASURES
        ]
    for weight, row in summary["latency"].items():
        if row["followed"]:
            lines.append(
                f"  onset latency, smoothing {weight}: mean {row['mean']:.0f} s, "
                f"90th percentile {row['p90']:.0f} s, {row['followed']} of {row['n']} changes followed, "
                f"{row['early']} named before they came"
            )
    for scorer, rows in summary["gate"].items():
        lines += [f"  {line}" for line in gate_tradeoff.table(rows, scorer)]
    lines += [f"  left out: {row['file']}: {row['reason']}" for row in summary["failures"]]
    return lines + [f"  warning: {warning}" for warning in summary["warnings"]]


def _line(name: str, row: Mapping[str, Any]) -> str:
    if not row["n"]:
        return f"  {name:<30} no epoch"
    interval = row["interval"]["accuracy"]
    spread = "too short" if interval is None else "[{:.3f}, {:.3f}]".format(*interval)
    kappa = "-" if row["kappa"] is None else f"{row['kappa']:.3f}"
    return (
        f"  {name:<30} {row['accuracy']:8.3f} {spread:>16} {kappa:>6} "
        f"{row['macro_f1']:8.3f} {row['chance']:7.3f} {row['n']:7d}"
    )
