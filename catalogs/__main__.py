"""Commands on data.

python -m catalogs ingest URL STACK FILE --bands blue,green,red --time 2000
"""

from __future__ import annotations

import argparse
import sys
from typing import Literal

import catalogs
import cube
from cube.command import run_command


def main(arguments: list[str] | None = None) -> int:
    """Parse, call one function of the library, print one line a fact; 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m catalogs", description="Commands on data.")
    commands = parser.add_subparsers(required=True)
    ingest = commands.add_parser("ingest", help="fill a stack or layer of a cube from a GeoTIFF")
    ingest.add_argument("url")
    ingest.add_argument("variable", help="stack or layer to fill")
    ingest.add_argument("file")
    ingest.add_argument("--bands", required=True, help="names of the file's bands, with commas")
    ingest.add_argument("--time", help="label of the period; leave out for a static variable")
    ingest.add_argument("--nodata", help="a number, or 'none' if every pixel is an observation")
    ingest.add_argument("--crs", help="what the CRS really is, if the file does not say")
    ingest.add_argument("--resampling", default="nearest")
    ingest.add_argument("--plan", action="store_true", help="print the plan and stop")
    ingest.set_defaults(call=_ingest)
    return run_command(parser, arguments)


def _ingest(args: argparse.Namespace) -> int:
    scene = catalogs.geotiff(
        args.file,
        bands=args.bands.split(","),
        nodata=_nodata(args.nodata),
        crs=args.crs,
        resampling=args.resampling,
    )
    sources = scene if args.time is None else {args.time: scene}
    print(cube.plan_ingest(args.url, args.variable, sources))
    if not args.plan:
        print(cube.ingest(args.url, args.variable, sources))
    return 0


def _nodata(text: str | None) -> float | Literal["none"] | None:
    if text is None:
        return None
    if text == "none":
        return "none"
    try:
        return float(text)
    except ValueError as error:
        raise cube.CubeError(f"--nodata must be a number or 'none'. Received {text!r}.") from error


if __name__ == "__main__":
    sys.exit(main())
