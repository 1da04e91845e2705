"""Commands on cubes.

python -m cube create URL SPEC.json        a cube from a spec, metadata only
python -m cube info URL                    what it holds
python -m cube status URL                  what is done, by variable and period
python -m cube verify URL                  compare every written region with its checksum
python -m cube repair URL                  forget what is damaged, so that it is done again
python -m cube append URL LABEL START END  a further period
python -m cube remove URL VARIABLE         take a stack or a layer away
python -m cube cover URL NAME POLYGONS     keep the shares of pixels in polygons
python -m cube label URL LAYER POLYGONS    spread what polygons hold as a layer
python -m cube aggregate URL COVERAGE LAYER...   statistics of layers by block, as a panel
python -m cube export URL PANEL            a panel that was saved, as a file
python -m cube map URL PANEL VARIABLE      a variable of it, as a picture
python -m cube collect URL LAYER COVERAGE  aggregate a layer to polygons, as CSV
python -m cube crosswalk TABLE VALUES      bring a table from polygons to others
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cube
from cube import ledger
from cube.blocks.commands import add_block_commands
from cube.blocks.vectors import names_of_blocks
from cube.command import run_command
from cube.objects import explained


def main(arguments: list[str] | None = None) -> int:
    """Parse, call one function of the library, print one line a fact; 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m cube", description="Commands on cubes.")
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="a cube from a spec, metadata only")
    create.add_argument("url")
    create.add_argument("spec", type=Path, help="JSON, as CubeSpec.to_dict makes it")
    create.set_defaults(call=_create)
    for name, call, text in (
        ("info", _info, "what a cube holds"),
        ("status", _status, "what is done, by variable and period, without reading data"),
        ("verify", _verify, "compare every written region with its checksum"),
        ("repair", _repair, "forget what is damaged, so that it is done again"),
        ("append", _append, "a further period, after the last"),
        ("remove", _remove, "take a stack or a layer away, with its data"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("url")
        command.set_defaults(call=call)
    options = commands.choices
    options["status"].add_argument("--picture", type=Path, help="also as .svg, .png or .html")
    options["append"].add_argument("label", help="what people call it, e.g. 2020")
    options["append"].add_argument("start", help="first day, YYYY-MM-DD")
    options["append"].add_argument("end", help="first day after it, YYYY-MM-DD")
    options["remove"].add_argument("variable")
    options["remove"].add_argument("--force", action="store_true", help="even if a run is at work")
    add_block_commands(commands)
    return run_command(parser, arguments)


def _create(args: argparse.Namespace) -> int:
    try:
        data = json.loads(args.spec.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise cube.CubeError(f"The spec {str(args.spec)!r} cannot be read: {error}.") from error
    spec = cube.CubeSpec.from_dict(data)
    print(f"{cube.create(args.url, spec)}: spec {spec.digest}")
    return 0


def _info(args: argparse.Namespace) -> int:
    spec = cube.read_spec(args.url)
    height, width = spec.grid.shape
    print(f"{spec.title or 'untitled'}: spec {spec.digest}, {height} x {width} pixels")
    print(f"periods: {', '.join(period.label for period in spec.calendar)}")
    entries = ledger.entries(args.url, spec)
    for variable in spec.variables:
        written = entries[variable.name].written
        print(
            f"{variable.name} {variable.dims}, {variable.dtype}: "
            f"{int(written.sum())} of {written.size} regions written"
        )
    for name in names_of_blocks(args.url):
        print(f"blocks/{name}: a panel")
    return 0


def _verify(args: argparse.Namespace) -> int:
    verdict = cube.verify(args.url)
    print(verdict)
    return 0 if verdict.sound else 1


def _status(args: argparse.Namespace) -> int:
    status = cube.status(args.url)
    print(status)
    if args.picture:
        with explained(args.picture):
            status.save(args.picture)
        print(f"picture: {args.picture}")
    return 0


def _repair(args: argparse.Namespace) -> int:
    repaired = cube.repair(args.url)
    print(repaired)
    return 1 if repaired.forgotten else 0


def _append(args: argparse.Namespace) -> int:
    period = cube.Period(label=args.label, start=args.start, end=args.end)
    spec = cube.append(args.url, period)
    print(f"periods: {', '.join(period.label for period in spec.calendar)}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    spec = cube.remove(args.url, args.variable, force=args.force)
    print(f"variables: {', '.join(v.name for v in spec.variables) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
