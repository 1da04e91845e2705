"""From polygons to pixels: what people measured becomes a layer of the cube."""

from cube.labels.interpolating import interpolate
from cube.labels.labelling import STATES, plan_spread, spread

__all__ = ["STATES", "interpolate", "plan_spread", "spread"]
