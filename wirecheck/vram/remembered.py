"""Operations on tensors without data whose results are known from the last time: a model's layers repeat one another.

torch works out shapes and strides of most operations in Python, at some 100 us each. They depend on nothing but the
operands' own shapes, strides and dtypes, and on the other arguments, so that they are worked out once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from wirecheck.vram.known import tensors_in

_META = torch.device("meta")
_IN_PLACE = frozenset(
    f"aten::{name}_"
    for name in ("add", "sub", "mul", "div", "addcmul", "addcdiv", "lerp", "sqrt", "zero", "fill", "copy")
)
"""Of the operations that write into an operand, those that leave its shape as it is, and return it."""
_PLAIN = (int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
"""Types of arguments that stand for themselves."""
_MOST = 1 << 16
"""Results that are remembered at a time."""

Made = Callable[[], Any]
_results: dict[Any, Made] = {}


def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `func(*args, **kwargs)` returns, for tensors on the meta device."""
    kind = _kind(func)
    if kind is None:
        return func(*args, **kwargs)
    try:
        key = (func, _key(args), _key(tuple(kwargs.items())) if kwargs else None)
        known = _results.get(key)
    except _Unknown:
        return func(*args, **kwargs)
    if known is not None:
        return args[0] if kind == "writes" else known()
    result = func(*args, **kwargs)
    if kind == "writes":
        made: Made | None = _nothing if result is args[0] else None
    elif kind == "list":
        made = _nothing if result is None or result == () else None
    else:
        made = _maker(result, args, kwargs)
    if made is not None:
        if len(_results) >= _MOST:
            _results.clear()
        _results[key] = made
    return result


class _Unknown(Exception):  # said inside this module alone
    """An argument that no key can be made of."""


@cache
def _kind(func: Any) -> str | None:
    """How the operation may be remembered: one that `makes` its results, or `writes` into its first operand, or into
    each of a `list`; None where it returns views, draws random numbers or does anything else.
    """
    schema, name = func._schema, func.name()
    if torch.Tag.nondeterministic_seeded in func.tags or torch.Tag.data_dependent_output in func.tags:
        return None
    if torch.Tag.dynamic_output_shape in func.tags:
        return None
    base = name.partition(".")[0]
    if base.startswith("aten::_foreach_") and base.endswith("_"):
        return "list"
    written = [one.alias_info for one in (*schema.arguments, *schema.returns) if one.alias_info is not None]
    if not written:
        return "makes"
    return "writes" if base in _IN_PLACE and "out" not in name else None


def _key(values: Any) -> tuple[Any, ...]:
    return tuple(map(_one, values))


def _one(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.device.type != "meta":
            raise _Unknown
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, (list, tuple)):  # a union is made anew at each call
        return (type(value), *map(_one, value))
    if value is None or isinstance(value, _PLAIN):
        return (type(value), value)
    raise _Unknown


def _same(one: Any) -> Any:
    return one


def _nothing() -> None:
    return None


def _maker(result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Made | None:
    """Makes tensors like those of the result; None where one is not a plain new tensor, as of `_unsafe_view`."""
    taken = {one.untyped_storage()._cdata for one in tensors_in((args, kwargs))}
    if any(one.untyped_storage()._cdata in taken for one in tensors_in(result)):
        return None
    if isinstance(result, Tensor):
        return _tensor_maker(result)
    if not isinstance(result, tuple | list):
        return None
    made = []
    for one in result:
        if isinstance(one, Tensor):
            maker = _tensor_maker(one)
            if maker is None:
                return None
            made.append(maker)
        elif one is None or isinstance(one, int):
            made.append(partial(_same, one))
        else:
            return None
    kind = type(result) if type(result) in (tuple, list) else tuple
    return lambda: kind([maker() for maker in made])


def _tensor_maker(tensor: Tensor) -> Made | None:
    shape, stride, dtype = tuple(tensor.shape), tensor.stride(), tensor.dtype
    alike = torch.empty_strided(shape, stride, dtype=dtype, device=_META)
    if tensor.device != _META or tensor.untyped_storage().nbytes() != alike.untyped_storage().nbytes():
        return None
    return lambda: torch.empty_strided(shape, stride, dtype=dtype, device=_META)
