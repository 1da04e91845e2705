"""What is done of a cube: counted, written down, and drawn without leaving anything out."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

import cube
from cube import ledger, objects
from cube.counts import Counts, VariableStatus
from cube.errors import SpecError, StoreError
from cube.regions import regions
from cube.statuses import Status, status
from cube.statusmap import merged, shares

SVG = "{http://www.w3.org/2000/svg}"
COLOURS = {"missing": "#e6e4df", "done": "#0a3566", "damaged": "#d9480f", "overwritten": "#ffc53d"}
LEGEND = 100
"""What lies higher is title and legend."""


def variable(written, *, name="ndvi", periods=None, damaged=None, replaced=None):
    """A variable's status from one array; periods are years if there is a time."""
    written = np.asarray(written, bool)
    if periods is None:
        periods = [str(2000 + n) for n in range(len(written))] if written.ndim == 3 else []
    none = np.zeros_like(written)
    damaged = none if damaged is None else damaged
    return VariableStatus(
        name=name,
        dims=("time", "y", "x") if periods else ("y", "x"),
        periods=tuple(periods),
        written=written & ~damaged,
        damaged=damaged,
        replaced=none if replaced is None else replaced,
        region=512,
    )


def status_of(*variables, title="Toy", url="/data/toy.zarr"):
    return Status(title=title, url=url, variables=variables)


@st.composite
def variables(draw, *, side=60, named=False):
    periods = draw(st.lists(st.text(max_size=30), max_size=4, unique=True))
    lead = (len(periods),) if periods else ()
    shape = (*lead, draw(st.integers(1, side)), draw(st.integers(1, side)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    done, damaged, replaced = (rng.random(shape) < draw(st.floats(0, 1)) for _ in range(3))
    name = draw(st.text(max_size=50)) if named else "ndvi"
    return variable(done, name=name, periods=periods, damaged=damaged & ~done, replaced=replaced)


statuses = st.builds(
    Status,
    title=st.text(max_size=100),
    url=st.text(max_size=100),
    variables=st.lists(variables(named=True, side=12), max_size=4),
)


def boxes(svg, layer):
    """Rectangles of a colour below the legend: left, top, width and height."""
    found = []
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if path.get("fill") == COLOURS[layer]:
            steps = re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", path.get("d"))
            found += [tuple(map(int, step)) for step in steps]
    return [box for box in found if box[1] > LEGEND]


def maps(svg):
    """Places of all maps, and what is said of them."""
    hints = [rect for rect in ET.fromstring(svg).iter(f"{SVG}rect") if len(rect)]
    sides = ("x", "y", "width", "height")
    return [(tuple(int(rect.get(side)) for side in sides), rect[0].text) for rect in hints]


def raster(svg, layer, place, cells):
    """Which cells of a map have a colour in their middle, or their corner for the others."""
    left, top, width, height = place
    pixels = np.zeros((height, width), bool)
    for x, y, w, h in boxes(svg, layer):
        if left <= x < left + width and top <= y < top + height:
            pixels[y - top : y - top + h, x - left : x - left + w] = True
    px = width // cells[1]
    at = px // 2 if layer == "overwritten" else 0
    return pixels[at::px, at::px]


@given(variables())
def test_counts_agree_with_the_arrays(v):
    one = status_of(v)
    masks = {"done": v.written, "damaged": v.damaged, "replaced": v.replaced}
    for kind, mask in masks.items():
        assert getattr(one.counts, kind) == getattr(v.counts, kind) == mask.sum()
        for place, label in enumerate(v.periods):
            assert getattr(one.of("ndvi", label), kind) == mask[place].sum()
    assert one.counts.total == v.written.size
    assert one.complete == v.written.all()


@given(arrays(bool, array_shapes(min_dims=2, max_dims=3, max_side=20)), st.integers(1, 25))
def test_a_share_is_the_exact_count_of_its_block(mask, factor):
    counts, sizes = shares(mask, factor)
    for y, x in np.ndindex(sizes.shape):
        block = mask[..., y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert sizes[y, x] == block.shape[-1] * block.shape[-2]
        assert (counts[..., y, x] == block.sum(axis=(-2, -1))).all()
    assert counts.sum() == mask.sum()
    assert sizes.sum() == mask.shape[-1] * mask.shape[-2]


@given(arrays("int8", array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2)))
def test_merged_rectangles_cover_every_cell_once(classes):
    painted = np.full(classes.shape, -1)
    for kind, (x, y, width, height) in merged(classes):
        assert (painted[y : y + height, x : x + width] == -1).all()
        painted[y : y + height, x : x + width] = kind
    assert (painted == classes).all()


def test_equal_cells_become_one_rectangle():
    assert merged(np.ones((40, 40), int)) == [(1, (0, 0, 40, 40))]


@given(variables(side=20))
def test_a_picture_of_few_regions_shows_every_one_as_it_is(v):
    svg = status_of(v).picture()
    flat = (-1, *v.grid)
    written, damaged = v.written.reshape(flat), v.damaged.reshape(flat)
    replaced = v.replaced.reshape(flat)
    for place, (where, _) in enumerate(maps(svg)):
        assert (raster(svg, "done", where, v.grid) == written[place]).all()
        assert (raster(svg, "damaged", where, v.grid) == damaged[place]).all()
        assert (raster(svg, "overwritten", where, v.grid) == replaced[place]).all()
        missing = ~written[place] & ~damaged[place]
        assert (raster(svg, "missing", where, v.grid) == missing).all()
    assert len(maps(svg)) == len(written)


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 36), st.data())
def test_one_damaged_region_is_seen_whatever_the_size(height, width, times, data):
    at = tuple(data.draw(st.integers(0, n - 1)) for n in (times, height, width))
    damaged = np.zeros((times, height, width), bool)
    damaged[at] = True
    one = status_of(variable(np.ones_like(damaged), damaged=damaged))
    (x, y, w, h), said = maps(one.picture())[at[0]]
    assert said.endswith("1 damaged")
    frame, cells = [], []
    for box in boxes(one.picture(), "damaged"):
        (cells if box[0] >= x and box[1] >= y and box[0] + box[2] <= x + w else frame).append(box)
    cells = [box for box in cells if box[1] + box[3] <= y + h]
    assert len(cells) == 1
    assert len(boxes(one.picture(), "damaged")) == 5  # and a frame around this map
    # The cell holds the region: at most the last cell of a map stands for fewer.
    factor = max(-(-height * cells[0][2] // h), -(-width * cells[0][2] // w), 1)
    assert abs((cells[0][0] - x) // cells[0][2] - at[2] // factor) <= 1
    assert abs((cells[0][1] - y) // cells[0][3] - at[1] // factor) <= 1
    assert "1 damaged" in str(one)
    assert f"damaged: ndvi {2000 + at[0]}, 1 of {height * width:,}" in str(one)
    assert "1 damaged" in one._repr_html_()


def test_a_block_is_shaded_by_its_share():
    written = np.zeros((1, 80, 80), bool)
    written[0, :, :40] = True
    written[0, 40, 40] = True  # a quarter of its block
    written[0, 0, 79] = True
    svg = status_of(variable(written)).picture()
    assert "a cell is 2 × 2 regions" in svg
    ((x, y, width, _), _) = maps(svg)[0]
    assert boxes(svg, "done") == [(x, y, width // 2, width)]
    (part,) = re.findall(r'fill="#93bde1" d="([^"]*)"', svg)
    assert part.count("M") == 1 + 2  # one in the legend


@settings(max_examples=50)
@given(statuses)
@example(status_of(variable(np.ones((1, 2)), name="<script>&\"'"), title="<b>]]>\x00\n&amp;"))
@example(status_of())
def test_every_label_is_escaped_and_the_picture_is_xml(one):
    root = ET.fromstring(one.picture())
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    shown = "".join(c if c.isprintable() else "\ufffd" for c in one.heading)
    assert texts[0] == (shown if len(shown) <= 80 else f"{shown[:40]}…{shown[-39:]}")
    for text in (one.picture(), one._repr_html_()):
        tags = set(re.findall(r"<([A-Za-z]+)", text))
        assert tags <= {
            *("svg", "rect", "g", "path", "text", "title"),
            *("div", "p", "strong", "table", "tr", "th", "td"),
        }
        assert all(c.isprintable() or c == "\n" for c in text)
    assert all(line.isprintable() for line in str(one).split("\n"))


def test_folded_variables_are_escaped_and_well_formed():
    many = [variable(np.ones((2, 3, 3)), name=f"<{n}>&") for n in range(40)]
    html = status_of(*many, title="<b>")._repr_html_()
    root = ET.fromstring(html)
    assert len(root.findall("details")) == 40
    assert root.find("p/strong").text == "<b>"
    assert [d.find("summary/strong").text for d in root.iter("details")][:2] == ["<0>&", "<1>&"]
    assert not re.search(r" (id|class)=", html)


@pytest.mark.parametrize("labels", ["{}", "{}-01-01 to {}-12-31", "WMW@{}", "都市{}年度報告書"])
@pytest.mark.parametrize("count", [1, 2, 20, 35, 100])
def test_labels_of_periods_never_overlap(labels, count):
    periods = [labels.replace("{}", str(1900 + n)) for n in range(count)]
    svg = status_of(
        variable(np.ones((count, 4, 3)), periods=periods), variable(np.ones((4, 3)), name="basin")
    ).picture()
    root = ET.fromstring(svg)
    rows = {}
    for text in root.iter(f"{SVG}text"):
        if text.get("text-anchor") == "middle":
            half = _width(text.text) / 2
            middle = int(text.get("x"))
            rows.setdefault(text.get("y"), []).append((middle - half, middle + half))
    assert rows
    for spans in rows.values():
        assert spans[0][0] > 0
        assert spans[-1][1] < int(root.get("width"))
        assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))


def _width(text):
    """Pixels at size 11; what the font lacks is as wide as it is high."""
    known = "".join(c for c in text if ord(c) < 0x3000)
    path = TextPath((0, 0), known, size=11, prop=FontProperties("DejaVu Sans"))
    return path.get_extents().width + 11 * (len(text) - len(known))


def _noise(count, shape, *, density=0.5):
    rng = np.random.default_rng(0)
    for n in range(count):
        done = rng.random(shape) < density
        damaged = ~done & (rng.random(shape) < 0.01)
        yield variable(
            done, name=f"variable_{n:02d}", damaged=damaged, replaced=rng.random(shape) < 0.1
        )


def test_a_picture_of_noise_stays_below_a_megabyte():
    one = status_of(*_noise(60, (35, 40, 40)))
    assert len(one.picture().encode()) < 1e6
    assert len(one._repr_html_().encode()) < 1.3e6
    assert len(maps(one.picture())) == 60 * 35


def test_a_picture_of_a_hundred_thousand_regions_is_small():
    (noisy,) = _noise(1, (1, 320, 320))
    assert len(status_of(noisy).picture()) < 100_000
    assert len(status_of(variable(np.ones((1, 320, 320)))).picture()) < 4_000


def test_many_periods_go_on_below():
    one = status_of(variable(np.ones((100, 3, 3))))
    places = [place for place, _ in maps(one.picture())]
    assert len({y for _, y, _, _ in places}) == 3
    assert max(x + width for x, _, width, _ in places) < 1200


def test_the_states_differ_in_lightness():
    def luminance(colour):
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    order = ("done", "damaged", "overwritten", "missing")
    light = [116 * luminance(COLOURS[name]) ** (1 / 3) - 16 for name in order]
    assert all(b - a > 5 for a, b in itertools.pairwise(light))


def test_text_of_few_periods_counts_each():
    written = np.ones((2, 2, 3), bool)
    written[1, 0, :2] = False
    replaced = np.zeros_like(written)
    replaced[0, 0, 0] = True
    one = status_of(
        variable(written, replaced=replaced),
        variable(np.zeros((2, 2, 3)), name="population"),
        variable(np.ones((2, 3)), name="terrain"),
    )
    assert str(one).split("\n") == [
        "Toy: 16 of 30 regions done (53.3 %), 1 overwritten",
        "/data/toy.zarr",
        "",
        "variable    dims        2000   2001    total",
        "ndvi        time, y, x  all 6  4 of 6  10 of 12  1 overwritten",
        "population  time, y, x  none   none    none",
        "terrain     y, x                       all 6",
    ]


def test_text_of_many_periods_has_one_sign_for_each():
    written = np.zeros((30, 10, 10), bool)
    written[:20] = True
    written[20, :5] = True
    written[21, 0, 0] = True
    written[22] = True
    written[22, 0, 0] = False
    damaged = np.zeros_like(written)
    damaged[3, 4, 4] = True
    lines = str(status_of(variable(written, damaged=damaged))).split("\n")
    assert lines[3].split()[2:] == ["2000", "2029", "total"]
    assert lines[4].split()[4] == "███!" + 16 * "█" + "▄▁▇" + 7 * "·"
    assert lines[-1] == "damaged: ndvi 2003, 1 of 100"


@pytest.mark.parametrize("times", [6, 20, 35, 420])
def test_text_of_many_variables_and_periods_fits_a_terminal(times):
    lines = str(status_of(*_noise(60, (times, 20, 20)))).split("\n")
    assert max(map(len, lines)) <= 100
    assert all(any(line.startswith(f"variable_{n:02d} ") for line in lines) for n in range(60))


def test_periods_that_do_not_fit_share_a_sign_that_is_full_only_if_all_are():
    written = np.ones((80, 5, 5), bool)
    written[1, 0, 0] = False
    text = str(status_of(variable(written)))
    assert "▇" + 26 * "█" in text
    assert "one sign for 3 periods" in text


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (Counts(total=40, done=40), "all 40"),
        (Counts(total=40), "none"),
        (Counts(total=12_345, done=1_234), "1,234 of 12,345"),
        (Counts(), "none"),
    ],
)
def test_counts_read_well(counts, text):
    assert str(counts) == text


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [
        (99_999, 100_000, "99.9 %"),  # never all
        (1, 100_000, "under 0.1 %"),  # never nothing
        (0, 100_000, "0.0 %"),
        (5, 5, "100.0 %"),
        (0, 0, "0.0 %"),
    ],
)
def test_shares_are_rounded_away_from_all_and_from_nothing(done, total, percent):
    assert Counts(total=total, done=done).percent == percent


def test_a_table_names_ranges_of_periods():
    written = np.ones((6, 2, 2), bool)
    written[3:] = False
    written[3, 0] = True
    html = status_of(variable(written))._repr_html_()
    assert "2000–2002: all 4; 2003: 2 of 4; 2004–2005: none" in html


@pytest.mark.parametrize("name", ["status.svg", "status.html", "status.PNG"])
def test_saving_gives_the_same_bytes_and_leaves_nothing_else(tmp_path, name):
    one = status_of(*_noise(3, (4, 9, 9)), title="都市 $x^2$ \x07")
    target = tmp_path / name
    assert one.save(target) == target
    first = target.read_bytes()
    one.save(str(target))
    assert target.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_page_stands_alone_and_a_picture_is_a_png(tmp_path):
    one = status_of(*_noise(3, (4, 9, 9)))
    page = one.save(tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "<table" in page
    assert not re.search(r"(src|href)=|@import|url\(", page)
    assert one.save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert one.save(tmp_path / "a.svg").read_text(encoding="utf-8") == one.picture()


def test_an_unknown_kind_of_file_is_refused_and_a_failure_keeps_what_was_there(tmp_path):
    one = status_of(variable(np.ones((2, 2))))
    with pytest.raises(SpecError, match=r"\.svg, \.html, \.png"):
        one.save(tmp_path / "a.pdf")
    with pytest.raises(OSError, match="nowhere"):
        one.save(tmp_path / "nowhere" / "a.svg")
    assert not list(tmp_path.iterdir())


def test_wrong_arrays_are_refused():
    ok = np.ones((2, 3, 3), bool)
    with pytest.raises(SpecError, match="with 1 times"):
        variable(ok, periods=["2000"])
    with pytest.raises(SpecError, match="unique"):
        variable(ok, periods=["2000", "2000"])
    with pytest.raises(SpecError, match=r"bool \(2, 3, 2\)"):
        variable(ok, replaced=ok[..., :2])
    with pytest.raises(SpecError, match="both a tick and damaged"):
        VariableStatus(
            name="a",
            dims=("y", "x"),
            periods=(),
            written=ok[0],
            damaged=ok[0],
            replaced=ok[0],
            region=1,
        )


def test_asking_for_what_is_not_there_names_what_is():
    one = status_of(variable(np.ones((2, 3, 3))), variable(np.ones((3, 3)), name="basin"))
    assert one.of("ndvi").total == 18
    assert one.of("ndvi", 2001).total == 9
    with pytest.raises(SpecError, match="ndvi, basin"):
        one.of("nope")
    with pytest.raises(SpecError, match="2000, 2001"):
        one.of("ndvi", "1999")
    with pytest.raises(SpecError, match="no time"):
        one.of("basin", "2000")


def test_secrets_are_not_kept():
    one = status_of(url="https://someone:secret@host/cube.zarr?sig=abc")
    assert "secret" not in one.url
    assert "abc" not in one.url


def test_the_status_of_a_cube_is_what_its_ledger_holds(url, spec, fill):
    fill(url, "basin")
    fill(url, "predictors", time=1)
    first, second = itertools.islice(regions(spec, "population", time=0), 2)
    ledger.record_replaced(url, spec, "population", first, 1)
    objects.at(url).put(ledger.key(spec, "population", second), b"torn")
    found = status(url)
    assert found.title == "Toy"
    assert [v.name for v in found.variables] == [v.name for v in spec.variables]
    assert found.of("basin").complete
    assert str(found.of("predictors", "2010")) == "all 20"
    assert str(found.of("predictors", "2000")) == "none"
    assert found.of("population", "2000") == Counts(total=20, damaged=1, replaced=1)
    assert found.variable("basin").static
    assert found.variable("predictors").region == spec.layout.region
    assert found.counts.total == sum(v.written.size for v in found.variables)


def test_chosen_variables_of_a_cube(url):
    assert [v.name for v in status(url, variables="basin").variables] == ["basin"]
    two = status(url, variables=["lights", "basin", "lights"])
    assert [v.name for v in two.variables] == ["lights", "basin"]
    with pytest.raises(SpecError, match="no variable 'nope'"):
        status(url, variables=["nope"])


def test_a_status_of_no_cube_is_refused(tmp_path):
    with pytest.raises(StoreError):
        status(tmp_path / "nothing.zarr")


def test_status_reads_no_data(url, fill, monkeypatch):
    fill(url, "basin")
    before = status(url)

    def refuse(*_args, **_kwargs):
        raise AssertionError("values were read")

    monkeypatch.setattr("cube.store.read", refuse)
    monkeypatch.setattr("cube.objects.get_many", refuse)
    assert str(status(url)) == str(before)
    assert cube.read_spec(url).title in str(before)
