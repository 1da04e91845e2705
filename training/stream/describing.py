"""What a stream will do, said before it does it."""

from __future__ import annotations

import html as markup
from typing import TYPE_CHECKING

from training.stream.preparing import unit_of

if TYPE_CHECKING:
    from training.stream.stream import ChipStream


def facts(stream: ChipStream) -> dict[str, str]:
    """Name to value, in the order to show them."""
    spec, budget, sample = stream.spec, stream.budget, stream.sample
    stacks = ", ".join(f"{s.stack} ({', '.join(s.bands)})" for s in sample.inputs)
    chosen = f"{len(stream.ids):,} of {len(stream.chips):,}"
    drawn = "" if stream.sampling is None else f", {stream.chips_per_epoch:,} drawn for each epoch"
    part = "" if spec.part[1] == 1 else f", part {spec.part[0] + 1} of {spec.part[1]}"
    order = f"shuffled, seed {spec.seed}" if spec.shuffle else "in the order of blocks"
    epoch = stream.plan(0)
    together = len(epoch.blocks) / len(epoch.groups)
    windows = f"{stream.windows.size} px at a stride of {stream.windows.stride}"
    unit = unit_of(stream.recipe.source, budget)
    cut, kept = (f"{n / 1e6:,.0f}" for n in (budget.group_bytes, budget.kept_bytes))
    return {
        "chips": f"{chosen}{drawn}, {windows}",
        "inputs": stacks,
        "times": "; ".join(map(str, sample.timings[:4]))
        + (f"; {len(sample.timings) - 4} more" if len(sample.timings) > 4 else ""),
        "batches": f"{len(stream):,} of {spec.batch} chips, {order}{part}",
        "blocks": f"{len(epoch.blocks):,} of {budget.block_px} px, {together:.3g} cut together",
        "memory": f"{spec.memory_bytes / 1e6:,.0f} MB: {cut} being cut, as much being read, {kept} "
        f"kept for later blocks",
        "reading": f"{stream.readers} threads, {unit} px at a time",
    }


def text(stream: ChipStream) -> str:
    """One line a fact, and how the last epoch went."""
    lines = [f"{name:<8}{value}" for name, value in facts(stream).items()]
    if stream.report is not None:
        lines.append(str(stream.report))
    return "\n".join(lines)


def html(stream: ChipStream) -> str:
    """The same as a table."""
    shown = dict(facts(stream))
    if stream.report is not None:
        shown["last epoch"] = str(stream.report)
    rows = "".join(
        f"<tr><th style='text-align:left'>{markup.escape(name)}</th>"
        f"<td style='text-align:left'>{markup.escape(value)}</td></tr>"
        for name, value in shown.items()
    )
    return f"<table><caption>Chip stream</caption>{rows}</table>"
