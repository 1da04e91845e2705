"""How every command of this project ends: 0, or 2 and one clear line."""

from __future__ import annotations

import argparse
import sys

from cube.errors import CubeError


def run_command(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse and call what the subcommand set as ``call``.

    Returns:
        What the call returned; 2 after an error that the user can mend, which
        is printed as one line on standard error, without a traceback; 130 after
        an interrupt.
    """
    args = parser.parse_args(arguments)
    try:
        return int(args.call(args))
    except CubeError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  (a command's last word)
        return 2
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted; run it again to go on", file=sys.stderr)  # noqa: T201
        return 130
