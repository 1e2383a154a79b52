"""Which wires run on tensors without data. Torch-free."""

from __future__ import annotations

from wirecheck.schema import WireSpec

_TRACED = frozenset({"bytes", "resampler"})


def traceable(wire: WireSpec) -> bool:
    """Whether the memory of a step with that wire is traced; of the others (a sentence encoder's real weights, code of
    the user's) it is a formula.
    """
    return wire.name in _TRACED
