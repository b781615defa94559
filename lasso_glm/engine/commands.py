"""What a Lasso GLM script does, from the command line to the last line it prints."""

import argparse
import logging
from collections.abc import Sequence

from sleep_interpreter.lasso_glm.engine.plans import PLANS
from sleep_interpreter.utils.core import command_line, parallel
from sleep_interpreter.utils.core.paths import PROJECT, display_path

log = logging.getLogger(__name__)


def run_plan(name: str, doc: str | None, argv: Sequence[str] | None = None) -> None:
    """Run one of `PLANS` as a command."""
    published = PLANS[name]
    args = parser(doc, cross=bool(published.tests)).parse_args(argv)
    from sleep_interpreter.lasso_glm.engine import settings as lasso_settings  # lazy: start-up

    settings = lasso_settings.read(args)
    from sleep_interpreter.data.formats.single_trials import find_subjects  # lazy: start-up
    from sleep_interpreter.lasso_glm.engine import report, run  # lazy: start-up
    from sleep_interpreter.train.settings.experiment import results_root  # lazy: start-up
    from sleep_interpreter.utils.core import config, data_card  # lazy: start-up

    root = PROJECT / settings.data.root
    files = find_subjects(root)
    card = data_card.card_of(root).cut_to_shortest()
    plan, settings = published.for_card(card, root), settings.for_card(card, cut=bool(published.tests))
    if left := sorted(set(published.domains) - set(plan.domains)):
        log.warning("%s: left out: %s; the data card has no such trials", name, ", ".join(left))
    folder = results_root(args) / f"lasso_{name}"
    results = run.run(
        plan, settings, files, root, folder, card,
        generalise=getattr(args, "generalise", False), restart=args.restart, part=args.part,
        jobs=args.jobs, backend=args.backend, scheduler=args.scheduler,
    )  # fmt: skip
    if args.part is not None:
        command_line.say(f"{len(results)} of {len(files)} subjects: {folder}; a run without --part gathers them")
        return
    notes = {"data": display_path(root)}
    if data_card.card_of(root).varying_lengths and set(plan.domains) & set(data_card.ASLEEP):
        end = card.windows.sleep.end
        notes["sleep_trials"] = f"of unequal length: used up to {end:g} s, the earliest end, and left out from there on"
    summary = report.report(plan, settings, results, folder, card, notes)
    run.replace_earlier(folder)
    config.save(settings, folder / "settings.yaml")
    written = f"written: {display_path(folder)} and {plan.pickle}.pickle beside it"
    command_line.say(*report.summary_lines(summary), written)


def parser(doc: str | None, cross: bool = False) -> argparse.ArgumentParser:
    """Return the argument parser of a Lasso GLM script; with `cross` of one that decodes another domain."""
    result = command_line.experiment_parser(doc)
    result.add_argument("--jobs", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    result.add_argument("--backend", choices=parallel.BACKENDS, default="joblib", help="default: joblib")
    result.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask scheduler: tcp://host:8786")
    result.add_argument("--restart", action="store_true", help="compute anew what is there already")
    result.add_argument(
        "--part", type=_part, metavar="I/N", help="the Ith of N shares of the subjects, without a report"
    )
    if cross:
        result.add_argument(
            "--generalise", action="store_true", help="every training sample against every test sample too"
        )
    return result


def _part(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N with I from 1 to N, for example 3/10")
    return int(index), int(count)
