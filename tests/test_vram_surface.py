"""Thin models, steps traced alone, and surfaces: each against the whole model's own trace, to the byte."""

from __future__ import annotations

import pytest
import torch

from tests.small_steps import AMPERE, PAIR, TRAIN, WIRE, small
from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.vram import remembered
from wirecheck.vram.live import Block, Event, Ledger, Tracer, tracing
from wirecheck.vram.step import Extent, trace_step
from wirecheck.vram.surface import NotShown, Surface, batch_axis, context_axis, surface
from wirecheck.vram.thin import make_thin

WARM, THIN = Extent(warm=True), Extent(thin=True, warm=True)
DEEP = {side: small(kind, num_hidden_layers=6) for side, kind in (("a", "llama"), ("b", "qwen2"))}


def along(configs, train, axis, field):
    """The surface, of traces of its own."""

    def ledger(value, extent):
        spec = train.model_copy(update={field: value})
        return trace_step(configs, WIRE, spec, AMPERE, extent=extent).ledger

    return surface(ledger(axis.first, WARM), [ledger(point, THIN) for point in axis.points], axis)


def whole_peak(configs, train):
    return trace_step(configs, WIRE, train, AMPERE).peak.bytes


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("resident", ["joint", "sequential"])
def test_a_surface_is_the_trace_at_other_batches_and_lengths(checkpointed, resident):
    train = TRAIN.model_copy(update={"grad_checkpointing": checkpointed, "resident": resident})
    rows = along(DEEP, train, batch_axis(3), "batch")
    assert rows.peak_bytes(29) == whole_peak(DEEP, train.model_copy(update={"batch": 29}))
    text = along(DEEP, train, context_axis(8), "context")
    assert text.peak_bytes(8 + 7 * 128) == whole_peak(DEEP, train.model_copy(update={"context": 8 + 7 * 128}))


def test_a_surface_asks_the_allocator_for_what_the_trace_does():
    rows = along(DEEP, TRAIN, batch_axis(3), "batch")
    train = TRAIN.model_copy(update={"batch": 11})
    assert rows.events(11) == trace_step(DEEP, WIRE, train, AMPERE, extent=WARM).ledger.events


def test_a_window_that_begins_to_count_is_not_taken_for_a_polynomial():
    """Past its window a sliding layer gets another mask: no growth seen below it says so."""
    sliding = {"a": small("mistral", sliding_window=300)}
    with pytest.raises(NotShown):
        along(sliding, TRAIN, context_axis(8), "context")


def test_a_thin_model_has_one_layer_of_each_kind_and_its_config_says_so():
    config = small("qwen2", num_hidden_layers=8, sliding_window=4, use_sliding_window=True, max_window_layers=4)
    model = zoo.build(config, device="meta", dtype=torch.bfloat16)
    make_thin(model)
    kinds = model.config.layer_types
    assert set(kinds) == {"full_attention", "sliding_attention"}
    assert model.config.num_hidden_layers == len(kinds) == len(model.model.layers) < 8


def test_a_model_whose_layers_are_not_found_is_not_made_thin():
    model = zoo.build(small(), device="meta", dtype=torch.bfloat16)
    model.model.layers = torch.nn.Sequential(*model.model.layers)
    with pytest.raises(CannotRun, match="which are its layers"):
        make_thin(model)


def test_a_step_is_the_same_whether_its_operations_are_remembered_or_not(monkeypatch):
    def ledger():
        made = trace_step(PAIR, WIRE, TRAIN, AMPERE).ledger
        return [(b.op, b.part, b.asked) for b in made.blocks], made.events

    remembered._results.clear()
    first = ledger()
    assert remembered._results
    again = ledger()
    monkeypatch.setattr(remembered, "call", lambda func, args, kwargs: func(*args, **kwargs))
    assert first == again == ledger()


@pytest.mark.parametrize(
    "run",
    [
        lambda x: x.view(-1),
        lambda x: x.to(torch.float32),  # returns its operand
        torch.bernoulli,
        lambda x: x.add_(1.0),
        torch.aminmax,
        lambda x: x.transpose(0, 1) + x.transpose(0, 1),
        lambda x: torch.ops.aten._unsafe_view(x, [8]),
    ],
)
def test_what_is_remembered_is_what_torch_returns(run):
    def seen():
        x = torch.empty(2, 4, device="meta")
        with tracing(Tracer(AMPERE)):
            made = run(x)
        made = made if isinstance(made, tuple) else (made,)
        shared = [one.untyped_storage()._cdata == x.untyped_storage()._cdata for one in made]
        return [(one.shape, one.stride(), one.dtype) for one in made], shared

    remembered._results.clear()
    assert seen() == seen() == seen()


# --- by hand: what a growth is, and which block has which ------------------------------------------------------------


def ledger_of(sizes, deaths=()):
    blocks = [Block(n, -(-asked // 512) * 512, part, op, "step 2", asked) for n, (op, part, asked) in enumerate(sizes)]
    events = [Event(one.number, one.size) for one in blocks]
    return Ledger(blocks, events + [Event(n, 0) for n in deaths])


def grown(*sizes):
    """Thin ledgers at rows 3, 4 and 11 of blocks with those (op, bytes at none, bytes of a row)."""
    return [ledger_of([(op, "p", fixed + row * n) for op, fixed, row in sizes]) for n in (3, 4, 11)]


AXIS = batch_axis(3)


def test_bytes_grow_by_row():
    made = surface(ledger_of([("mm", "p", 5000), ("mm", "p", 5000)]), grown(("mm", 2000, 1000)), AXIS)
    assert made.peak_bytes(3) == 2 * 5120
    assert made.peak_bytes(103) == 2 * -(-105_000 // 512) * 512
    assert isinstance(made, Surface)


def test_a_block_that_jumps_is_not_a_polynomial():
    thin = grown(("mm", 0, 1000))
    thin[-1] = ledger_of([("mm", "p", 11_001)])
    with pytest.raises(NotShown, match="no polynomial"):
        surface(ledger_of([("mm", "p", 3000)]), thin, AXIS)


def test_a_block_that_no_layer_of_the_thin_model_has_is_refused():
    with pytest.raises(NotShown, match="no block of 3,001 bytes"):
        surface(ledger_of([("mm", "p", 3001)]), grown(("mm", 0, 1000)), AXIS)


def test_blocks_of_one_size_are_told_apart_by_their_neighbours_or_refused():
    alike = (("mm", 3000, 0), ("mm", 0, 1000))
    with pytest.raises(NotShown, match="grow in different ways"):
        surface(ledger_of([("mm", "p", 3000)] * 4), grown(*alike, *alike), AXIS)
    told = (("a", 512, 0), alike[0], ("b", 512, 0), alike[1])
    whole = [("a", "p", 512), ("mm", "p", 3000), ("b", "p", 512), ("mm", "p", 3000)]
    assert surface(ledger_of(whole), grown(*told), AXIS).peak_bytes(103) == 512 * 2 + 3072 + 103_424


def test_another_step_at_another_size_is_refused():
    thin = grown(("mm", 0, 1000))
    thin[1] = ledger_of([("mm", "p", 4000)], deaths=[0])
    with pytest.raises(NotShown, match="other things"):
        surface(ledger_of([("mm", "p", 3000)]), thin, AXIS)
