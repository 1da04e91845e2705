"""Commands on trained models.

python -m inference predict URL LAYER BUNDLE [BUNDLE ...] [--folds LAYER]
"""

from __future__ import annotations

import argparse
import sys

import inference
import training
from cube.command import run_command


def main(arguments: list[str] | None = None) -> int:
    """Parse, call one function of the library, print one line a fact; 2 on an error."""
    parser = argparse.ArgumentParser(
        prog="python -m inference", description="Commands on trained models."
    )
    commands = parser.add_subparsers(required=True)
    predict = commands.add_parser("predict", help="write a model's prediction as a layer")
    predict.add_argument("url")
    predict.add_argument("layer")
    predict.add_argument("bundles", nargs="+", help="model folders, in the order of the folds")
    predict.add_argument("--folds", help="layer that says which model predicts each pixel")
    predict.add_argument("--plan", action="store_true", help="print the plan and stop")
    predict.set_defaults(call=_predict)
    return run_command(parser, arguments)


def _predict(args: argparse.Namespace) -> int:
    bundles = [training.load_bundle(path) for path in args.bundles]
    print(inference.plan_predict(args.url, args.layer, bundles, fold_layer=args.folds))
    if not args.plan:
        print(inference.predict(args.url, args.layer, bundles, fold_layer=args.folds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
