"""What a process reserves on a GPU: PyTorch's caching allocator, replayed over a trace of allocations and frees.

A model of `DeviceCachingAllocator` in c10/cuda/CUDACachingAllocator.cpp with its default settings, one device and one
stream; the constants are those of c10/core/AllocatorConfig.h. A request is rounded to 512 bytes and served from the
smallest free block that holds it; a new segment is asked of the driver only when none does, and goes back to the driver
only when the driver refuses another. What is left out: streams (a block freed while another stream uses it comes back
late), graph pools, IPC, and the memory that never passes the allocator (the CUDA context, libraries, NCCL).

One thing is assumed about the driver: that each segment lies below the ones before it. It decides only which of two
free blocks of equal size is taken: the one at the lower address (in some versions of 2026, the older one). It is not
from a source: published readings of a T4 told it (docs/vram-accuracy.md has both).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

Event = tuple[int, int]
"""(block id, bytes): bytes > 0 is an allocation, 0 is the free of that id, which may then be used again."""

MIB = 1 << 20
MIN_BLOCK = 512
"""kMinBlockSize: every request is rounded up to a multiple of it."""
SMALL_SIZE = MIB
"""kSmallSize: the largest request of the small pool."""
SMALL_SEGMENT = 2 * MIB
"""kSmallBuffer: a segment of the small pool."""
LARGE_SEGMENT = 20 * MIB
"""large_segment_size(), earlier kLargeBuffer: a segment for requests under MIN_LARGE."""
MIN_LARGE = 10 * MIB
"""kMinLargeAlloc: from here on a segment is as large as the request, rounded to ROUND_LARGE."""
ROUND_LARGE = 2 * MIB
"""kRoundLarge."""
HIGHEST = 1 << 60
"""Address below which the first segment lies: any that leaves room for all."""
ADDRESS_SPACE = 1 << 60
"""What an expandable segment can grow to: never reached here, 9/8 of the GPU's memory in PyTorch."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a trace needs of the allocator, and the allocator of the driver."""

    allocated_bytes: int
    """Peak of live bytes, each request rounded to 512."""
    reserved_bytes: int
    """Peak of the bytes held from the driver, as `torch.cuda.max_memory_reserved` has it, taken after each event."""
    free_bytes_at_peak: int
    """Of the reserved bytes, when they first reached their peak, what lay in free blocks."""
    ran_out: bool
    """Whether an allocation failed even after cached segments were given back. The replay ends there, as a run would,
    and the other fields tell what was reached by then."""
    block_bytes: int
    """Peak of the bytes of live blocks, as `torch.cuda.max_memory_allocated` has it: up to 1 MiB more than was asked
    for where a request got a large block unsplit."""


def replay(
    events: Iterable[Event],
    *,
    capacity_bytes: int | None = None,
    expandable: bool = False,
    ascending: bool = False,
) -> Reserved:
    """What the allocator reserves over a trace, on a GPU that has `capacity_bytes` for it, or enough.

    `expandable` is the setting expandable_segments:True: each pool is one segment that grows, and gives back its wholly
    free pages when the driver refuses. Two things are simpler than there: the segment's address space has no end, so
    that a second segment is never begun, and the driver needs nothing beyond the pages themselves. `ascending`: the
    driver hands out each segment above the ones before it, not below.
    """
    cache = _Cache(capacity_bytes, _ExpandablePool if expandable else _AscendingPool if ascending else _Pool)
    live: dict[int, tuple[_Block, int]] = {}
    allocated = in_blocks = 0
    peak_allocated = peak_in_blocks = peak_reserved = free_at_peak = 0
    ran_out = False
    for name, requested in events:
        if requested == 0:
            assert name in live, f"block {name} is freed and is not live"
            block, size = live.pop(name)
            allocated -= size
            in_blocks -= block.size
            cache.free(block)
            continue
        assert requested > 0, f"block {name} has {requested} bytes"
        assert name not in live, f"block {name} is allocated twice"
        size = _round_up(requested, MIN_BLOCK)
        found = cache.allocate(size)
        if found is not None:
            live[name] = found, size
            allocated += size
            in_blocks += found.size
            peak_allocated = max(peak_allocated, allocated)
            peak_in_blocks = max(peak_in_blocks, in_blocks)
        reserved = cache.driver.reserved_bytes
        if reserved > peak_reserved:
            peak_reserved, free_at_peak = reserved, reserved - in_blocks
        if found is None:
            ran_out = True
            break
    return Reserved(peak_allocated, peak_reserved, free_at_peak, ran_out, peak_in_blocks)


@dataclass(slots=True, eq=False)
class _Block:
    """A stretch of a segment, linked to its neighbours there: live, or free, or address space with no memory behind."""

    pool: _Pool
    address: int
    size: int
    before: _Block | None = None
    after: _Block | None = None
    live: bool = False
    mapped: bool = True
    """Whether memory stands behind it: always, but in an expandable segment."""


class _Driver:
    """The GPU's memory, as cudaMalloc and cuMemCreate hand it out."""

    def __init__(self, capacity_bytes: int | None) -> None:
        self.capacity_bytes = capacity_bytes
        self.reserved_bytes = 0

    def take(self, size: int) -> bool:
        """Whether the driver had these bytes; then they are taken."""
        if self.capacity_bytes is not None and self.reserved_bytes + size > self.capacity_bytes:
            return False
        self.reserved_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """Return bytes to the driver."""
        self.reserved_bytes -= size


class _Pool:
    """The segments of one pool, small or large, each its own cudaMalloc, and the free blocks in them."""

    def __init__(self, driver: _Driver, *, small: bool) -> None:
        self.driver = driver
        self.least_rest = MIN_BLOCK if small else SMALL_SIZE + MIN_BLOCK
        """What must be left of a block for it to be split: should_split, where sizes are multiples of 512."""
        self.sizes: list[tuple[int, int]] = []
        """(size, address) of the free blocks, in order: the best fit is the first that is large enough."""
        self.blocks: dict[int, _Block] = {}
        """The same free blocks by address."""
        self.end = HIGHEST
        """The address of the last segment."""

    def best_fit(self, size: int) -> _Block | None:
        """The smallest free block of at least this size, the lowest of them, taken out of the free ones."""
        at = bisect_left(self.sizes, (size, 0))
        return self._take_at(at) if at < len(self.sizes) else None

    def grow(self, size: int) -> _Block | None:
        """A new segment for this request, or None where the driver refuses: get_allocation_size."""
        if size <= SMALL_SIZE:
            segment = SMALL_SEGMENT
        elif size < MIN_LARGE:
            segment = LARGE_SEGMENT
        else:
            segment = _round_up(size, ROUND_LARGE)
        if not self.driver.take(segment):
            return None
        self.end -= segment
        return _Block(self, self.end, segment)

    def hand_out(self, block: _Block, size: int) -> None:
        """Make a block live; what it has beyond `size` becomes a free block, if that is enough to be split off."""
        if block.size - size >= self.least_rest:
            self._put(_cut(block, size))
        block.live = True

    def free(self, block: _Block) -> None:
        """Make a live block free, one with its free neighbours."""
        block.live = False
        self._put(self._coalesced(block))

    def release(self) -> None:
        """Give the wholly free segments back to the driver: release_blocks."""
        for _, address in tuple(self.sizes):
            block = self.blocks[address]
            if block.before is None and block.after is None:
                self._drop(block)
                self.driver.give_back(block.size)

    def _coalesced(self, block: _Block) -> _Block:
        """The block joined with its neighbours of the same kind, these taken out of their set: try_merge_blocks."""
        before, after = block.before, block.after
        if before is not None and not before.live and before.mapped == block.mapped:
            self._drop(before)
            block = _joined(before, block)
        if after is not None and not after.live and after.mapped == block.mapped:
            self._drop(after)
            block = _joined(block, after)
        return block

    def _put(self, block: _Block) -> None:
        """Enter a block among the free ones."""
        insort(self.sizes, (block.size, block.address))
        self.blocks[block.address] = block

    def _drop(self, block: _Block) -> None:
        """Take a block out of the free ones."""
        self._take_at(bisect_left(self.sizes, (block.size, block.address)))

    def _take_at(self, at: int) -> _Block:
        return self.blocks.pop(self.sizes.pop(at)[1])


class _AscendingPool(_Pool):
    """A pool before a driver whose addresses go up."""

    def grow(self, size: int) -> _Block | None:
        block = super().grow(size)
        if block is not None:
            block.address = 2 * HIGHEST - block.address - block.size
        return block


class _ExpandablePool(_Pool):
    """A pool of one segment, the address space, to which memory is mapped in pages where it is needed."""

    def __init__(self, driver: _Driver, *, small: bool) -> None:
        super().__init__(driver, small=small)
        self.least_rest = MIN_BLOCK
        self.page = SMALL_SEGMENT if small else LARGE_SEGMENT
        self.unmapped = [_Block(self, 0, ADDRESS_SPACE, mapped=False)]
        """The stretches with no memory behind, by address: the end of the segment, and the holes of a release."""

    def best_fit(self, size: int) -> _Block | None:
        """The best fit, where a block before an unmapped stretch counts as large as it can become: get_free_block."""
        at = bisect_left(self.sizes, (size, 0))
        if at == len(self.sizes):
            return None
        while at + 1 < len(self.sizes) and self._reach(at + 1) < self._reach(at):
            at += 1
        return self._take_at(at)

    def grow(self, size: int) -> _Block | None:
        """Map pages at the lowest place where the request fits: try_allocate_expandable_block.

        Where the driver refuses, what was mapped on the way stays as a free block.
        """
        block: _Block | None = self._lowest_stretch(size)
        if block is not None and not block.mapped:
            block = self._map(block, min(size, block.size))
        while block is not None and block.size < size:
            hole = block.after
            assert hole is not None, f"the segment ends after {block.address}"
            assert not hole.mapped, f"the free block at {hole.address} is apart from the one before it"
            block = self._map(hole, min(size - block.size, hole.size))
        if block is not None:
            self._drop(block)
        return block

    def release(self) -> None:
        """Give back every page that lies wholly in a free block: unmap_block."""
        for _, address in tuple(self.sizes):
            block = self.blocks[address]
            begin = _round_up(address, self.page)
            end = (address + block.size) // self.page * self.page
            if begin >= end:
                continue
            self._drop(block)
            if begin > address:
                front, block = block, _cut(block, begin - address)
                self._put(front)
            if block.size > end - begin:
                self._put(_cut(block, end - begin))
            block.mapped = False
            self.driver.give_back(block.size)
            self._put(self._coalesced(block))

    def _reach(self, at: int) -> int:
        """How large a free block can become."""
        size, address = self.sizes[at]
        after = self.blocks[address].after
        return size if after is None or after.mapped else size + after.size

    def _lowest_stretch(self, size: int) -> _Block:
        """The first block of the lowest free and unmapped neighbours that hold the request: find_expandable_block."""
        for hole in self.unmapped:
            first = hole if hole.before is None or hole.before.live else hole.before
            reach, block = first.size, first.after
            while reach < size and block is not None and not block.live:
                reach, block = reach + block.size, block.after
            if reach >= size:
                return first
        raise AssertionError(f"no address space for {size} bytes")

    def _map(self, hole: _Block, size: int) -> _Block | None:
        """Map the first pages of an unmapped stretch; the free block they are then part of: map_block."""
        size = _round_up(size, self.page)
        if not self.driver.take(size):
            return None
        self._drop(hole)
        if size < hole.size:
            self._put(_cut(hole, size))
        hole.mapped = True
        block = self._coalesced(hole)
        self._put(block)
        return block

    def _put(self, block: _Block) -> None:
        if block.mapped:
            super()._put(block)
        else:
            insort(self.unmapped, block, key=_address)

    def _drop(self, block: _Block) -> None:
        if block.mapped:
            super()._drop(block)
        else:
            del self.unmapped[bisect_left(self.unmapped, block.address, key=_address)]


class _Cache:
    """Both pools before one driver."""

    def __init__(self, capacity_bytes: int | None, kind: type[_Pool]) -> None:
        self.driver = _Driver(capacity_bytes)
        self.small = kind(self.driver, small=True)
        self.large = kind(self.driver, small=False)

    def allocate(self, size: int) -> _Block | None:
        """A live block of at least this rounded size, or None where the driver has no more: malloc.

        Between the two attempts PyTorch would also give back single oversized blocks (release_available_cached_blocks),
        which under the default max_split_size do not exist.
        """
        pool = self.small if size <= SMALL_SIZE else self.large
        block = pool.best_fit(size) or pool.grow(size)
        if block is None:
            self.large.release()
            self.small.release()
            block = pool.grow(size)
        if block is not None:
            pool.hand_out(block, size)
        return block

    def free(self, block: _Block) -> None:
        """Give a live block back to its pool."""
        block.pool.free(block)


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _address(block: _Block) -> int:
    return block.address


def _cut(block: _Block, size: int) -> _Block:
    """Shorten a block to `size` bytes; the rest, linked after it."""
    rest = _Block(block.pool, block.address + size, block.size - size, block, block.after, mapped=block.mapped)
    if rest.after is not None:
        rest.after.before = rest
    block.after = rest
    block.size = size
    return rest


def _joined(left: _Block, right: _Block) -> _Block:
    """The left of two neighbours, with the right one's bytes."""
    left.size += right.size
    left.after = right.after
    if left.after is not None:
        left.after.before = left
    return left
