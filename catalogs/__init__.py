"""Where data comes from: files become scenes that fill a cube."""

import cube

if getattr(cube, "__distribution__", None) != "quadrat":
    raise ImportError(
        f"quadrat needs its own package 'cube', but Python finds {cube.__file__!r} under that "
        f"name. Rename what shadows it, or work in another folder."
    )

from catalogs.geotiff import geotiff, grid_of

__distribution__ = "quadrat"

__all__ = ["geotiff", "grid_of"]
