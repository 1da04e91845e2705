"""Layouts: what fits into what."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cube.errors import SpecError
from cube.layout import LayoutSpec

sides = st.integers(1, 5000)


@given(sides, sides)
def test_the_region_suggested_for_a_bad_one_is_the_next_larger_legal_one(chunk, region):
    assume(region % chunk)
    with pytest.raises(SpecError, match=r"A region must hold whole chunks.*try region=") as refused:
        LayoutSpec(chunk=chunk, region=region)
    tried = int(re.search(r"try region=(\d+)", str(refused.value))[1])
    assert LayoutSpec(chunk=chunk, region=tried).region - chunk < region < tried


@given(sides, sides)
def test_the_shard_suggested_for_a_bad_one_is_the_next_larger_legal_one(chunk, shard):
    assume(shard % chunk)
    with pytest.raises(SpecError, match=r"A shard must hold whole chunks.*try shard=") as refused:
        LayoutSpec(chunk=chunk, shard=shard, region=shard)
    tried = int(re.search(r"try shard=(\d+)", str(refused.value))[1])
    assert LayoutSpec(chunk=chunk, shard=tried, region=tried).shard - chunk < shard < tried


def test_a_region_holds_whole_shards_where_there_are_shards():
    with pytest.raises(SpecError, match=r"whole shards. Received region=96, shard=64; .*=128"):
        LayoutSpec(chunk=32, shard=64, region=96)


def test_what_is_written_whole_is_the_shard_or_else_the_chunk():
    assert LayoutSpec(chunk=32, region=64).unit == 32
    assert LayoutSpec(chunk=32, shard=64, region=128).unit == 64


@pytest.mark.parametrize("name", ["chunk", "shard", "region"])
@pytest.mark.parametrize("side", [0, -16, 16.0, "16"])
def test_sides_are_positive_whole_numbers(name, side):
    with pytest.raises(SpecError, match=f"{name} must be a positive whole number. Received"):
        LayoutSpec(**{"chunk": 16, "region": 16} | {name: side})


@pytest.mark.parametrize("name", ["chunk", "region"])
def test_only_shards_may_be_left_out(name):
    with pytest.raises(SpecError, match=f"{name} must be a positive whole number. Received None"):
        LayoutSpec(**{"chunk": 16, "region": 16} | {name: None})


@pytest.mark.parametrize(
    "codec",
    [
        "zstd",
        "blosc-zstd-3",
        "blosc-zstd-10-shuffle",
        "blosc-snappy-3-shuffle",
        "",
        "none ",
        "gzip",
    ],
)
def test_unknown_codecs_are_refused(codec):
    with pytest.raises(SpecError, match="codec must be like 'blosc-zstd-3-bitshuffle', or 'none'"):
        LayoutSpec(codec=codec)


@pytest.mark.parametrize("codec", ["none", "blosc-lz4-1-noshuffle", "blosc-zlib-9-shuffle"])
def test_known_codecs_are_taken(codec):
    assert LayoutSpec(codec=codec).codec == codec


def test_in_an_object_store_a_region_is_one_object():
    layout = LayoutSpec.for_object_store()
    assert layout.region == layout.shard
    assert layout.chunk < layout.shard
