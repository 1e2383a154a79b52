"""Curves of batch against context: each point against that context asked for alone, and against a trace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.small_steps import AMPERE, PAIR, TRAIN, WIRE, small
from tests.test_vram_frontier import A100, MIB, gpu_for, refused
from wirecheck.errors import CannotRun
from wirecheck.vram import frontier
from wirecheck.vram import plane as planes
from wirecheck.vram.curve import Curve, Traces
from wirecheck.vram.plan import Step, target_of
from wirecheck.vram.plane import Over, Slice
from wirecheck.vram.search import contexts_above
from wirecheck.vram.step import Extent, trace_step

END = 1 << 15
ONE = {"a": small(num_hidden_layers=2, max_position_embeddings=END)}


def step_of(configs=ONE, **changed) -> Step:
    return Step(configs, WIRE, TRAIN.model_copy(update={"context": 128, **changed}))


def points_of(step: Step, gpu, contexts=None):
    """The curve of one GPU."""
    (found,) = frontier.points(step, [(gpu, 1)], "one-gpu", contexts or frontier.contexts_of(step))
    return found


def alone(step: Step, gpu, context: int):
    """What is said of the batch where that context is asked for."""
    asked = replace(step.but({"context": context}), made={})
    return frontier.found([Curve(Traces(asked, target_of(gpu)), "batch", 1 << 16)], gpu)


@pytest.mark.parametrize("changed", [{}, {"grad_checkpointing": True, "resident": "sequential"}])
def test_a_plane_is_the_trace_at_another_batch_and_length(changed):
    step = step_of(PAIR, **changed)
    shown = Over(step, AMPERE, END).shown
    train = step.train.model_copy(update={"batch": 13, "context": 7 * 128})
    traced = trace_step(step.configs, WIRE, train, AMPERE, extent=Extent(warm=True))
    assert shown.at(7 * 128).events(13) == traced.ledger.events
    assert shown.at(7 * 128).peak_bytes(13) == traced.peak.bytes


def test_a_curve_is_what_is_said_of_each_context_alone_down_to_the_first_that_holds_no_row():
    step = step_of()
    gpu = gpu_for(step, batch=5, context=512)
    curve = points_of(step, gpu)
    contexts = [point.context for point in curve]
    assert contexts == [512 << n for n in range(len(curve))]
    assert [point.batch for point in curve] == [alone(step, gpu, context) for context in contexts]
    fits = [point.batch.fits for point in curve]
    assert fits[0] > 3
    assert fits == sorted(fits, reverse=True)
    assert [point.batch.may_fit > 0 for point in curve] == [True] * (len(curve) - 1) + [False]
    assert any(0 < count < 3 for count in fits), "one row and two are told for themselves"


def test_a_curve_goes_up_to_the_models_last_context():
    step = step_of({"a": small(max_position_embeddings=2048)})
    assert frontier.contexts_of(step) == (512, 1024, 1920)
    curve = points_of(step, A100)
    assert [point.context for point in curve] == [512, 1024, 1920]
    assert curve[-1].batch.fits > 3


@pytest.mark.parametrize(
    ("asked", "end", "expected"),
    [
        (64, 4000, (512, 1024, 2048, 3968)),
        (512, 2048, (1024, 2048)),
        (64, 300, (256,)),
        (700, 1030, (1024,)),
        (2048, 2048, ()),
        (64, 90, ()),
    ],
)
def test_the_contexts_of_a_curve(asked, end, expected):
    assert contexts_above(asked, end) == expected


def test_within_a_window_contexts_are_traced_for_themselves():
    step = step_of({"a": small("mistral", num_hidden_layers=2, sliding_window=700)})
    over = Over(replace(step.but({"context": 512}), made={}), AMPERE, END)
    assert over.shown.lengths.first == 640
    assert [isinstance(over.at(context), Slice) for context in (512, 1024)] == [False, True]
    gpu = gpu_for(step, batch=9, context=512)
    assert points_of(step, gpu, (512, 1024))[1].batch == alone(step, gpu, 1024)


def test_without_a_plane_each_context_is_traced_and_says_the_same(monkeypatch):
    step = step_of()
    gpu = gpu_for(step, batch=9, context=512)
    told = points_of(step, gpu, (512, 1024))
    monkeypatch.setattr(planes, "plane", refused)
    assert points_of(step, gpu, (512, 1024)) == told


def test_blocks_that_are_no_polynomial_show_no_plane(monkeypatch):
    real = planes.trace_step

    def bent(configs, wire, train, *more, **named):
        made = real(configs, wire, train, *more, **named)
        if train.batch > TRAIN.batch + 1 and train.context > 512:  # the far corner alone
            made.ledger.blocks[-1].asked += 1
        return made

    monkeypatch.setattr(planes, "trace_step", bent)
    assert Over(step_of(), AMPERE, END).shown is None


def test_a_context_that_cannot_be_traced_costs_its_own_point(monkeypatch):
    real = frontier.found

    def found(curves, gpu):
        if curves[0].traces.step.train.context == 1024:
            raise CannotRun("not this one")
        return real(curves, gpu)

    monkeypatch.setattr(frontier, "found", found)
    step = step_of()
    curve = points_of(step, gpu_for(step, batch=30, context=512), (512, 1024, 2048))
    assert [(point.batch is None, point.why) for point in curve] == [
        (False, None),
        (True, "not this one"),
        (False, None),
    ]


def test_one_model_on_each_gpu_has_a_curve_too():
    step = step_of({side: small(num_hidden_layers=1 + n) for n, side in enumerate("ab")})
    gpu = gpu_for(step, spare=8 * MIB, batch=12, context=512)
    (curve,) = frontier.points(step, [(gpu, 2)], "one-model-per-gpu", (512,))
    at = replace(step.but({"context": 512}), made={})
    (row,) = frontier.on_each(at, [(gpu, 2)], "as-asked")
    assert [point.batch for point in curve] == [row.batch]
