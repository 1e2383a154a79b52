"""Values that tensors without data have all the same: lengths, masks and positions, computed beside the trace.

Code that runs a step reads some values: whether a row is padded, how long it is. They come from small tensors made of
numbers the code wrote itself. Such a tensor carries its value, a real one on the CPU, through every operation whose
operands all have theirs. What has no value and is read ends the trace: `ValueRead`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from wirecheck.errors import CannotRun

MOST = 1 << 20
"""Elements of the largest tensor that carries its value."""
MOST_FLOATS = 4096
_VALUE = "_wirecheck_value"
_RANDOM = torch.Tag.nondeterministic_seeded


class ValueRead(CannotRun):
    """The step reads the values of a tensor that has none while it is traced."""


def tensors_in(given: Any) -> list[Tensor]:
    """The tensors among what an operation is given or returns: in lists, tuples and dicts, and lists of those."""
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, dict):
        given = given.values()
    elif not isinstance(given, tuple | list):
        return []
    found: list[Tensor] = []
    for one in given:
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, tuple | list | dict):
            found += tensors_in(one)
    return found


def value_of(tensor: Tensor) -> Tensor | None:
    """The value, on the CPU; None where it is not known."""
    if tensor.device.type != "meta":
        return tensor if tensor.numel() <= MOST else None
    held: Tensor | None = getattr(tensor, _VALUE, None)
    return held


def attach(tensor: Tensor, value: Tensor | None) -> None:
    """The value a meta tensor has from here on."""
    if value is None or value.numel() > (MOST_FLOATS if value.is_floating_point() else MOST):
        if hasattr(tensor, _VALUE):
            delattr(tensor, _VALUE)
    else:
        setattr(tensor, _VALUE, value)


def compute(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation on the values, where all operands have theirs; None where they have not."""
    if _RANDOM in op.tags or "empty" in op.name():  # random, or whatever stood in memory
        return None
    tensors = tensors_in((args, kwargs))
    if not tensors and not isinstance(kwargs.get("device"), torch.device):
        return None
    if any(value_of(one) is None for one in tensors):
        return None
    if not tensors and _num_asked(op, args) > MOST:
        return None

    def real(one: Any) -> Any:
        if isinstance(one, Tensor):
            return value_of(one)
        return torch.device("cpu") if isinstance(one, torch.device) else one

    return op(*tree_map(real, args), **tree_map(real, kwargs))


def _num_asked(op: Any, args: tuple[Any, ...]) -> int:
    """Elements that an operation without operands makes, at most."""
    count = 1
    if "arange" in op.name():
        return int(max((abs(a) for a in args if isinstance(a, int | float)), default=0))
    for sizes in args[:1]:
        for size in sizes if isinstance(sizes, list | tuple) else ():
            count *= int(size)
    return count


def indices(op_args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of an indexing with each boolean mask turned to the positions it selects. ValueRead where unknown."""
    taken: list[Any] = []
    for one in op_args[1]:
        if not isinstance(one, Tensor) or one.dtype not in (torch.bool, torch.uint8):
            taken.append(_there(one))
            continue
        value = value_of(one)
        if value is None:
            raise ValueRead("the step selects by a mask whose values a trace does not have (boolean indexing)")
        taken += [_there(where) for where in value.nonzero(as_tuple=True)]
    return (op_args[0], taken, *op_args[2:])


def _there(index: Any) -> Any:
    if not isinstance(index, Tensor) or index.device.type == "meta":
        return index
    moved = torch.empty_like(index, device="meta")
    attach(moved, index)
    return moved


def refuse(op: Any, make: Callable[[], str]) -> ValueRead:
    """The error for an operation that reads values."""
    return ValueRead(f"the step reads a tensor's values while it is traced ({op.name()}){make()}")
