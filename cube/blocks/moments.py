"""Loops over the pixels of polygons, compiled.

Every polygon is summed by itself: first along its runs of whole pixels, row by row, then over its
boundary pixels, with accumulators in registers. That order is the tile's, so sums depend on
nothing else. NaN is nodata and counts nowhere.

Rasters are (y, x), C-contiguous, and a tile begins in them at ``(top, left)``. ``runs`` is
(first, row, start, stop) and ``edges`` is (first, row, col, share) of a
:class:`cube.blocks.tile_runs.TileRuns`. Compiled at first use, and kept beside this file or in
the user's cache.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from cube.blocks.tallies import HIGH, LOW, SIMPLE, SQUARES, TOTAL, WEIGHT, WEIGHT2


@numba.njit(nogil=True, cache=True)
def extent(label, polygon):
    """Least and greatest polygon that meets a tile; the first is greater where there is none."""
    least, most = np.int64(2**31), np.int64(-1)
    for part in (label.ravel(), polygon):
        for here in part:
            if here >= 0:
                least, most = min(least, here), max(most, here)
    return least, most


@numba.njit(nogil=True, cache=True)
def mark(label, polygon, least, seen):
    """Mark the polygons that meet a tile, at their number less ``least``."""
    for here in label.flat:
        if here >= 0:
            seen[here - least] = True
    for here in polygon:
        seen[here - least] = True


@numba.njit(nogil=True, cache=True)
def count_runs(label, place, least):
    """Number of runs of equal labels of each polygon, at its place + 1."""
    counts = np.zeros(place.max() + 2, np.int64)
    height, width = label.shape
    for i in range(height):
        before = -1
        for j in range(width):
            here = label[i, j]
            if here >= 0 and here != before:
                counts[place[here - least] + 1] += 1
            before = here
    return counts


@numba.njit(nogil=True, cache=True)
def list_runs(label, place, least, first):
    """Row, start and stop of the runs, ordered by polygon, then row; see :func:`count_runs`."""
    free = first[:-1].copy()
    row = np.empty(first[-1], np.uint16)
    start, stop = np.empty_like(row), np.empty_like(row)
    height, width = label.shape
    for i in range(height):
        j = 0
        while j < width:
            here = label[i, j]
            begin = j
            while j < width and label[i, j] == here:
                j += 1
            if here >= 0:
                at = free[place[here - least]]
                free[place[here - least]] += 1
                row[at], start[at], stop[at] = i, begin, j
    return row, start, stop


@numba.njit(nogil=True, cache=True)
def list_edges(pixel, polygon, share, width, place, least, polygons):
    """First, row, column and share of entries, ordered by polygon, then as they came."""
    first = np.zeros(polygons + 1, np.int64)
    for here in polygon:
        first[place[here - least] + 1] += 1
    for m in range(polygons):
        first[m + 1] += first[m]
    free = first[:-1].copy()
    row, col = np.empty(pixel.size, np.uint16), np.empty(pixel.size, np.uint16)
    shares = np.empty_like(share)
    for e in range(pixel.size):
        at = free[place[polygon[e] - least]]
        free[place[polygon[e] - least]] += 1
        row[at], col[at] = pixel[e] // width, pixel[e] % width
        shares[at] = share[e]
    return first, row, col, shares


@numba.njit(nogil=True, cache=True)
def sizes(runs, edges):
    """Sum of shares of each polygon, in the order of :func:`measure`, float64 (polygon,)."""
    out = np.empty(len(runs[0]) - 1)
    for m in range(out.size):
        whole = 0
        for i in range(runs[0][m], runs[0][m + 1]):
            whole += runs[3][i] - runs[2][i]
        weight = float(whole)
        for e in range(edges[0][m], edges[0][m + 1]):
            weight += edges[3][e]
        out[m] = weight
    return out


@numba.njit(nogil=True, cache=True)
def measure(values, top, left, runs, edges, sizes, table):
    """Fill a table of moments, float64 (row, polygon); for its rows see :mod:`cube.blocks.tallies`.

    Squared deviations are those from the mean, in a second pass over a polygon that is still in
    the core's cache: squares of large values would swallow a small deviation. ``sizes`` are sums of
    shares, float64 (polygon,).
    """
    for m in range(table.shape[1]):
        weight = sizes[m]
        total, low, high = _without_gaps(values, top, left, runs, edges, m)
        if math.isnan(total):
            weight, total, low, high = _with_gaps(values, top, left, runs, edges, m)
        table[WEIGHT, m], table[TOTAL, m] = weight, total
        table[LOW, m], table[HIGH, m] = low, high
        if len(table) > SIMPLE:
            mean = centre(weight, total, low, high) if weight > 0 else 0.0
            squares, weight2 = _spread(values, top, left, runs, edges, m, mean)
            table[SQUARES, m], table[WEIGHT2, m] = squares, weight2


@numba.njit(nogil=True, cache=True)
def centre(weight, total, low, high):
    """Mean of a polygon. Kept between its values, so that of equal ones it is theirs."""
    return min(max(total / weight, low), high)


@numba.njit(nogil=True, cache=True)
def _with_gaps(values, top, left, runs, edges, m):
    """Sum of shares, sum of share x value, least and greatest value of one polygon."""
    first, row, start, stop = runs
    edge, edge_row, edge_col, share = edges
    count, total, low, high = 0, 0.0, math.inf, -math.inf
    for i in range(first[m], first[m + 1]):
        y = np.uintp(top + row[i])
        for x in range(np.uintp(left + start[i]), np.uintp(left + stop[i])):
            value = np.float64(values[y, x])
            # Selected rather than branched to: the next pixel need not wait for this one.
            known = not math.isnan(value)
            count += known
            total += value if known else 0.0
            low = value if value < low else low
            high = value if value > high else high
    weight = float(count)
    for e in range(edge[m], edge[m + 1]):
        value = np.float64(values[np.uintp(top + edge_row[e]), np.uintp(left + edge_col[e])])
        known = not math.isnan(value)
        part = np.float64(share[e]) if known else 0.0
        weight += part
        total += part * (value if known else 0.0)
        low = value if value < low else low
        high = value if value > high else high
    return weight, total, low, high


@numba.njit(nogil=True, cache=True)
def _without_gaps(values, top, left, runs, edges, m):  # noqa: PLR0915  (two at a time)
    """Sum of share x value, least and greatest value of one polygon; the sum is NaN if any is."""
    first, row, start, stop = runs
    edge, edge_row, edge_col, share = edges
    # Two of each side by side: what is done to a pixel need not wait for the one before.
    total, total2 = 0.0, 0.0
    low, low2, high, high2 = math.inf, math.inf, -math.inf, -math.inf
    step = np.uintp(1)
    for i in range(first[m], first[m + 1]):
        y = np.uintp(top + row[i])
        x, end = np.uintp(left + start[i]), np.uintp(left + stop[i])
        if (stop[i] - start[i]) % 2:
            value = np.float64(values[y, x])
            total += value
            low, high = min(low, value), max(high, value)
            x += step
        while x < end:
            value, value2 = np.float64(values[y, x]), np.float64(values[y, x + step])
            total += value
            total2 += value2
            low = value if value < low else low
            low2 = value2 if value2 < low2 else low2
            high = value if value > high else high
            high2 = value2 if value2 > high2 else high2
            x += step + step
    begin, end_ = edge[m], edge[m + 1]
    if (end_ - begin) % 2:
        value = np.float64(
            values[np.uintp(top + edge_row[begin]), np.uintp(left + edge_col[begin])]
        )
        total += np.float64(share[begin]) * value
        low, high = min(low, value), max(high, value)
        begin += 1
    for e in range(begin, end_, 2):
        value = np.float64(values[np.uintp(top + edge_row[e]), np.uintp(left + edge_col[e])])
        y, x = np.uintp(top + edge_row[e + 1]), np.uintp(left + edge_col[e + 1])
        value2 = np.float64(values[y, x])
        total += np.float64(share[e]) * value
        total2 += np.float64(share[e + 1]) * value2
        low = value if value < low else low
        low2 = value2 if value2 < low2 else low2
        high = value if value > high else high
        high2 = value2 if value2 > high2 else high2
    return total + total2, min(low, low2), max(high, high2)


@numba.njit(nogil=True, cache=True)
def _spread(values, top, left, runs, edges, m, mean):
    """Sum of share x squared deviation, and sum of squared shares, of one polygon."""
    first, row, start, stop = runs
    edge, edge_row, edge_col, share = edges
    count, weight2, squares = 0, 0.0, 0.0
    for i in range(first[m], first[m + 1]):
        y = np.uintp(top + row[i])
        for x in range(np.uintp(left + start[i]), np.uintp(left + stop[i])):
            apart = float(values[y, x]) - mean
            known = not math.isnan(apart)
            count += known
            squares += apart * apart if known else 0.0
    for e in range(edge[m], edge[m + 1]):
        apart = float(values[np.uintp(top + edge_row[e]), np.uintp(left + edge_col[e])]) - mean
        known = not math.isnan(apart)
        part = float(share[e]) if known else 0.0
        weight2 += part * part
        squares += part * (apart * apart if known else 0.0)
    return squares, count + weight2


@numba.njit(nogil=True, cache=True)
def measure_weighted(values, weights, top, left, runs, edges, table):
    """Like :func:`measure`, each share times a second raster, whose zeros count nowhere either."""
    first, row, start, stop = runs
    edge, edge_row, edge_col, share = edges
    for m in range(table.shape[1]):
        weight, total, low, high = 0.0, 0.0, math.inf, -math.inf
        for i in range(first[m], first[m + 1] + edge[m + 1] - edge[m]):
            inside = i < first[m + 1]
            e = edge[m] + i - first[m + 1]
            y = top + (row[i] if inside else edge_row[e])
            begin = left + (start[i] if inside else edge_col[e])
            part = 1.0 if inside else float(share[e])
            for x in range(begin, left + stop[i] if inside else begin + 1):
                value, factor = float(values[y, x]), part * float(weights[y, x])
                if not math.isnan(value) and factor > 0:
                    weight += factor
                    total += factor * value
                    low, high = min(low, value), max(high, value)
        table[WEIGHT, m], table[TOTAL, m] = weight, total
        table[LOW, m], table[HIGH, m] = low, high


@numba.njit(nogil=True, cache=True)
def propagate(values, errors, top, left, runs, edges, table):
    """Sums of shares, of their squares, and of squared share x error; float64 (3, polygon).

    Over pixels that have both a value and an error.
    """
    first, row, start, stop = runs
    edge, edge_row, edge_col, share = edges
    for m in range(table.shape[1]):
        weight, weight2, total = 0.0, 0.0, 0.0
        for i in range(first[m], first[m + 1] + edge[m + 1] - edge[m]):
            inside = i < first[m + 1]
            e = edge[m] + i - first[m + 1]
            y = top + (row[i] if inside else edge_row[e])
            begin = left + (start[i] if inside else edge_col[e])
            part = 1.0 if inside else float(share[e])
            for x in range(begin, left + stop[i] if inside else begin + 1):
                value, error = float(values[y, x]), part * float(errors[y, x])
                if not (math.isnan(value) or math.isnan(error)):
                    weight += part
                    weight2 += part * part
                    total += error * error
        table[0, m], table[1, m], table[2, m] = weight, weight2, total


@numba.njit(nogil=True, cache=True)
def count_classes(places, top, left, runs, edges, table):
    """Fill the sum of shares of each class, float64 (class, polygon).

    ``places`` holds the place of each pixel's class in the table, -1 for nodata.
    """
    first, row, start, stop = runs
    edge, edge_row, edge_col, share = edges
    table[:] = 0.0
    for m in range(table.shape[1]):
        for i in range(first[m], first[m + 1]):
            for x in range(left + start[i], left + stop[i]):
                place = places[top + row[i], x]
                if place >= 0:
                    table[place, m] += 1.0
        for e in range(edge[m], edge[m + 1]):
            place = places[top + edge_row[e], left + edge_col[e]]
            if place >= 0:
                table[place, m] += share[e]


@numba.njit(nogil=True, cache=True)
def gather(values, top, left, runs, edges, m, found, weight):
    """List a polygon's valid values and their shares; how many there are."""
    first, row, start, stop = runs
    edge, edge_row, edge_col, share = edges
    count = 0
    for i in range(first[m], first[m + 1]):
        for x in range(left + start[i], left + stop[i]):
            value = values[top + row[i], x]
            if not math.isnan(value):
                found[count], weight[count] = value, 1.0
                count += 1
    for e in range(edge[m], edge[m + 1]):
        value = values[top + edge_row[e], left + edge_col[e]]
        if not math.isnan(value):
            found[count], weight[count] = value, share[e]
            count += 1
    return count


@numba.njit(nogil=True, cache=True)
def most_pixels(runs, edges):
    """Pixels of the polygon that has most of them in a tile."""
    most = 0
    for m in range(len(runs[0]) - 1):
        count = edges[0][m + 1] - edges[0][m]
        for i in range(runs[0][m], runs[0][m + 1]):
            count += runs[3][i] - runs[2][i]
        most = max(most, count)
    return most


@numba.njit(nogil=True, cache=True)
def sort_out(values, top, left, runs, edges, chosen, levels, out):
    """Quantiles of chosen polygons, float64 (level, polygon): inverted weighted distribution."""
    most = most_pixels(runs, edges)
    found, weight = np.empty(most, values.dtype), np.empty(most)
    for m in range(out.shape[1]):
        out[:, m] = math.nan
        count = gather(values, top, left, runs, edges, m, found, weight) if chosen[m] else 0
        if count:
            order = np.argsort(found[:count])
            sums = np.cumsum(weight[:count][order])
            for k in range(levels.size):
                at = 0
                while at < count - 1 and sums[at] / sums[-1] < levels[k]:
                    at += 1
                out[k, m] = found[order[at]]


@numba.njit(nogil=True, cache=True)
def list_values(values, top, left, runs, edges, chosen):
    """Place among those chosen, value and share of each valid pixel of chosen polygons."""
    most, size = most_pixels(runs, edges), 0
    found, weight = np.empty(most, values.dtype), np.empty(most)
    for m in chosen:
        size += gather(values, top, left, runs, edges, m, found, weight)
    who, what, much = np.empty(size, np.int64), np.empty(size, values.dtype), np.empty(size)
    at = 0
    for c in range(chosen.size):
        count = gather(values, top, left, runs, edges, chosen[c], found, weight)
        who[at : at + count] = c
        what[at : at + count] = found[:count]
        much[at : at + count] = weight[:count]
        at += count
    return who, what, much


@numba.njit(nogil=True, cache=True)
def choose(who, digit, weight, level, total, below, prefix):
    """Append to each polygon's prefix the digit in which its quantile lies, in place.

    Digits are sorted by polygon, then digit; ``below`` is the weight of all smaller values.
    """
    i = 0
    while i < who.size:
        m, added = who[i], below[who[i]]
        while i + 1 < who.size and who[i + 1] == m and (added + weight[i]) / total[m] < level:
            added += weight[i]
            i += 1
        below[m] = added
        prefix[m] = (prefix[m] << np.uint64(16)) | np.uint64(digit[i])
        while i < who.size and who[i] == m:
            i += 1


@numba.njit(nogil=True, cache=True)
def merge(table, members, part):
    """Add the moments of a tile's polygons to those of all, in place.

    Squared deviations by the formula for two samples of Chan, Golub and LeVeque (1983),
    doi 10.1080/00031305.1983.10483115.
    """
    for i in range(members.size):
        m, weight = members[i], part[WEIGHT, i]
        if weight > 0 and len(table) > SIMPLE:
            before = table[WEIGHT, m]
            if before > 0:
                apart = centre(weight, part[TOTAL, i], part[LOW, i], part[HIGH, i]) - centre(
                    before, table[TOTAL, m], table[LOW, m], table[HIGH, m]
                )
                table[SQUARES, m] += apart * apart * before * (weight / (before + weight))
            table[SQUARES, m] += part[SQUARES, i]
            table[WEIGHT2, m] += part[WEIGHT2, i]
        table[WEIGHT, m] += weight
        table[TOTAL, m] += part[TOTAL, i]
        table[LOW, m] = min(table[LOW, m], part[LOW, i])
        table[HIGH, m] = max(table[HIGH, m], part[HIGH, i])
