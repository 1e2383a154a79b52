"""The largest value on a lattice that fits, where all below it do; the lattices of batch and context. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count, takewhile

Fits = Callable[[int], bool]
POSITION_STEP = 128
"""Positions from one length of the lattice to the next: kernels round them up to 8, 32 or 128."""
MOST_ROWS = 1 << 16
"""The largest batch that is asked for."""
MOST_TOKENS = 1 << 20
"""The longest context that is asked for where no model says how many positions it has."""


def first_context(context: int) -> int:
    """The first length of the lattice that the context asked for lies on."""
    return (max(context, 1) - 1) % POSITION_STEP + 1


def last_context(positions: Iterable[int | None], taken: int) -> int:
    """The longest context there is to ask for: what latent and answer leave of the models' positions."""
    known = [count for count in positions if count is not None]
    return min(known) - taken if known else MOST_TOKENS


def contexts_above(asked: int, end: int) -> tuple[int, ...]:
    """Contexts of a curve past the one asked for: 512 and its doubles, and the last step of 128 that there is."""
    last = end // POSITION_STEP * POSITION_STEP
    doubles = takewhile(lambda context: context < last, (4 * POSITION_STEP << n for n in count()))
    return tuple(context for context in (*doubles, last) if context > asked)


def largest(fits: Fits, least: int, most: int, step: int = 1) -> int | None:
    """The largest of least, least + step, .. most that fits; None where the least does not."""
    if most < least or not fits(least):
        return None
    low, high = 0, (most - least) // step
    reach = 1
    while reach < high and fits(least + reach * step):
        low, reach = reach, 2 * reach
    high = min(high, reach)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(least + middle * step) else (low, middle - 1)
    return least + low * step


def largest_below(fits: Fits, most: int, least: int, step: int = 1) -> int | None:
    """The same where the answer is expected near `most`, itself on the lattice: sought from there down."""
    if most < least:
        return None
    if fits(most):
        return most
    high, reach = most, 1  # `high` does not fit
    while (low := most - reach * step) > least and not fits(low):
        high, reach = low, 4 * reach
    low = max(low, least)
    if low == least and not fits(low):
        return None
    while high - low > step:
        middle = low + (high - low) // (2 * step) * step
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
