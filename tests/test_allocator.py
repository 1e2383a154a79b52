"""The caching allocator: its rules by hand, examples published for the real one, and what holds for every trace."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wirecheck.vram.allocator import MIB, Event, Reserved, replay


def taken(*sizes: float, start: int = 0) -> list[Event]:
    """Allocations of so many MiB, numbered from `start`."""
    return [(name, int(size * MIB)) for name, size in enumerate(sizes, start)]


def freed(*names: int) -> list[Event]:
    """The frees of these blocks."""
    return [(name, 0) for name in names]


def reserved_mib(*events: Event, **options: object) -> float:
    return replay(events, **options).reserved_bytes / MIB


@st.composite
def traces(draw: st.DrawFn) -> list[Event]:
    """Example: [(0, 1048577), (1, 512), (0, 0), (2, 20971520)]"""
    small, large = st.integers(1, MIB + 1024), st.integers(MIB + 1, 40 * MIB)
    events, live = [], []
    for name, size in enumerate(draw(st.lists(st.one_of(small, large), max_size=25))):
        events.append((name, size))
        live.append(name)
        while live and draw(st.booleans()):
            events.append((live.pop(draw(st.integers(0, len(live) - 1))), 0))
    return events


def still_live(events: list[Event]) -> list[int]:
    gone = {name for name, size in events if size == 0}
    return [name for name, size in events if size and name not in gone]


# The rules, worked out by hand


@pytest.mark.parametrize(
    ("requested", "reserved"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB - 1, 10 * MIB),  # rounded to 10 MiB before the segment is chosen
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (11 * MIB, 12 * MIB),
        (12 * MIB, 12 * MIB),
    ],
)
def test_the_segment_of_a_first_request(requested, reserved):
    assert replay([(0, requested)]).reserved_bytes == reserved


@pytest.mark.parametrize(("requested", "allocated"), [(1, 512), (512, 512), (513, 1024), (11 * MIB - 1, 11 * MIB)])
def test_live_bytes_are_rounded_to_512(requested, allocated):
    assert replay([(0, requested)]).allocated_bytes == allocated


def test_nothing_reserves_nothing():
    assert replay([]) == Reserved(0, 0, 0, ran_out=False, block_bytes=0)


def test_what_is_left_of_a_segment_is_used_before_another_is_taken():
    assert reserved_mib(*taken(5, 5, 5, 5)) == 20
    assert reserved_mib(*taken(5, 5, 5, 5, 5)) == 40


def test_a_small_block_is_split_down_to_512_bytes():
    assert replay([(0, MIB), (1, MIB - 512), (2, 512)]).reserved_bytes == 2 * MIB
    assert replay([(0, MIB), (1, MIB - 512), (2, 1024)]).reserved_bytes == 4 * MIB


def test_a_large_block_with_1_mib_to_spare_is_not_split():
    assert reserved_mib(*taken(9.5, 9.5), (2, MIB + 1)) == 40


def test_a_large_block_with_more_than_1_mib_to_spare_is_split():
    assert reserved_mib(*taken(9.5), (1, 9 * MIB + MIB // 2 - 512), (2, MIB + 1)) == 20


def test_what_an_unsplit_block_has_to_spare_is_not_free():
    assert replay(taken(11)) == Reserved(11 * MIB, 12 * MIB, 0, ran_out=False, block_bytes=12 * MIB)


def test_an_unsplit_block_is_free_again_as_a_whole():
    assert replay([*taken(11), *freed(0), *taken(30, start=1)]) == Reserved(
        30 * MIB, 42 * MIB, 12 * MIB, ran_out=False, block_bytes=30 * MIB
    )


def test_what_was_split_off_is_free():
    assert replay([(0, 1)]) == Reserved(512, 2 * MIB, 2 * MIB - 512, ran_out=False, block_bytes=512)


def test_what_is_free_at_the_peak_is_so_when_the_peak_is_first_reached():
    assert replay(taken(5, 5)).free_bytes_at_peak == 15 * MIB
    assert replay(taken(5, 16)).free_bytes_at_peak == 15 * MIB


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (0, 2, 1), (3, 1, 2)])
def test_free_neighbours_become_one_block(order):
    assert reserved_mib(*taken(5, 5, 5, 5), *freed(*order), *taken(10, start=4)) == 20


def test_a_live_block_keeps_free_blocks_apart():
    assert reserved_mib(*taken(5, 5, 5, 5), *freed(0, 2), *taken(10, start=4)) == 30


def test_the_smallest_block_that_fits_is_taken():
    assert reserved_mib(*taken(30, 12), *freed(0, 1), *taken(11, 30, start=2)) == 42
    assert reserved_mib(*taken(12, 30), *freed(0, 1), *taken(11, 30, start=2)) == 42


def test_of_equal_blocks_the_lower_is_taken():
    two_segments = taken(5, 5, 5, 5, 5, 5, 5, 5)
    free_in_each = [*two_segments, *freed(1, 5), *taken(5, start=8)]
    with_the_second, with_the_first = ([*free_in_each, *freed(n), *taken(10, start=9)] for n in (4, 0))
    assert (reserved_mib(*with_the_first), reserved_mib(*with_the_second)) == (40, 50)
    up = [reserved_mib(*events, ascending=True) for events in (with_the_first, with_the_second)]
    assert up == [50, 40]


def test_a_name_may_be_used_again_once_it_is_free():
    assert reserved_mib((0, 12 * MIB), (0, 0), (0, 11 * MIB)) == 12


def test_a_second_pass_over_the_same_trace_may_reserve_more():
    """The 12 MiB segment, made last, is the best fit for 5 MiB at the second pass, and is then too small for 12."""
    once = [*taken(5, 12, 12), *freed(0, 1, 2)]
    assert reserved_mib(*once) == 32
    assert reserved_mib(*once, *once) == 44


@pytest.mark.parametrize("expandable", [False, True])
@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([(7, 0)], "block 7 is freed and is not live"),
        ([(7, 512), (7, 0), (7, 0)], "block 7 is freed and is not live"),
        ([(7, 512), (7, 512)], "block 7 is allocated twice"),
        ([(7, -1)], "block 7 has -1 bytes"),
    ],
)
def test_a_trace_that_cannot_be_is_our_own_fault(events, said, expandable):
    with pytest.raises(AssertionError, match=said):
        replay(events, expandable=expandable)


# The driver has no more


def test_cached_segments_go_back_where_the_driver_refuses():
    events = [*taken(12), *freed(0), *taken(20, start=1)]
    assert replay(events) == Reserved(20 * MIB, 32 * MIB, 12 * MIB, ran_out=False, block_bytes=20 * MIB)
    assert replay(events, capacity_bytes=32 * MIB) == replay(events)
    assert replay(events, capacity_bytes=32 * MIB - 1) == Reserved(
        20 * MIB, 20 * MIB, 0, ran_out=False, block_bytes=20 * MIB
    )


def test_the_segments_of_both_pools_go_back():
    events = [(0, 1), (1, 5 * MIB), (0, 0), (1, 0), (2, 30 * MIB)]
    assert replay(events, capacity_bytes=30 * MIB) == Reserved(
        30 * MIB, 30 * MIB, 0, ran_out=False, block_bytes=30 * MIB
    )


def test_a_segment_in_use_does_not_go_back():
    events = [*taken(5, 16), *freed(1), *taken(30, start=2)]
    assert replay(events, capacity_bytes=49 * MIB) == Reserved(
        21 * MIB, 36 * MIB, 15 * MIB, ran_out=True, block_bytes=21 * MIB
    )
    assert not replay(events, capacity_bytes=50 * MIB).ran_out


def test_the_replay_ends_where_memory_runs_out():
    events = iter([*taken(12, 12, 512), *freed(0)])
    assert replay(events, capacity_bytes=24 * MIB) == Reserved(
        24 * MIB, 24 * MIB, 0, ran_out=True, block_bytes=24 * MIB
    )
    assert list(events) == freed(0)


def test_memory_can_run_out_with_enough_of_it_free():
    """Two segments, half free each: 20 MiB are free, 12 cannot be had."""
    events = [*taken(5, 5, 5, 5, 5, 5, 5, 5), *freed(0, 2, 4, 6), *taken(12, start=8)]
    assert replay(events, capacity_bytes=51 * MIB).ran_out


# Expandable segments


def test_an_expandable_segment_grows_in_pages_of_its_pool():
    assert reserved_mib((0, 1), expandable=True) == 2
    assert reserved_mib((0, 1), (1, 2 * MIB - 512), expandable=True) == 22
    assert reserved_mib(*taken(12), expandable=True) == 20
    assert reserved_mib(*taken(21), expandable=True) == 40


def test_an_expandable_segment_splits_large_blocks_down_to_512_bytes():
    assert replay(taken(11), expandable=True).free_bytes_at_peak == 9 * MIB
    assert reserved_mib(*taken(11), (1, 9 * MIB - 512), (2, 20 * MIB + 512), expandable=True) == 40


def test_the_end_of_an_expandable_segment_is_taken_last():
    """Its 3 MiB would fit 2 best, but count as large as they can become: the free 6 are taken, and 23 are 3 + 20."""
    assert reserved_mib(*taken(6, 11), *freed(0), *taken(2, 23, start=2), expandable=True) == 40


def test_whole_free_pages_go_back_where_the_driver_refuses():
    """Two pages of three are free and go back for a small block; then there is room for one of them, not for two."""
    events = [*taken(40, 20), *freed(0), (2, 1), *taken(20, start=3)]
    more = taken(20, start=4)
    assert replay(events, capacity_bytes=60 * MIB, expandable=True) == Reserved(
        60 * MIB, 60 * MIB, 0, ran_out=False, block_bytes=60 * MIB
    )
    assert replay([*events, *more], capacity_bytes=60 * MIB, expandable=True).ran_out
    assert replay([*events, *more], capacity_bytes=62 * MIB, expandable=True).reserved_bytes == 62 * MIB


@pytest.mark.parametrize(("sizes", "free"), [((10, 30), 1), ((30, 10), 0)])
def test_a_page_in_part_use_does_not_go_back(sizes, free):
    """Of the free 30 MiB one page goes back; the 10 beside the live block stay, and serve 10 MiB once."""
    events = [*taken(*sizes), *freed(free), (2, 1), *taken(10, start=3)]
    assert not replay(events, capacity_bytes=40 * MIB, expandable=True).ran_out
    assert replay([*events, *taken(10, start=4)], capacity_bytes=40 * MIB, expandable=True).ran_out


# What others saw of the real allocator


def test_pytorch_devlog_allocation_order():
    """docs.pytorch.org/devlogs/eager/2026-06-01-cuda-caching-allocator: 256 MiB small to large, 128 large to small."""
    small_then_large = [*taken(*[16] * 8), *freed(*range(8)), *taken(*[32] * 4, start=8)]
    large_then_small = [*taken(*[32] * 4), *freed(*range(4)), *taken(*[16] * 8, start=4)]
    assert replay(small_then_large) == Reserved(128 * MIB, 256 * MIB, 128 * MIB, ran_out=False, block_bytes=128 * MIB)
    assert replay(large_then_small) == Reserved(128 * MIB, 128 * MIB, 0, ran_out=False, block_bytes=128 * MIB)
    assert reserved_mib(*small_then_large, expandable=True) == 140


def test_pytorch_devlog_mapped_pages():
    """The same page, "Physical page granularity": what is mapped after each of eight times 16 MiB."""
    mapped = [reserved_mib(*taken(*[16] * number), expandable=True) for number in range(1, 9)]
    assert mapped == [20, 40, 60, 80, 80, 100, 120, 140]


def test_pytorch_devlog_live_blocks_pin_the_splits():
    """The same page: 32 MiB make the segment grow while two of four blocks live, and fit once all are free."""
    pinned = [*taken(16, 16, 16, 16), *freed(0, 2), *taken(32, start=4)]
    assert reserved_mib(*pinned[:4], expandable=True) == 80
    assert reserved_mib(*pinned, expandable=True) == 100
    assert reserved_mib(*pinned, *freed(4, 1, 3), *taken(32, start=5), expandable=True) == 100


@pytest.mark.parametrize("expandable", [False, True])
def test_pytorch_devlog_1_mib_loophole(expandable):
    """The same page: 2 MiB then 0.5 MiB take 22 MiB, twice 2 MiB take 20."""
    assert reserved_mib(*taken(2), *freed(0), *taken(0.5, start=1), expandable=expandable) == 22
    assert reserved_mib(*taken(2), *freed(0), *taken(2, start=1), expandable=expandable) == 20


def test_pytorch_forum_a_large_block_is_split():
    """discuss.pytorch.org/t/188639: 400 MiB freed, then 24 MiB, and memory_reserved() prints 400."""
    assert reserved_mib(*taken(400), *freed(0), *taken(24, start=1)) == 400


@pytest.mark.parametrize(
    ("expandable", "capacity_mib", "expected"),
    [
        (False, None, (4_302_123_520, 5_639_241_728, 3_342_175_232, False)),
        (False, 4800, (4_302_123_520, 5_033_164_800, 835_099_136, False)),
        (False, 4600, (4_219_427_840, 4_785_700_864, 596_450_304, True)),
        (True, None, (4_302_123_520, 5_020_581_888, 2_727_599_616, False)),
        (True, 4405, (4_302_123_520, 4_617_928_704, 411_429_888, False)),
        (True, 4300, (4_145_692_672, 4_471_128_064, 724_050_432, True)),
    ],
)
def test_as_the_original_replays_it(expandable, capacity_mib, expected):
    """Numbers of the original's own C++, its statistics and streams left out, before a driver that only counts up.

    The rules of c10/cuda/CUDACachingAllocator.cpp, pytorch/pytorch eb42ad6e, transcribed and compiled once. They agreed
    with the model on 12,800 random replays.
    """
    capacity = capacity_mib and capacity_mib * MIB
    got = replay(long_trace(), capacity_bytes=capacity, expandable=expandable, ascending=True)
    assert (got.allocated_bytes, got.reserved_bytes, got.free_bytes_at_peak, got.ran_out) == expected


def long_trace() -> list[Event]:
    """4,000 events with up to 60 blocks live, chosen so that each rule has a part in the numbers."""
    chance, names = Random(1).random, count()
    events: list[Event] = []
    live: list[int] = []
    while len(events) < 4000:
        if live and (len(live) > 60 or chance() < 0.45):
            events.append((live.pop(int(chance() * len(live))), 0))
        else:
            live.append(next(names))
            events.append((live[-1], 1 + int(chance() ** 3 * 200 * MIB)))
    return events


# What holds for every trace


@given(traces(), st.booleans())
def test_reserved_covers_allocated(events, expandable):
    got = replay(events, expandable=expandable)
    assert got.allocated_bytes <= got.reserved_bytes
    assert 0 <= got.free_bytes_at_peak <= got.reserved_bytes
    assert got.reserved_bytes % (2 * MIB) == 0
    assert not got.ran_out


@given(traces(), st.booleans(), st.data())
def test_blocks_freed_together_may_be_freed_in_any_order(events, expandable, data):
    live = still_live(events)
    more = taken(3, 12, 0.5, start=1000)
    shuffled = data.draw(st.permutations(live))
    one = replay([*events, *freed(*live), *more], expandable=expandable)
    assert replay([*events, *freed(*shuffled), *more], expandable=expandable) == one


@given(traces())
def test_an_expandable_segment_serves_the_same_trace_again(events):
    once = [*events, *freed(*still_live(events))]
    assert replay([*once, *once], expandable=True) == replay(once, expandable=True)


@given(traces(), st.integers(1, 40 * MIB))
def test_blocks_of_one_size_reserve_no_more_at_a_second_pass(events, size):
    once = [(name, size if requested else 0) for name, requested in [*events, *freed(*still_live(events))]]
    assert replay([*once, *once]) == replay(once)


@given(traces(), st.booleans(), st.integers(0, 200 * MIB))
def test_capacity_bounds_what_is_reserved(events, expandable, capacity):
    free = replay(events, expandable=expandable)
    got = replay(events, capacity_bytes=capacity, expandable=expandable)
    assert got.reserved_bytes <= capacity
    if capacity >= free.reserved_bytes:
        assert got == free
    if got.ran_out:
        assert got.allocated_bytes <= free.allocated_bytes
    else:
        assert got.allocated_bytes == free.allocated_bytes


@given(traces(), st.booleans())
def test_less_than_what_lives_at_once_runs_out(events, expandable):
    allocated = replay(events, expandable=expandable).allocated_bytes
    assume(allocated)
    assert replay(events, capacity_bytes=allocated - 1, expandable=expandable).ran_out


@given(traces())
def test_live_bytes_do_not_depend_on_the_setting(events):
    assert replay(events).allocated_bytes == replay(events, expandable=True).allocated_bytes
