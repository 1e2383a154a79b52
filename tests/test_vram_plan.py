"""Placements of a step on GPUs, and what would make it fit where none does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.small_steps import ONE, OVER, PAIR, TRAIN, WIRE, B, small
from wirecheck.schema import WireSpec
from wirecheck.vram import plan, remedies, step
from wirecheck.vram.gpus import find
from wirecheck.vram.plan import Need, Placed, Plan, Step
from wirecheck.vram.split import Spread
from wirecheck.vram.step import CannotTrace

# --- placements and their outcome --------------------------------------------------------------------------------


def need(most: int, *, ran_out: bool = False) -> Need:
    return Need(most, most, most, most - 10, most, ran_out)


T4 = find("T4")
ROOM = T4.usable_bytes
FITS, TOO_BIG, OPEN = need(ROOM), need(ROOM + 11), need(ROOM + 5)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (Plan("", T4, (FITS, FITS)), "fits"),
        (Plan("", T4, (FITS, TOO_BIG)), "does-not-fit"),
        (Plan("", T4, (FITS, OPEN)), "uncertain"),
        (Plan("", T4, (need(ROOM, ran_out=True),)), "uncertain"),
        (Plan("", T4, refused="no"), "does-not-fit"),
        (Plan("", T4, unknown="why"), "uncertain"),
    ],
)
def test_the_outcome_of_a_placement(given, outcome):
    assert given.outcome == outcome


def test_it_does_not_fit_only_where_no_placement_does():
    fits, big, refused, unknown = (
        Plan("", T4, (FITS,)),
        Plan("", T4, (TOO_BIG,)),
        Plan("", T4, refused="no"),
        Plan("", T4, unknown="why"),
    )
    assert Placed((big, refused)).outcome == "does-not-fit"
    assert Placed((big, unknown)).outcome == "uncertain"
    assert Placed((big, fits)).outcome == "fits"
    assert Placed((big, refused)).best is big
    assert Placed((big, fits)).best is fits
    assert Placed((refused,)).best is None


def gpu_of(amount: int):
    """A T4 with that room beside its context and the error of the trace."""
    return replace(T4, usable_bytes=amount)


def step_of(configs=PAIR, **train) -> Step:
    return Step(configs, WIRE, TRAIN.model_copy(update=train))


def fullest(one: Step, over: Spread | None = None, sides: str = "ab") -> int:
    """What the fullest GPU needs at most."""
    made = one.traced(T4, sides, over)
    return max(plan.need_of(each, T4).most for each in (made.gpus or (made,)))


def test_a_pair_on_several_gpus():
    tried = list(plan.plans(step_of(), T4, 3))
    assert [one.words for one in tried[:2]] == ["one model per GPU", 'each model split over 3 by device_map="auto"']
    assert tried[2].words.startswith("each model split over 3 by a device_map with ")
    assert [len(one.needs) for one in tried] == [2, 3, 3]
    assert plan.place(step_of(), T4, 3).best.words == "one model per GPU"
    assert plan.place(step_of(), T4).best.words == ""


def test_one_model_on_several_gpus():
    tried = list(plan.plans(step_of(ONE), T4, 2))
    assert [one.words for one in tried] == [
        "all on one of them",
        'the model split over 2 by device_map="auto"',
    ]


@pytest.mark.parametrize("configs", [ONE, PAIR], ids=["one", "pair"])
def test_a_split_fits_where_nothing_else_does(configs):
    """The GPU holds what the fuller of two needs, and not what one model takes whole."""
    deep = {side: small(config.model_type, num_hidden_layers=24, vocab_size=64) for side, config in configs.items()}
    one = step_of(deep)
    half, whole = fullest(one, OVER), max(fullest(one, sides=side) for side in deep)
    assert half < whole or len(configs) == 2
    found = list(plan.plans(one, gpu_of(half + (1 << 22)), 2))
    assert found[1].outcome == "fits"
    assert plan.split(one, gpu_of(half // 2), 2).outcome != "fits"


def test_a_wire_that_reads_one_model_for_the_other_is_only_split():
    one = Step(PAIR, WireSpec(name="resampler", latent_length=4), TRAIN)
    apart, split, *_ = plan.plans(one, T4, 2)
    assert (apart.outcome, split.outcome) == ("uncertain", "fits")
    assert "one model only" in apart.unknown
    assert plan.place(one, T4, 2).outcome == "fits"


def test_a_step_that_is_larger_than_all_gpus_is_not_traced_again(monkeypatch):
    one = step_of()
    whole = one.traced(T4)
    monkeypatch.setattr(step, "trace_step", lambda *_args, **_given: pytest.fail("traced"))
    found = plan.split(one, gpu_of(whole.peak.bytes // 3), 2)
    assert (found.outcome, found.refused) == ("does-not-fit", "the step takes at least 0.0 GB in all")


def test_a_split_that_cannot_be_traced_is_not_known(monkeypatch):
    one = step_of()
    one.traced(T4)

    def refuse(*_args, **_given):
        raise CannotTrace("the step reads a tensor's values")

    monkeypatch.setattr(step, "trace_step", refuse)
    assert plan.split(one, T4, 2) == Plan(
        'each model split over 2 by device_map="auto"', T4, unknown="the step reads a tensor's values"
    )


def test_traces_are_made_once_and_shared(monkeypatch):
    one = step_of()
    first = one.traced(T4)
    monkeypatch.setattr(step, "trace_step", lambda *_args, **_given: pytest.fail("traced again"))
    assert one.but({}).traced(T4) is first
    assert one.but({"losses": ("answer",), "batch": B}).traced(T4) is first
    with pytest.raises(AssertionError, match="fields of neither"):
        one.but({"batches": 2})


# --- what would make it fit --------------------------------------------------------------------------------------


@pytest.fixture
def exact(monkeypatch):
    """A GPU holds the peak and nothing beside it: the step is small against a context."""
    monkeypatch.setattr(plan, "need_of", lambda traced, _gpu: need(traced.peak.bytes))


@pytest.mark.usefixtures("exact")
def test_milder_options_come_by_their_cost():
    one = step_of(batch=8)
    checkpointed = fullest(one.but({"grad_checkpointing": True}))
    assert checkpointed < fullest(one)
    found = list(remedies.milder(one, gpu_of(checkpointed)))
    words = [each.words for each in found]
    assert words[0] == "T4 with --grad-checkpointing"
    assert found[0].changed == {"grad_checkpointing": True}
    assert words[1].startswith("T4 with --batch ")
    assert all(each.plan.outcome == "fits" for each in found)


@pytest.mark.usefixtures("exact")
def test_the_largest_of_the_halved_batches():
    one = step_of(batch=8, grad_checkpointing=True)
    room = gpu_of(fullest(one.but({"batch": 2})))
    (first, *_) = remedies.milder(one, room)
    assert first.changed == {"batch": 2}
    assert plan.fits(one.but({"batch": 4}), room) is None


def test_fewer_losses():
    wire = WIRE.model_copy(update={"losses": ("answer", "first-k", "kd"), "first_k": 2})
    alone = replace(step_of(ONE, batch=1, answer=8, grad_checkpointing=True), wire=wire)
    kept = [dict(each.changed) for each in remedies.milder(alone, T4)]
    assert kept == [
        {"quantize": "nf4"},
        *({"losses": kept} for kept in (("answer", "first-k"), ("answer", "kd"), ("answer",))),
    ]


def test_one_model_at_a_time_is_for_two_models_on_one_gpu():
    one = step_of(batch=1, answer=8, grad_checkpointing=True)
    packed = {"quantize": "nf4"}
    assert [dict(each.changed) for each in remedies.milder(one, T4)] == [packed, {"resident": "sequential"}]
    assert [dict(each.changed) for each in remedies.milder(one, T4, 2)] == [packed]
    assert list(remedies.milder(one.but(packed), T4, 2)) == []


def test_other_gpus():
    found = [each.words for each in remedies.other_gpus(step_of(), T4)]
    assert found[:2] == ["2 x T4, one model per GPU", '2 x T4, each model split over 2 by device_map="auto"']
    assert found[2].startswith("RTX-")
    assert [each.words for each in remedies.other_gpus(step_of(ONE), T4, 8)][-1].startswith("8 x ")
    both = remedies.remedies(step_of(), T4)
    assert next(both).words == "T4 with --grad-checkpointing"


def test_nothing_helps_where_nothing_can():
    assert list(remedies.milder(step_of(), gpu_of(1000))) == []
