"""Prepare a lab's own recordings: every file that the training, test, Lasso, staging and SO scripts read.

Reads     a BIDS folder, or recordings of any format that MNE reads (docs/own_data.md walks through it)
Settings  params/prepare.yaml: events, channels, steps, stages, split; every default with its reason
Writes    the published layout (docs/data_format.md), Prepared/<subject>/report.html and manifest.json

  python data/prepare.py --bids my_study --out data/my_study
  python data/prepare.py --recordings 'raw/*.edf' --config my_prepare.yaml --out data/my_study --jobs 2

Started again it goes on where it was; a subject that fails stops no other. Exit code: 0 all complete, 1 some
failed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.utils.core.command_line import out_folder, parser, run, say
from sleep_interpreter.utils.core.errors import UserError
from sleep_interpreter.utils.core.paths import DATA


def main(argv: list[str] | None = None) -> int:
    arguments = parser(__doc__)
    source = arguments.add_mutually_exclusive_group(required=True)
    source.add_argument("--bids", type=Path, metavar="ROOT", help="BIDS folder")
    source.add_argument("--recordings", nargs="+", metavar="GLOB", help="recordings, for example 'raw/**/*.edf'")
    arguments.add_argument("--config", metavar="YAML", help="settings instead of params/prepare.yaml")
    arguments.add_argument(
        "--set", dest="overrides", metavar="a.b=c", action="append", default=[], help="change one setting"
    )
    arguments.add_argument("--out", type=out_folder, default=DATA / "prepared", metavar="DIR", help="data/prepared")
    arguments.add_argument("--subjects", metavar="NAMES", help="only these of the lab's names, with commas between")
    arguments.add_argument("--jobs", type=int, default=1, metavar="N", help="subjects side by side (default: 1)")
    arguments.add_argument("--force", action="store_true", help="prepare anew; replace what other settings made")
    args = arguments.parse_args(argv)
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: at least 1")
    from sleep_interpreter.data.preparation import inputs  # lazy: start-up
    from sleep_interpreter.data.preparation.run import prepare, summary_lines  # lazy: start-up
    from sleep_interpreter.data.preparation.settings import load_settings  # lazy: start-up

    settings = load_settings(args.config, args.overrides)
    if args.bids is not None:
        sources = inputs.find_bids(args.bids, settings)
    else:
        sources = inputs.find_recordings(args.recordings, settings)
    only = None if args.subjects is None else args.subjects.split(",")
    manifest = prepare(sources, settings, args.out, args.jobs, only, args.force)
    say(*summary_lines(manifest, args.out))
    return int(any(record["status"] != "complete" for record in manifest["subjects"].values()))


if __name__ == "__main__":
    sys.exit(run(main))
