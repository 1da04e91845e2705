"""One toy cube for all tests of inference; none of them may write to it."""

from __future__ import annotations

import pytest

from tests import toy


@pytest.fixture(scope="session")
def city(tmp_path_factory):
    return toy.build(tmp_path_factory.mktemp("inference") / "toy.zarr")
