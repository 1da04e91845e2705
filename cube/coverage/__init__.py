"""The share of every pixel inside every polygon, computed once and kept with the cube."""

from cube.coverage.handle import Coverage, build, load, remove
from cube.coverage.shares import Shares

__all__ = ["Coverage", "Shares", "build", "load", "remove"]
