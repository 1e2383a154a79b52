"""The largest batch and the longest context on a GPU: against both steps run at the answer, and just above it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.small_steps import PAIR, TRAIN, WIRE, small
from wirecheck.errors import CannotRun
from wirecheck.vram import curve as curves
from wirecheck.vram import frontier
from wirecheck.vram.curve import Curve, Traces
from wirecheck.vram.gpus import find
from wirecheck.vram.overheads import overheads
from wirecheck.vram.plan import Step, bounds_of, fits, need_of, target_of
from wirecheck.vram.search import largest, largest_below
from wirecheck.vram.step import trace_step

A100 = find("A100-40GB")
MIB = 1 << 20
LONG = {
    "a": small(max_position_embeddings=1 << 16),
    "b": small("qwen2", hidden_size=96, vocab_size=1200, max_position_embeddings=1 << 16),
}
"""The pair of the small steps, with positions to spare."""


def gpu_for(step: Step, spare: int = 3 * MIB, **at: int):
    """An A100 that is just large enough for the step at that size."""
    traced = step.but(at).traced(A100)
    return replace(A100, usable_bytes=bounds_of(traced.peak.bytes, A100).most + spare)


def exact(step: Step, gpu, **at: int):
    """What that GPU has to hold of both steps run."""
    asked = step.but(at)
    return need_of(trace_step(asked.configs, asked.wire, asked.train, target_of(gpu), asked.seed), gpu)


def step_of(configs=PAIR, **changed) -> Step:
    return Step(configs, WIRE, TRAIN.model_copy(update=changed))


def row_of(step: Step, gpu, way="as-asked"):
    (row,) = frontier.on_one(step, [gpu], way)
    return row


@pytest.mark.parametrize(("resident", "checkpointed"), [("joint", False), ("sequential", True)])
def test_an_answer_fits_and_the_next_value_does_not(resident, checkpointed):
    step = step_of(LONG, grad_checkpointing=checkpointed, resident=resident)
    gpu = gpu_for(step, batch=23)
    row = row_of(step, gpu)
    for axis, stride, found in (("batch", 1, row.batch), ("context", 128, row.context)):
        assert found.method == "surface"
        assert found.fits < found.may_fit
        held = exact(step, gpu, **{axis: found.fits})
        assert held.fits(gpu)
        assert (held.least, held.most) == (found.least_bytes, found.most_bytes)
        assert not exact(step, gpu, **{axis: found.fits + stride}).fits(gpu)
        assert exact(step, gpu, **{axis: found.may_fit}).least <= gpu.usable_bytes
        assert exact(step, gpu, **{axis: found.may_fit + stride}).least > gpu.usable_bytes


def test_each_value_traced_gives_what_the_surface_gives(monkeypatch):
    few = {"num_hidden_layers": 2}
    step = step_of({"a": small(**few), "b": small("qwen2", hidden_size=96, vocab_size=1200, **few)})
    gpu = gpu_for(step, batch=9)
    shown = row_of(step, gpu)
    monkeypatch.setattr(curves, "surface", refused)
    traced = row_of(step, gpu)
    assert (traced.batch.method, traced.context.method) == ("traces", "traces")
    assert traced.batch.model_copy(update={"method": "surface"}) == shown.batch
    assert traced.context.model_copy(update={"method": "surface"}) == shown.context


def refused(*_, **__):
    raise CannotRun("not shown")


def test_fewer_rows_than_a_surface_begins_with_are_traced():
    step = step_of(batch=2)
    gpu = gpu_for(step, spare=MIB // 2, batch=2)
    by_hand = max(batch for batch in range(1, 6) if exact(step, gpu, batch=batch).fits(gpu))
    assert row_of(step, gpu).batch.fits == by_hand < 3


def test_past_a_window_lengths_are_told_from_beyond_it():
    step = step_of({"a": small("mistral", sliding_window=300), "b": small("qwen2")})
    line = Curve(Traces(step, target_of(A100)), "context", 5000)
    assert line.shown.axis.first == 8 + 2 * 128
    gpu = gpu_for(step, context=8 + 9 * 128)
    found = row_of(step, gpu).context
    assert exact(step, gpu, context=found.fits).fits(gpu)
    assert not exact(step, gpu, context=found.fits + 128).fits(gpu)


def test_weights_that_are_too_large_are_not_traced(monkeypatch):
    monkeypatch.setattr(curves, "trace_step", refused)
    row = row_of(step_of(), replace(A100, usable_bytes=overheads(A100).context_span[0]))
    assert (row.batch.fits, row.batch.may_fit, row.context.may_fit) == (0, 0, 0)


def test_an_axis_that_ends_before_the_memory_does():
    step = step_of({"a": small(max_position_embeddings=1024), "b": small("qwen2", max_position_embeddings=2048)})
    found = row_of(step, A100).context
    assert (found.ended, found.fits) == (True, 8 + (1024 - 4 - 100 - 8) // 128 * 128)


def test_a_class_that_is_not_traced_says_why(monkeypatch):
    monkeypatch.setattr(curves, "trace_step", refused)
    row = row_of(step_of(), A100)
    assert (row.batch, row.context, row.why) == (None, None, "not shown")


def test_one_model_per_gpu_holds_what_each_holds_alone():
    step = step_of()
    gpu = gpu_for(step, batch=12)
    (row,) = frontier.on_each(step, [(gpu, 2)], "as-asked")
    alone = [Step({side: config}, step.wire, step.train) for side, config in step.configs.items()]
    assert all(exact(one, gpu, batch=row.batch.fits).fits(gpu) for one in alone)
    assert not all(exact(one, gpu, batch=row.batch.fits + 1).fits(gpu) for one in alone)
    assert row.batch.fits > row_of(step, gpu).batch.fits


def test_a_split_model_s_answer_is_traced_and_fits(monkeypatch):
    monkeypatch.setattr(frontier, "MOST_ROWS", 10)
    few = {"num_hidden_layers": 2, "max_position_embeddings": 384}
    step = step_of({"a": small(**few), "b": small("qwen2", hidden_size=96, vocab_size=1200, **few)})
    gpu = gpu_for(step, batch=5)
    row = frontier.over_all(step, gpu, 2, "as-asked")
    assert row.batch.method == "traces"
    found = fits(replace(step.but({"batch": row.batch.fits}), made={}), gpu, 2)
    assert found is not None
    assert row.batch.fits >= row_of(step, gpu).batch.fits


# --- the search --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "step", "expected"), [(0, 1, None), (1, 1, 1), (7, 1, 7), (7, 3, 7), (99, 4, 21)])
@pytest.mark.parametrize("search", [largest, lambda fits, least, most, step: largest_below(fits, most, least, step)])
def test_the_largest_that_fits(search, limit, step, expected):
    asked = []

    def fit(value):
        asked.append(value)
        return value <= limit

    most = 1 + 22 // step * step
    assert search(fit, 1, most, step) == expected
    assert all((value - 1) % step == 0 for value in asked)
    assert all(1 <= value <= most for value in asked)


def test_nothing_is_asked_of_an_empty_lattice():
    assert largest(refused, 5, 4) is None
    assert largest_below(refused, 4, 5) is None
