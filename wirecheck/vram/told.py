"""What need not be run to be known: the first step, told from the second; models in turns, told from both there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from wirecheck.vram.live import Event, Ledger

if TYPE_CHECKING:
    from wirecheck.wires.contract import SideName

Turns = list[tuple[int, "SideName"]]
"""(events before it, whose) for every forward of a model."""


class Marks(NamedTuple):
    """What the first step differs in from the second, in the second's ledger."""

    held: int
    """Events before the step: what is on the device already."""
    update: int
    """Events before the optimizer's update."""
    states: tuple[int, ...]
    """Blocks of the optimizer's states, which the first update makes, in its order."""
    before: tuple[int, ...]
    """Blocks of the gradients that the step before left."""
    after: tuple[int, ...]
    """Blocks of the gradients that this step leaves, parameter by parameter as in `before`."""


def twice(ledger: Ledger, marks: Marks, turns: Turns) -> tuple[Ledger, Turns]:
    """Both steps, told from the second alone, and their turns.

    The first has no gradients to give back, and makes the optimizer's states when its update begins; else it does what
    the second does. Its gradients are those that the second gives back.
    """
    late, gone = {*marks.states, *marks.before}, set(marks.before)
    made = [event for event in ledger.events[: marks.held] if event.block not in late]
    there = {event.block for event in ledger.events[: marks.held]}
    own = [block for block in ledger.blocks if block.number not in there]
    names = {block.number: len(ledger.blocks) + n for n, block in enumerate(own)}
    firsts = [replace(block, number=names[block.number], phase="step 1") for block in own]
    told: Turns = []
    at = dict(turns)
    for n, event in enumerate(ledger.events[marks.held :], start=marks.held):
        if n == marks.update:
            made += [Event(block, ledger.blocks[block].size) for block in marks.states]
        if n in at:
            told.append((len(made), at[n]))
        if event.block in gone:
            continue
        made.append(Event(names.get(event.block, event.block), event.bytes))
    offset = len(made) - marks.held
    told += [(n + offset, side) for n, side in turns]
    left = {old: names[new] for old, new in zip(marks.before, marks.after, strict=True)}
    made += [Event(left.get(event.block, event.block), event.bytes) for event in ledger.events[marks.held :]]
    repeats = {new: old for old, new in names.items()}
    return Ledger([*ledger.blocks, *firsts], made, ledger.kernels, repeats), told


def in_turns(ledger: Ledger, weights: Mapping[SideName, Sequence[int]], turns: Turns) -> Ledger:
    """The step with one model's weights on the device at a time: from its forward on until another's begins.

    What else happens is the same, so that it is told from the step with all of them there.
    """
    sides = list(weights)
    absent = {block for side in sides[1:] for block in weights[side]}
    made: list[Event] = []
    done, there = 0, sides[0]
    for at, side in turns:
        made += [event for event in ledger.events[done:at] if event.block not in absent]
        done = at
        if side != there:
            made += [Event(block, 0) for block in weights[there]]
            made += [Event(block, ledger.blocks[block].size) for block in weights[side]]
            there = side
    made += [event for event in ledger.events[done:] if event.block not in absent]
    return replace(ledger, events=made)
