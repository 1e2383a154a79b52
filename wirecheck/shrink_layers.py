"""Which layers a twin keeps: one of each distinct kind, in their order, and at least two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wirecheck import shrink_roles as roles

MAX_LAYERS = 12


def first_of(fields: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The first of those fields that holds a positive whole number."""
    for name in fields:
        value = fields[name]
        if name in names and isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def num_layers(fields: Mapping[str, Any]) -> int:
    """The layers of the model, by its count or by the length of the list of their kinds; 0 where nothing says."""
    listed = next((len(v) for key in roles.KINDS if isinstance(v := fields.get(key), list | tuple)), 0)
    return first_of(fields, roles.LAYERS) or listed


def layers_to_keep(fields: Mapping[str, Any]) -> list[int]:
    """Indices of the layers the twin has; none where the config names no layers."""
    total = num_layers(fields)
    aligned = [v for k, v in fields.items() if _is_aligned(k, v, total)]
    kinds: dict[str, int] = {}
    for index in range(total):
        kinds.setdefault(str([v[index] for v in aligned] + _flags(fields, index, total)), index)
        if len(kinds) == MAX_LAYERS:
            break
    periods = [p for key in roles.PERIODS if isinstance(p := fields.get(key), int) and 1 < p < total]
    listed = (fields.get(key) for key in roles.PATTERNS)
    periods += [len(p) for p in listed if isinstance(p, list | tuple) and 1 < len(p) < total]
    if len(kinds) == 1 and periods:
        return list(range(min(total, max(periods), MAX_LAYERS)))
    chosen = sorted({*kinds.values(), *_repeated(fields, total)})
    spare = (index for index in range(total) if index not in chosen)
    while len(chosen) < min(2, total):
        chosen = sorted([*chosen, next(spare)])
    return chosen


def overrides(fields: Mapping[str, Any], index: int) -> dict[str, Any]:
    """What `per_layer_config` says of one layer; its keys are layer numbers, zero-padded or not."""
    table = fields.get("per_layer_config") or {}
    return next((dict(v) for k, v in table.items() if str(k).isdigit() and int(k) == index), {})


def _is_aligned(key: str, value: Any, total: int) -> bool:
    """Whether a field holds one value per layer; a list of layer numbers may be as long by chance."""
    return isinstance(value, list | tuple) and len(value) == total and key not in roles.INDEX_LISTS


def _repeated(fields: Mapping[str, Any], total: int) -> list[int]:
    """The first two layers of a kind that its type needs twice."""
    key, kind = roles.REPEATED.get(str(fields.get("model_type")), ("", ""))
    listed = fields.get(key)
    if not isinstance(listed, list | tuple):
        return []
    return [index for index in range(min(total, len(listed))) if listed[index] == kind][:2]


def _flags(fields: Mapping[str, Any], index: int, total: int) -> list[Any]:
    """What fields other than aligned lists say about one layer."""
    flags: list[Any] = [index < k for key in roles.BOUNDARIES if isinstance(k := fields.get(key), int)]
    flags += [index in ids for key in roles.INDEX_LISTS if isinstance(ids := fields.get(key), list | tuple)]
    shared = fields.get("num_kv_shared_layers")
    if isinstance(shared, int):
        flags.append(index >= total - shared)
    return [*flags, overrides(fields, index)]
