"""Look into a checkpoint, convert it between this project's .npz and TensorFlow's format, or export the network.

  python model/checkpoint.py inspect "data/Model checkpoint/Decoding/N2N3_SIMD.ckpt"
  python model/checkpoint.py inspect "results/Decoding checkpoint/N2N3_SIMD/ensemble.npz" --verbose
  python model/checkpoint.py convert N2N3_SIMD.ckpt ensemble.npz
  python model/checkpoint.py convert ensemble.npz N2N3_SIMD.ckpt     (under the published names)
  python model/checkpoint.py export "results/Decoding checkpoint/N2N3_SIMD" --format onnx --out exported

Nobody has to convert a released checkpoint: every script opens it as it is.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.model.checkpoints import convert, export
from sleep_interpreter.utils.core.command_line import parser, run, say


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__)
    commands = arguments.add_subparsers(dest="command", required=True, metavar="COMMAND")
    inspecting = commands.add_parser("inspect", help="what a checkpoint is and holds")
    inspecting.add_argument("file", metavar="FILE", help="a .npz, or a TensorFlow checkpoint with or without .index")
    converting = commands.add_parser("convert", help="from TensorFlow's format to .npz, or back")
    converting.add_argument("source", metavar="SRC")
    converting.add_argument("target", metavar="DST", help="ends in .npz, or in .ckpt for TensorFlow's format")
    converting.add_argument("--overwrite", action="store_true", help="replace DST if it is there")
    exporting = commands.add_parser("export", help="a network that runs without this project: SavedModel or ONNX")
    exporting.add_argument("source", metavar="RUN_OR_FILE", help="folder of a training, or a checkpoint")
    exporting.add_argument("--format", choices=tuple(export.FILES), required=True)
    exporting.add_argument("--out", required=True, metavar="DIR", help="a folder that is not there yet")
    exporting.add_argument("--member", type=int, metavar="I", help="member I alone (0, 1, ...) instead of their mean")
    for command in (
        inspecting,
        converting,
        exporting,
    ):  # accepted behind the command too, without undoing one before it
        command.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="names and shapes")
    args = arguments.parse_args(argv)
    if args.command == "inspect":
        say(*convert.inspect(args.file, args.verbose))
    elif args.command == "export":
        say(*export.export(args.source, args.format, args.out, args.member))
    else:
        say(*convert.convert(args.source, args.target, args.overwrite))


if __name__ == "__main__":
    sys.exit(run(main))
