"""The largest value on a lattice that fits, where all below it do."""

from __future__ import annotations

from collections.abc import Callable

Fits = Callable[[int], bool]


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
