"""Rebuild the files of this folder from the two Debian packages that they come from.

    python rebuild.py                  fetch the packages with apt-get, and take the files out
    python rebuild.py --packages DIR   the same from .deb files that lie in DIR
    python rebuild.py --check          only compare the files here with SHA256SUMS

Needs a Debian (or a derivative) with apt-get and dpkg-deb, and only Python's standard library.
Nothing here is replaced unless every file of the packages has the sum in SHA256SUMS.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SITE_LIBRARY = Path("usr/lib/R/site-library")
FOLDERS = {  # package: the folder in it that holds the files
    "r-cran-sf": SITE_LIBRARY / "sf/shape",
    "r-cran-stars": SITE_LIBRARY / "stars/tif",
}


class RebuildError(Exception):
    """The files cannot be rebuilt; the message is the one line that the user sees."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; status 2 and one line on stderr when it cannot do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packages", type=Path, metavar="DIR", help="folder with the .deb files")
    parser.add_argument("--check", action="store_true", help="only compare with SHA256SUMS")
    options = parser.parse_args(arguments)
    try:
        sums = read_sums()
        if not options.check:
            rebuild(sums, options.packages)
        check({name: HERE / name for name in sums}, sums)
    except RebuildError as error:
        print(f"rebuild.py: {error}", file=sys.stderr)
        return 2
    print(f"{len(sums)} files as in SHA256SUMS")
    return 0


def read_sums() -> dict[str, str]:
    """SHA256SUMS, as file name to hexadecimal digest."""
    if not (HERE / "SHA256SUMS").is_file():
        raise RebuildError(f"SHA256SUMS is missing in {HERE}")
    lines = (HERE / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def rebuild(sums: dict[str, str], packages: Path | None) -> None:
    """Take every file out of the packages and, when all of them are right, put them here."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if packages is None:
            run("apt-get", "download", *FOLDERS, folder=root)
        for package in FOLDERS:
            archive = find_archive(packages or root, package)
            run("dpkg-deb", "--extract", str(archive), str(root / "unpacked"), folder=root)
        found = {name: find_file(root / "unpacked", name) for name in sums}
        check(found, sums)
        for name, path in found.items():
            shutil.copyfile(path, HERE / name)


def find_archive(folder: Path, package: str) -> Path:
    """The one .deb file of ``package`` in ``folder``."""
    archives = sorted(folder.glob(f"{package}_*.deb"))
    if len(archives) != 1:
        raise RebuildError(f"expected one {package}_*.deb in {folder}, found {len(archives)}")
    return archives[0].resolve()


def find_file(unpacked: Path, name: str) -> Path:
    """Where ``name`` lies in the unpacked packages."""
    for folder in FOLDERS.values():
        if (unpacked / folder / name).is_file():
            return unpacked / folder / name
    raise RebuildError(f"{name} is in neither {' nor '.join(FOLDERS)}")


def run(tool: str, *arguments: str, folder: Path) -> None:
    """Run a Debian tool in ``folder``, quietly unless it fails."""
    if shutil.which(tool) is None:
        raise RebuildError(f"{tool} is missing; it comes with Debian and its derivatives")
    done = subprocess.run(
        [tool, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise RebuildError(f"{tool} {arguments[0]} failed with status {done.returncode}: {reason}")


def check(paths: dict[str, Path], sums: dict[str, str]) -> None:
    """Raise unless every file is there and has its sum."""
    for name, path in paths.items():
        if not path.is_file():
            raise RebuildError(f"{name} is missing")
        came = hashlib.sha256(path.read_bytes()).hexdigest()
        if came != sums[name]:
            raise RebuildError(f"{name} differs: expected SHA-256 {sums[name]}, found {came}")


if __name__ == "__main__":
    sys.exit(main())
