"""Settings of hypothesis for all tests: no deadlines, and the same examples every time in CI."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile(
    "quadrat", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("quadrat")
