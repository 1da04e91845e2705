"""Commands on training.

python -m training index URL SAMPLE.json --size 256 --out chips.parquet --where 'valid_share > 0.9'
python -m training split --index chips.parquet --by cells --cell-px 2048 --folds 5 --out split.json
python -m training sheet URL SAMPLE.json --index chips.parquet --out sheet.png
python -m training stream URL SAMPLE.json --index chips.parquet
python -m training fit URL EXPERIMENT.json --polygons FILE --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cube
import training
from cube.command import run_command
from training.commands import add_chip_commands, read_json, read_sample
from training.stream.specs import is_whole


def main(arguments: list[str] | None = None) -> int:
    """Parse, call the library, print one line a fact; 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Commands on training.")
    commands = parser.add_subparsers(required=True)
    add_chip_commands(commands)
    fit = commands.add_parser("fit", help="cross-validate a network by place, a bundle per fold")
    fit.add_argument("url")
    fit.add_argument("experiment", type=Path, help="JSON with sample, window, split and fit")
    fit.add_argument("--polygons", required=True, help="polygons that the label was spread from")
    fit.add_argument("--crs", help="what their CRS really is, if their file does not say")
    fit.add_argument("--out", type=Path, required=True, help="folder for the bundles")
    fit.set_defaults(call=_fit)
    return run_command(parser, arguments)


def _fit(args: argparse.Namespace) -> int:
    experiment = _read(args.experiment)
    spec = cube.read_spec(args.url)
    polygons = cube.read_polygons(args.polygons, grid=spec.grid, crs=args.crs)
    height, width = spec.grid.shape
    try:
        sample = read_sample(args.experiment)
        windows = cube.Windows(shape=(height, width), **experiment["window"])
        fit = training.FitSpec(**experiment["fit"])
        named = dict(experiment["split"])
        coverage = cube.coverage.build(args.url, named.pop("coverage"), polygons)
        by, folds = named.pop("by"), named.pop("folds")
        rules = training.SplitRules(**named)
    except (KeyError, TypeError) as error:
        raise cube.CubeError(f"{str(args.experiment)!r} lacks or misnames {error}.") from error
    split = training.split_by_place(coverage, polygons, windows, rules, by=by, folds=folds)
    print(split)
    args.out.mkdir(parents=True, exist_ok=True)
    split.save(args.out / "split.json")
    for bundle in training.cross_validate(args.url, sample, split, fit, out=args.out):
        print(f"{bundle.path}: {', '.join(f'{k} {v:.4g}' for k, v in bundle.metrics.items())}")
    return 0


def _read(path: Path) -> dict[str, Any]:
    data = read_json(path)
    lacking = {"sample", "window", "split", "fit"} - set(data)
    if lacking:
        raise cube.CubeError(f"{str(path)!r} lacks {', '.join(sorted(lacking))}.")
    strange = [name for name in ("window", "split", "fit") if not isinstance(data[name], dict)]
    if strange:
        raise cube.CubeError(f"{str(path)!r}: {', '.join(strange)} must be objects of JSON.")
    folds = data["split"].get("folds", 2)
    if not is_whole(folds, least=2):
        raise cube.CubeError(
            f"{str(path)!r}: folds of the split are a whole number from 2. Received {folds!r}."
        )
    return data


if __name__ == "__main__":
    sys.exit(main())
