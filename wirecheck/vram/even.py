"""A split that fills the GPUs evenly: `device_map="auto"` weighs weights alone, and leaves GPUs unevenly full."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wirecheck.vram.step import Traced
    from wirecheck.wires.contract import SideName

MOST_MOVES = 1000
"""Of layers, before it is given up: each makes the fullest GPU and the emptiest more alike."""
_NUMBERED = re.compile(r"(.*)\.(\d+)")


def layers_of(names: Iterable[str]) -> list[str]:
    """Of those modules the numbered ones of the longest list: a model's layers, in order."""
    numbered = [(match[1], int(match[2]), name) for name in names if (match := _NUMBERED.fullmatch(name))]
    longest = Counter(parent for parent, _, _ in numbered).most_common(1)
    return [name for parent, _, name in sorted(numbered) if parent == longest[0][0]]


def even_layers(made: Traced, count: int) -> tuple[tuple[int, ...], ...]:
    """How many layers of each model, in order, go on each GPU, for the fullest to hold less than in that trace.

    Empty where none should move. One after another goes from the fullest GPU to the emptiest, with its weights and its
    share of the activations.
    """
    peaks = [one.peak.bytes for one in made.gpus]
    layers = {side: [places[name] for name in layers_of(places)] for side, places in made.maps.items()}
    held = {side: [gpus.count(gpu) for gpu in range(count)] for side, gpus in layers.items()}
    cost = {side: _per_layer(made, side, len(gpus)) for side, gpus in layers.items() if gpus}
    for moves in range(MOST_MOVES):
        fullest, emptiest = (pick(range(count), key=peaks.__getitem__) for pick in (max, min))
        movable = [side for side in cost if held[side][fullest] and cost[side] < peaks[fullest] - peaks[emptiest]]
        if not movable:
            return tuple(tuple(each) for each in held.values()) if moves else ()
        side = max(movable, key=lambda one: held[one][fullest] * cost[one])
        held[side][fullest] -= 1
        held[side][emptiest] += 1
        peaks[fullest] -= cost[side]
        peaks[emptiest] += cost[side]
    return ()


def _per_layer(made: Traced, side: SideName, layers: int) -> int:
    parts: Mapping[str, int] = made.peak.parts
    return (parts.get(f"weights {side}", 0) + parts.get(f"activations {side}", 0)) // layers
