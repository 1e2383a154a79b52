"""A step's memory over time: every peak is in it, to the byte, and its phases are what the step does."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.test_vram_trace import AMPERE, PAIR, TRAIN, WIRE
from wirecheck.schema import MemoryEstimate, MemoryPart, MemoryTimeline, TimelinePart, TimelinePhase
from wirecheck.vram.live import Block, Event, Ledger
from wirecheck.vram.step import Extent, trace_step
from wirecheck.vram.timeline import MOMENTS, timeline


def ledger_of(*events: tuple[int, int], stages: dict[int, tuple[str, str]]) -> Ledger:
    """Events as (block, bytes); `stages`: block -> (phase, stage). Every block is a part of its own."""
    sizes = {number: size for number, size in events if size}
    blocks = [Block(n, sizes[n], f"part {n}", "aten::op", stages[n][0], sizes[n], stages[n][1]) for n in sorted(sizes)]
    return Ledger(blocks, [Event(*event) for event in events])


@pytest.fixture(scope="module")
def traced():
    """A warm trace, as `pair` takes it."""
    return trace_step(PAIR, WIRE, TRAIN, AMPERE, extent=Extent(warm=True))


def test_the_peak_of_the_step_is_in_it_to_the_byte(traced):
    told = timeline(traced.ledger, traced.peak.phase, {"workspaces": 1000})
    assert told.totals[told.peak] == traced.peak.bytes + 1000
    at_peak = {part.name: part.bytes[told.peak] for part in told.parts if part.bytes[told.peak]}
    assert at_peak == {**traced.peak.parts, "workspaces": 1000}
    assert len(told.totals) <= MOMENTS + 2 * len(told.phases)


def test_the_phases_are_what_a_joint_step_does_in_its_order(traced):
    told = timeline(traced.ledger, "step 2")
    names = [phase.name for phase in told.phases]
    order = ["forward a", "forward b", "backward b", "backward a", "update"]
    assert [name for name in names if name in order] == order
    assert names[0] == "forward wire"


def test_each_phase_keeps_its_own_peak(traced):
    """Against a count that goes event by event."""
    told = timeline(traced.ledger, "step 2")
    live, fullest, begun = 0, {}, False
    for block, size in traced.ledger.events:
        one = traced.ledger.blocks[block]
        live += size or -one.size
        begun |= bool(size) and one.phase == "step 2"
        if begun and one.stage in ("forward a", "forward b", "update") and size and one.phase == "step 2":
            fullest[one.stage] = max(fullest.get(one.stage, 0), live)
    for phase, end in zip(told.phases, told.ends(), strict=True):
        if phase.name in fullest:
            assert max(told.totals[phase.first : end]) >= fullest[phase.name], phase.name


def test_what_was_there_before_the_step_is_counted_and_what_died_is_not():
    ledger = ledger_of(
        (0, 100),
        (1, 10),
        (1, 0),
        *((n, n) for n in range(2, 20)),
        *((n, 0) for n in range(2, 20)),
        stages={
            0: ("before the step", ""),
            1: ("step 1", "forward a"),
            **dict.fromkeys(range(2, 20), ("step 2", "forward a")),
        },
    )
    told = timeline(ledger, "step 2")
    assert max(told.totals) == 100 + sum(range(2, 20))
    assert "part 1" not in {part.name for part in told.parts}
    assert [phase.name for phase in told.phases] == ["forward a"]


def test_a_stretch_too_short_is_told_as_part_of_the_one_before():
    stages = {n: ("step 2", "losses a" if n == 15 else "forward a") for n in range(30)}
    told = timeline(ledger_of(*((n, 5) for n in range(30)), stages=stages), "step 2")
    assert [phase.name for phase in told.phases] == ["forward a"]


def test_a_step_that_changed_nothing_has_none():
    assert timeline(ledger_of((0, 100), stages={0: ("before the step", "")}), "step 2") is None


def test_a_timeline_above_its_estimates_peak_is_refused():
    line = MemoryTimeline(
        phases=(TimelinePhase(name="x", first=0),), parts=(TimelinePart(name="p", bytes=(1, 12)),), peak=1
    )
    parts = (MemoryPart(name="p", bytes=12, how="h"),)
    told = {"level": "simulated", "method": "trace", "assumptions": (), "margin": 0.05, "timeline": line}
    MemoryEstimate(parts=parts, **told)
    with pytest.raises(ValidationError, match="more than the peak"):
        MemoryEstimate(parts=(MemoryPart(name="p", bytes=11, how="h"),), **told)


def test_a_step_whose_blocks_say_nothing_of_it_has_none():
    assert timeline(ledger_of((0, 5), stages={0: ("step 2", "")}), "step 2") is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"peak": 0}, "fullest"),
        ({"peak": 7}, "fullest"),
        ({"phases": (TimelinePhase(name="x", first=1),)}, "follow"),
        ({"phases": (TimelinePhase(name="x", first=0), TimelinePhase(name="y", first=2))}, "follow"),
        ({"parts": (TimelinePart(name="p", bytes=(1, 2)), TimelinePart(name="q", bytes=(1,)))}, "different numbers"),
    ],
)
def test_a_timeline_that_contradicts_itself_is_refused(change, word):
    sound = {
        "phases": (TimelinePhase(name="x", first=0), TimelinePhase(name="y", first=1)),
        "parts": (TimelinePart(name="p", bytes=(1, 2)),),
        "peak": 1,
    }
    MemoryTimeline(**sound)
    with pytest.raises(ValidationError, match=word):
        MemoryTimeline(**sound | change)


def test_what_a_phase_begins_with_belongs_to_it_though_it_is_short_and_of_another_owner():
    stages = dict.fromkeys(range(15), ("step 2", "forward b"))
    stages |= {15: ("step 2", "backward a"), 16: ("step 2", "losses b")}
    stages |= dict.fromkeys(range(17, 40), ("step 2", "backward b"))
    told = timeline(ledger_of(*((n, 5) for n in range(40)), stages=stages), "step 2")
    assert [phase.name for phase in told.phases] == ["forward b", "backward b"]


def test_the_peak_of_a_joint_step_is_in_the_backward_that_makes_it(traced):
    told = timeline(traced.ledger, traced.peak.phase)
    at_peak = next(p.name for p, end in zip(told.phases, told.ends(), strict=True) if p.first <= told.peak < end)
    block = traced.ledger.blocks[traced.ledger.events[peak_event(traced.ledger)].block]
    assert at_peak == block.stage


def peak_event(ledger: Ledger) -> int:
    """Where most bytes are alive, counted event by event."""
    live = most = at = 0
    for n, (block, size) in enumerate(ledger.events):
        live += size or -ledger.blocks[block].size
        if live > most:
            most, at = live, n
    return at
