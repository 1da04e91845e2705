"""Files that are written whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from cube.errors import StoreError
from cube.objects import explained


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be made, or must not be replaced.

    Raises:
        StoreError: There is no such folder, or a file lies there.
    """
    if not path.parent.is_dir():
        raise StoreError(f"There is no folder {str(path.parent)!r}; create it first.")
    if path.exists() and not overwrite:
        raise StoreError(
            f"A file lies at {str(path)!r} already; give overwrite=True to replace it."
        )


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary name in the folder of a file; what lies there in the end gets the file's name.

    Raises:
        StoreError: There is no such folder, a file lies there, or the system refuses.
    """
    check_free(path, overwrite=overwrite)
    # The suffix stays: GDAL asks it what to write.
    partial = path.with_name(f".{uuid.uuid4().hex}.partial{path.suffix}")
    try:
        with explained(path):
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
