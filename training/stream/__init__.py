"""Chips from the cube to a model: read once, cut by xbatcher, shuffled, whole batches."""

from training.stream.batches import Batch
from training.stream.reading import read_channels_last
from training.stream.specs import StreamSpec
from training.stream.stalls import StallReport
from training.stream.states import StreamState
from training.stream.stream import ChipStream
from training.stream.supervision import Supervision

__all__ = [
    "Batch",
    "ChipStream",
    "StallReport",
    "StreamSpec",
    "StreamState",
    "Supervision",
    "read_channels_last",
]
