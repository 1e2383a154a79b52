"""The first step told from the second, models told in turns: against both steps run, event by event."""

from __future__ import annotations

import pytest

from tests.small_steps import AMPERE, ONE, PAIR, TRAIN, WIRE, small
from wirecheck.vram.live import Block, Event, Ledger
from wirecheck.vram.step import Extent, trace_step
from wirecheck.vram.told import Marks, in_turns, twice

WARM = Extent(warm=True)
OTHERS = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt2": {"n_embd": 64, "n_layer": 4, "n_head": 4},
    "mamba": {"state_size": 8, "expand": 2},
    "gemma3_text": {"head_dim": 16, "sliding_window": 16},
}


def happened(ledger: Ledger) -> list[tuple[int, int, int]]:
    """Every event, its block named by when it was born, with the bytes asked for."""
    born: dict[int, int] = {}
    told = []
    for block, size in ledger.events:
        if size:
            born[block] = len(born)
        told.append((born[block], size, ledger.blocks[block].asked if size else 0))
    return told


def same(configs, wire, train):
    run, told = (trace_step(configs, wire, train, AMPERE, extent=extent) for extent in (Extent(), WARM))
    assert happened(told.ledger) == happened(run.ledger)
    assert (told.peak.bytes, told.peak.parts, told.peak.phase) == (run.peak.bytes, run.peak.parts, run.peak.phase)
    assert told.reserved_bytes == run.reserved_bytes


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("resident", ["joint", "sequential"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_pair(checkpointed, resident, optimizer):
    changed = {"grad_checkpointing": checkpointed, "resident": resident, "optimizer": optimizer}
    same(PAIR, WIRE, TRAIN.model_copy(update=changed))


@pytest.mark.parametrize(
    "changed", [{"losses": ("answer", "first-k", "kd")}, {"name": "resampler"}, {"private_length": 2}]
)
def test_other_wires(changed):
    same(PAIR, WIRE.model_copy(update=changed), TRAIN)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_classes(kind):
    same({"a": small(kind, **OTHERS[kind]), "b": ONE["a"]}, WIRE, TRAIN)


# --- by hand -----------------------------------------------------------------------------------------------------


def ledger(sizes, events):
    blocks = [Block(n, size, "p", f"op{n}", "step 2", size) for n, size in enumerate(sizes)]
    return Ledger(blocks, [Event(n, sizes[n] if born else 0) for n, born in events])


def test_the_first_step_by_hand():
    """0 weights, 1 a state, 2 the gradient left before; the step: the old one goes, 3 an activation, 4 a gradient."""
    warm = ledger([512, 1024, 2048, 4096, 2048], [(0, 1), (1, 1), (2, 1), (2, 0), (3, 1), (4, 1), (3, 0)])
    both, turns = twice(warm, Marks(held=3, update=6, states=(1,), before=(2,), after=(4,)), [(4, "a")])
    first = [(0, 512), (5, 4096), (6, 2048), (1, 1024), (5, 0)]
    second = [(6, 0), (3, 4096), (4, 2048), (3, 0)]
    assert [(e.block, e.bytes) for e in both.events] == first + second
    assert turns == [(1, "a"), (6, "a")]
    assert both.repeats == {5: 3, 6: 4}


def test_turns_by_hand():
    """0 and 1 are the weights of a and b; 2 lives across the change of turns."""
    joint = ledger([512, 1024, 2048], [(0, 1), (1, 1), (2, 1), (2, 0)])
    apart = in_turns(joint, {"a": (0,), "b": (1,)}, [(2, "a"), (3, "b")])
    assert [(e.block, e.bytes) for e in apart.events] == [(0, 512), (2, 2048), (0, 0), (1, 1024), (2, 0)]
    assert apart.peak().bytes == 3072
