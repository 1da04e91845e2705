"""The same numbers by rasterio and shapely alone, pixel by pixel."""

import numpy as np
import rasterio
import shapely

LIMIT = 1e-6
"""Largest difference from them: NDVI is kept as float32."""


def differences(folder, groups, data, panel):
    """Largest differences of what was spread and collected."""
    with rasterio.open(folder / "lsat7_2000_30.tif") as file:
        transform, shape, red = file.transform, file.shape, floats(file)
    with rasterio.open(folder / "lsat7_2000_40.tif") as file:
        nir = floats(file)
    group, pixel, area = parts(groups.geometry.to_numpy(), transform, shape)
    ndvi = ((nir - red) / (nir + red)).ravel()[pixel]
    seen = np.isfinite(ndvi)
    total, size = (
        np.bincount(group[seen], values[seen], len(groups)) for values in (area * ndvi, area)
    )
    mean = np.divide(total, size, out=np.full(len(groups), np.nan), where=size > 0)
    density = (groups["persons"] / groups.geometry.area).to_numpy()
    persons = np.bincount(pixel, area * density[group], red.size).reshape(shape)
    return {
        "persons of a pixel": largest(data["persons_by_area"], persons),
        "mean NDVI of a block group": largest(panel["indices_ndvi_mean"][:, 0], mean),
    }


def floats(file):
    """A band as float64, NaN for nodata."""
    return file.read(1, masked=True).astype("float64").filled(np.nan)


def parts(shapes, transform, shape):
    """Place of the polygon, place of the pixel, and area, of what the two share."""
    rows, cols = (axis.ravel() for axis in np.indices(shape))
    left, top = transform @ (cols, rows)
    pixels = shapely.box(left, top + transform.e, left + transform.a, top)
    polygon, pixel = shapely.STRtree(pixels).query(shapes, predicate="intersects")
    shapely.prepare(shapes)
    cut = ~shapely.contains_properly(shapes[polygon], pixels[pixel])
    area = np.full(len(pixel), abs(transform.determinant))
    area[cut] = shapely.area(shapely.intersection(shapes[polygon[cut]], pixels[pixel[cut]]))
    return polygon, pixel, area


def largest(found, expected):
    """Largest difference; infinite where one has a number and the other has none."""
    found, expected = (np.asarray(values, "float64") for values in (found, expected))
    lost = np.isnan(found) != np.isnan(expected)
    return float(np.where(lost, np.inf, np.nan_to_num(abs(found - expected))).max())
