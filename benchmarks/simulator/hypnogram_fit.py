"""Statistics of hypnograms, and the fit of the semi-Markov model to scored nights.

  python -m benchmarks.simulator.hypnogram_fit "data/SI Staging Label/Whole_label_data.pickle"

writes params/hypnogram.yaml from the released expert labels: the training recordings as the default, the
test recordings as mode `test` (their bouts of R are twice as long, so the two are never pooled).
"""

import sys
from pathlib import Path

import numpy as np
import yaml
from scipy import optimize
from scipy.special import ndtri

from sleep_interpreter.data.simulation.hypnogram import (
    EPOCHS_PER_MIN,
    KEYS,
    LEVELS,
    QUARTERS,
    START,
    HypnogramModel,
    Odds,
    cumulative,
    cycle_place,
    simulate_hypnogram,
)
from sleep_interpreter.utils.core.command_line import parser, run, say
from sleep_interpreter.utils.core.config import load
from sleep_interpreter.utils.core.constants import REM, STAGING_SECONDS, WAKE
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.parallel import on_one_thread
from sleep_interpreter.utils.core.paths import PARAMS, atomic_write, display_path

BOUT_MIN = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 90.0)
"""Bout lengths in minutes at which `describe` gives the share of bouts that are not longer."""
SPREAD = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Probabilities of the quantiles that `describe` gives of first occurrences and of sleep cycles."""
REM_APART_MIN = 15
"""Bouts of R less than this apart are one period of R (the rule of Feinberg and Floyd, 1979)."""
CYCLE_FROM_MIN = (0.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 120.0)
CLASSES = 4
"""Classes of bout length: with fewer, the first descent to N3 is too slow; more bring nothing."""
RIDGE = 0.03
"""Penalty on the logarithms of the factors: what was never seen keeps a factor of 1. Weak, or a few nights
would never tell that R does not come in the first hour."""
_FEWEST = 20
_ROUNDS, _NIGHTS = 3, 300
_YASA = {0: "WAKE", 1: "LIGHT", 2: "DEEP", 3: "REM"}
_HEADER = """\
# Hypnograms of whole nights (data/simulation/hypnogram.py): a semi-Markov model of W (with N1), N2, N3 and R.
# Written by `python -m benchmarks.simulator.hypnogram_fit LABELS`, which says how the figures are found; do
# not edit single odds by hand, they belong together. Figures made from simulated nights are simulated.
#
# night_hours, sleep_latency_min, final_wake_min: quantiles at 0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100 %.
# cycle_from_min: where rows of `cycle` begin, in minutes since sleep onset (first half of the rows, before
#   the first R) or since the end of the last bout of R (second half).
# stages: odds of the next stage (`next`: the other three in the order W, N2, N3, R) and of the class of bout
#   length (`length`): base x after (the stage before) x cycle x quarter of the night. tendency: share of the
#   variance of bout lengths that lies between nights; shift: added to the normal scores of bout lengths.
# observed: what the recordings look like, for comparison only (benchmarks.simulator.hypnogram_fit.describe).
# mode `test`: the same for the test recordings; 12 nights only, so its odds are rough.
"""


def describe(hypnograms):
    """Summarise nights, real or simulated, in one way.

    Parameters
    ----------
    hypnograms : sequence of int array (n_epochs,)
        Stage codes of `utils.core.constants.STAGES`, one an epoch of 30 s.

    Returns
    -------
    statistics : dict
        The fields of `data.simulation.hypnogram.NightStatistics`: `night_hours` mean and standard deviation;
        `share` of all epochs, its standard deviation over nights, `share_by_quarter`; `transitions` from bout
        to bout, rows adding up to 1; `bouts` (first and last ones included), lengths in minutes;
        `first_min`, 10, 25, 50, 75 and 90 % quantiles of the minutes to the first epoch in nights that have
        the stage; `rem_cycle_min`, the same quantiles of the minutes from one period of R to the next, start
        to start; `lacking`, share of nights without a stage; `sleep`, medians over nights of
        `yasa.Hypnogram.sleep_statistics` (minutes, %). N1 counts as wake in all of it, SOL, WASO, SE too.
    """
    import yasa

    hypnograms = [np.asarray(hypnogram, int) for hypnogram in hypnograms]
    if not hypnograms or any(len(hypnogram) < QUARTERS for hypnogram in hypnograms):
        raise ValueError("describe needs at least one night, and nights of at least 4 epochs")
    size = len(KEYS)
    names = list(_YASA.values())
    moves, lengths, sleep = np.zeros((size, size)), [[] for _ in KEYS], []
    for hypnogram in hypnograms:
        night = yasa.Hypnogram.from_integers(hypnogram, mapping=_YASA, n_stages=size)
        counts = night.transition_matrix()[0]
        moves += counts.reindex(index=names, columns=names, fill_value=0).to_numpy()
        periods = night.find_periods(threshold="0sec")
        for code, name in _YASA.items():
            lengths[code].append(periods.loc[periods["values"] == name, "length"].to_numpy())
        sleep.append(night.sleep_statistics())
    np.fill_diagonal(moves, 0)
    n_epochs = np.array([len(hypnogram) for hypnogram in hypnograms])
    every = np.concatenate(hypnograms)
    quarter = np.concatenate([QUARTERS * np.arange(n) // n for n in n_epochs])
    each = np.array([np.bincount(hypnogram, minlength=size) / len(hypnogram) for hypnogram in hypnograms])
    hours = n_epochs / (60 * EPOCHS_PER_MIN)
    cycles = np.concatenate([_rem_cycles(hypnogram) for hypnogram in hypnograms])
    first = [[np.argmax(h == code) / EPOCHS_PER_MIN for h in hypnograms if code in h] for code in range(size)]
    return {
        "nights": len(hypnograms),
        "epochs": len(every),
        "night_hours": [float(hours.mean()), float(hours.std())],
        "share": _by_stage(np.bincount(every, minlength=size) / len(every)),
        "share_sd": _by_stage(each.std(axis=0)),
        "share_by_quarter": [
            _by_stage(np.bincount(every[quarter == q], minlength=size) / (quarter == q).sum()) for q in range(QUARTERS)
        ],
        "transitions": dict(
            zip(KEYS, map(_by_stage, moves / np.maximum(moves.sum(axis=1, keepdims=True), 1)), strict=True)
        ),
        "bouts": {key: _bouts(lengths[code], len(hypnograms)) for code, key in enumerate(KEYS)},
        "first_min": {key: np.quantile(first[code], SPREAD).tolist() for code, key in enumerate(KEYS) if first[code]},
        "rem_cycle_min": np.quantile(cycles, SPREAD).tolist() if len(cycles) else [0.0] * len(SPREAD),
        "lacking": _by_stage((each == 0).mean(axis=0)),
        "sleep": {
            key: float(np.nanmedian([night[key] for night in sleep]))
            for key in ("TIB", "SPT", "TST", "WASO", "SE", "SOL", "Lat_REM", "SFI")
            if not np.isnan([night[key] for night in sleep]).all()
        },
    }


def bout_distance(cumulative_a, cumulative_b):
    """Return the Kolmogorov-Smirnov distance of two `cumulative` shares, at the lengths `BOUT_MIN` only."""
    return float(np.abs(np.subtract(cumulative_a, cumulative_b)).max())


def _by_stage(values):
    return {key: float(value) for key, value in zip(KEYS, values, strict=True)}


def _rem_cycles(hypnogram):
    """Return the minutes from each period of R to the next one."""
    places = np.flatnonzero(hypnogram == REM)
    apart = np.diff(places, prepend=-np.inf) > REM_APART_MIN * EPOCHS_PER_MIN
    return np.diff(places[apart]) / EPOCHS_PER_MIN


def _bouts(lengths, nights):
    minutes = np.concatenate(lengths) / EPOCHS_PER_MIN
    if not len(minutes):
        zeros = [0.0] * len(BOUT_MIN)
        return {"per_night": 0.0, "mean_min": 0.0, "median_min": 0.0, "p90_min": 0.0, "cumulative": zeros}
    return {
        "per_night": len(minutes) / nights,
        "mean_min": float(minutes.mean()),
        "median_min": float(np.median(minutes)),
        "p90_min": float(np.quantile(minutes, 0.9)),
        "cumulative": [float((minutes <= longest).mean()) for longest in BOUT_MIN],
    }


def read_labels(path):
    """Return the nights of a released label file by recording: dict of int8 (n_epochs,).

    An epoch has the stage that is scored at its beginning; a rest of less than 30 s at the end is dropped.
    """
    from sleep_interpreter.data.formats.staging_windows import check_hypnogram
    from sleep_interpreter.data.formats.validation import read_container

    nights = {}
    for name, entry in read_container(path, dict, " of subjects").items():
        onset, stage = check_hypnogram(entry, f"{display_path(path)}, {name}")
        starts = onset[0] + STAGING_SECONDS * np.arange(int((onset[-1] - onset[0]) // STAGING_SECONDS))
        # Segments of 0 s hold no epoch: `right` steps over them.
        nights[name] = stage[np.searchsorted(onset, starts, side="right") - 1].astype(np.int8)
    return nights


@on_one_thread  # tiny matrices: threads that wait for each other take many times as long
def fit_hypnogram(hypnograms, source):
    """Fit the model by penalised maximum likelihood.

    The wakefulness before the first and after the last epoch of sleep is taken apart; its quantiles are kept.
    In between, lengths of a stage come from a mixture of lognormals cut into epochs, the last bout counting
    as at least as long as it is; then the odds of the classes and of the next stage are multinomial
    logistic regressions. `tendency` is the intraclass correlation of normal scores of the lengths; `shift` is
    found by simulating: it makes the mean logarithm of the lengths right.

    Parameters
    ----------
    hypnograms : sequence of int array (n_epochs,)
    source : str
        Where the nights come from.

    Returns
    -------
    tree : dict
        The fields of `Hypnogram`, numbers rounded to 4 significant digits.
    """
    if not all((hypnogram != WAKE).any() for hypnogram in hypnograms):
        raise UserError(f"{source}: a night without any N2, N3 or R cannot be fitted to, leave it out")
    bouts = np.array([(i, *bout) for i, h in enumerate(hypnograms) for bout in _bouts_of(h)])
    for code, key in enumerate(KEYS):
        if np.sum(bouts[:, _STAGE] == code) < _FEWEST:
            raise UserError(f"{source}: fewer than {_FEWEST} bouts of {key}, too few to fit anything to")
    asleep = [np.flatnonzero(hypnogram != WAKE) for hypnogram in hypnograms]
    after = [len(hypnogram) - 1 - place[-1] for hypnogram, place in zip(hypnograms, asleep, strict=True)]
    tree = {
        "source": source,
        "night_hours": np.quantile([len(h) / (60 * EPOCHS_PER_MIN) for h in hypnograms], LEVELS),
        "sleep_latency_min": np.quantile([place[0] / EPOCHS_PER_MIN for place in asleep], LEVELS),
        "final_wake_min": np.quantile(np.array(after) / EPOCHS_PER_MIN, LEVELS),
        "cycle_from_min": CYCLE_FROM_MIN,
        "stages": {key: _fit_stage(bouts[bouts[:, _STAGE] == code], code) for code, key in enumerate(KEYS)},
        "observed": describe(hypnograms),
    }
    mean, deviation = _log_lengths(hypnograms)
    for _ in range(_ROUNDS):
        model = HypnogramModel(**_rounded(tree))
        found, _ = _log_lengths([simulate_hypnogram(model, 0, "fit", i) for i in range(_NIGHTS)])
        for code, key in enumerate(KEYS):
            tree["stages"][key]["shift"] += float((mean[code] - found[code]) / deviation[code])
    return _rounded(tree)


def _log_lengths(hypnograms):
    """Return mean and standard deviation of the logarithm of the bout lengths of each stage, (4,) each."""
    edges = [np.r_[0, np.flatnonzero(np.diff(hypnogram)) + 1, len(hypnogram)] for hypnogram in hypnograms]
    lengths = np.log(np.concatenate([np.diff(places) for places in edges]))
    stage = np.concatenate([h[places[:-1]] for h, places in zip(hypnograms, edges, strict=True)])
    groups = [lengths[stage == code] for code in range(len(KEYS))]
    return [group.mean() for group in groups], [group.std() for group in groups]


# Columns of the table of bouts.
_NIGHT, _BEFORE, _STAGE, _NEXT, _LENGTH, _CYCLE, _QUARTER, _END_CYCLE, _END_QUARTER = range(9)


def _bouts_of(hypnogram):
    """Yield a night's bouts: stage before (its own: none), stage, next (-1: unknown), length, places."""
    n = len(hypnogram)
    edges = np.r_[0, np.flatnonzero(np.diff(hypnogram)) + 1, n]
    stages = hypnogram[edges[:-1]].astype(int)
    if stages[-1] == WAKE:  # the final wakefulness
        edges, stages = edges[:-1], stages[:-1]
    anchor, first_cycle = (edges[1] if stages[0] == WAKE else 0), True
    for i, stage in enumerate(stages):
        start, stop = edges[i], edges[i + 1]
        place = cycle_place(CYCLE_FROM_MIN, max(start - anchor, 0), first_cycle), QUARTERS * start // n
        if stage == REM:
            anchor, first_cycle = stop, False
        ends = cycle_place(CYCLE_FROM_MIN, max(stop - anchor, 0), first_cycle), QUARTERS * stop // n
        known = i + 1 < len(stages)
        length = 0 if i == 0 and stage == WAKE else stop - start  # the sleep latency is no bout
        yield stages[i - 1] if i else stage, stage, stages[i + 1] if known else -1, length, *place, *ends


def _fit_stage(bouts, code):
    others = [other for other in range(len(KEYS)) if other != code]
    moved = bouts[bouts[:, _NEXT] >= 0]
    chosen = (moved[:, _NEXT, None] == others).astype(float)
    following = _fit_odds(moved[:, [_BEFORE, _END_CYCLE, _END_QUARTER]], chosen, code)
    bouts = bouts[bouts[:, _LENGTH] > 0]
    length, open_end = bouts[:, _LENGTH], bouts[:, _NEXT] < 0
    median, spread = _fit_classes(length, open_end)
    likelihood = _likelihood(length, open_end, median, spread)
    lasting = _fit_odds(bouts[:, [_BEFORE, _CYCLE, _QUARTER]], likelihood, code)
    return {
        "next": following,
        "length": lasting,
        "median_min": median,
        "spread": spread,
        "shift": 0.0,
        "tendency": _tendency(bouts[~open_end], Odds(**lasting), median, spread),
    }


def _likelihood(length, open_end, median, spread):
    """Return the probability of each length (n,) in each class, (n, k); of at least it at an open end."""
    below = cumulative(length - 1, median, spread)
    upto = np.where(open_end[:, None], 1.0, cumulative(length, median, spread))
    return np.maximum(upto - below, 1e-300)


def _fit_classes(length, open_end):
    """Return medians in minutes and spreads (k,) of a mixture, short to long, whatever the circumstances."""
    kinds, count = np.unique(np.column_stack([length, open_end]), axis=0, return_counts=True)

    def loss(x):
        median, spread, weight = np.exp(x.reshape(3, CLASSES))
        each = _likelihood(kinds[:, 0], kinds[:, 1] == 1, median / EPOCHS_PER_MIN, spread)
        fit = count @ np.log(each @ (weight / weight.sum()))
        return -fit + 0.5 * ((x[CLASSES : 2 * CLASSES] + 0.7) ** 2).sum()  # spreads not far from 0.5

    # The likelihood has several maxima; a fit from one start alone may lose the tail.
    starts = [np.log(np.quantile(length, (np.arange(CLASSES) + 0.5) / CLASSES) + 0.3 * np.arange(CLASSES))]
    starts.append(np.linspace(0, np.log(length.max()), CLASSES))
    bounds = [(-1, 6)] * CLASSES + [(-2, 0.7)] * CLASSES + [(-6, 6)] * CLASSES
    options = {"ftol": 1e-10, "maxiter": 1000, "maxfun": 100_000}
    rest = np.r_[np.full(CLASSES, np.log(0.5)), np.zeros(CLASSES)]
    fits = [
        optimize.minimize(loss, np.r_[start, rest], bounds=bounds, method="L-BFGS-B", options=options)
        for start in starts
    ]
    found = min(fits, key=lambda result: result.fun)
    median, spread, _ = np.exp(found.x.reshape(3, CLASSES))
    order = np.argsort(median)
    return median[order] / EPOCHS_PER_MIN, spread[order]


def _fit_odds(places, likelihood, code):
    """Fit `Odds` to the likelihood (n, k) of each option where `places` (n, 3) are before, cycle, quarter."""
    sizes = (1, len(KEYS), 2 * len(CYCLE_FROM_MIN), QUARTERS)
    offsets = np.cumsum((0, *sizes))
    design = np.zeros((len(places), offsets[-1]))
    design[:, 0] = 1
    design[np.arange(len(places))[:, None], offsets[1:4] + places] = 1
    seen = likelihood.max(axis=0) > 0
    penalty = np.full((offsets[-1], 1), RIDGE)
    penalty[0] = 1e-3
    shape = (offsets[-1], int(seen.sum()))

    def loss(x):
        weights = x.reshape(shape)
        scores = design @ weights
        chance = np.exp(scores - scores.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        joint = chance * likelihood[:, seen]
        total = joint.sum(axis=1, keepdims=True)
        slope = design.T @ (chance - joint / total) + penalty * weights
        return -np.log(total).sum() + 0.5 * (penalty * weights**2).sum(), slope.ravel()

    found = optimize.minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B")
    factors = np.ones((offsets[-1], likelihood.shape[1]))
    factors[:, seen] = np.exp(found.x.reshape(shape))
    base = np.where(seen, factors[0], 0.0)
    _, after, cycle, quarter = np.split(factors, offsets[1:4])
    return {
        "base": (base / base.sum()).tolist(),
        "after": {START if i == code else key: after[i].tolist() for i, key in enumerate(KEYS)},
        "cycle": cycle.tolist(),
        "quarter": quarter.tolist(),
    }


def _tendency(bouts, lasting, median, spread):
    """Return the intraclass correlation of the lengths' normal scores, bouts grouped by night, at least 0."""
    scores = {}
    for bout in bouts:
        before = START if bout[_BEFORE] == bout[_STAGE] else KEYS[bout[_BEFORE]]
        chances = lasting.chances(before, bout[_CYCLE], bout[_QUARTER])
        below, upto = cumulative(bout[_LENGTH] + np.array([-1, 0]), median, spread) @ chances
        middle = np.clip((below + upto) / 2, 1e-6, 1 - 1e-6)
        scores.setdefault(bout[_NIGHT], []).append(ndtri(middle))
    groups = [np.array(group) for group in scores.values() if len(group) > 1]
    sizes = np.array([len(group) for group in groups])
    total, means = sizes.sum(), np.array([group.mean() for group in groups])
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (total - len(groups))
    between = (sizes * (means - np.concatenate(groups).mean()) ** 2).sum() / (len(groups) - 1)
    typical = (total - (sizes**2).sum() / total) / (len(groups) - 1)
    variance = max((between - within) / typical, 0.0)
    return float(variance / (variance + within))


def _rounded(tree):
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple | np.ndarray):
        return [_rounded(value) for value in tree]
    return tree if isinstance(tree, str | int) else float(f"{tree:.4g}")


def main(argv=None):
    arguments = parser(__doc__)
    arguments.add_argument("labels", type=Path, help="Whole_label_data.pickle, the expert hypnograms")
    arguments.add_argument("--out", type=Path, metavar="YAML", default=PARAMS / "hypnogram.yaml")
    args = arguments.parse_args(argv)
    nights = read_labels(args.labels)
    test = [night for name, night in nights.items() if name.startswith("subject_test")]
    training = [night for name, night in nights.items() if not name.startswith("subject_test")]
    if not test or not training:
        raise UserError(f"{args.labels}: needs recordings named subject_* and subject_test_*")
    source = "expert labels of the published data set (SI Staging Label/Whole_label_data.pickle), {} {}"
    tree = fit_hypnogram(training, source.format(len(training), "training recordings"))
    tree["modes"] = {"test": fit_hypnogram(test, source.format(len(test), "test recordings"))}
    with atomic_write(args.out) as temporary:
        text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110)
        temporary.write_text(_HEADER + text, encoding="utf-8")
    for mode in (None, "test"):
        load(HypnogramModel, args.out, mode=mode)
    say(f"fitted to {len(training)} + {len(test)} recordings: {args.out}")


if __name__ == "__main__":
    sys.exit(run(main))
