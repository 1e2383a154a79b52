"""What a raw config.json declares of the rotary embedding, and how many positions that gives. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from wirecheck.geometry import Geometry, lookup, shown

_MARKS = (
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "rotary_dim",
    "rotary_pct",
    "rotary_emb_base",
    "qk_rope_head_dim",
)
"""Keys that only models with a rotary embedding declare."""

LARGEST_FACTOR = 2**20
"""A scaling factor past this is taken for a fault and left out."""


def rope_words(config: Mapping[str, Any], nested: str | None) -> tuple[str, str] | None:
    """(a sentence fragment on the rotary embedding, the key it came from); None where none is declared."""
    inner = lookup(config, nested) if nested else config
    prefix = f"{nested}." if nested else ""
    parameters = inner.get("rope_parameters")
    if isinstance(parameters, Mapping) and parameters:
        if all(isinstance(value, Mapping) for value in parameters.values()):
            kinds = [f"{shown(kind)[1:-1]}: {_one_rope(value, value)}" for kind, value in sorted(parameters.items())]
            return "; ".join(kinds), f"{prefix}rope_parameters"
        return _one_rope(parameters, parameters), f"{prefix}rope_parameters"
    scaling = inner.get("rope_scaling")
    if isinstance(scaling, Mapping) and scaling:
        return _one_rope(inner, scaling), f"{prefix}rope_scaling"
    if inner.get("rope_theta") is not None:
        return _one_rope(inner, {}), f"{prefix}rope_theta"
    return None


@dataclass(frozen=True, slots=True)
class Positions:
    """How many positions a model has, by what its config declares."""

    sure: int
    perhaps: int
    """More than `sure` where the config does not tell whether its declared maximum counts the scaling already."""


def scaled_positions(config: Mapping[str, Any], geometry: Geometry) -> Positions | None:
    """Positions the model is made for, with the rope scaling that config.json declares.

    With an original maximum beside it, `linear`, `dynamic` and `yarn` multiply that. Without one, the declared maximum
    of `linear` and `dynamic` is the unscaled one in some families and the scaled one in others (Gemma 3), so only the
    declared figure is sure. For other kinds (llama3, longrope) it counts the scaling. None where none is declared.
    """
    declared = geometry.max_positions
    if declared is None:
        return None
    inner = lookup(config, geometry.nested) if geometry.nested else config
    scaling = inner.get("rope_parameters") or inner.get("rope_scaling")
    plain = Positions(declared, declared)
    if not isinstance(scaling, Mapping):
        return plain
    kind = scaling.get("rope_type") or scaling.get("type")
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if kind not in ("linear", "dynamic", "yarn") or not _within(factor, 1, LARGEST_FACTOR):
        return plain
    if _within(original, 1, declared):
        most = max(declared, int(original * factor))
        return Positions(most, most)
    return plain if kind == "yarn" else Positions(declared, int(declared * factor))


def rotary_size(config: Mapping[str, Any], geometry: Geometry) -> int | None:
    """Dimensions of each head that are rotated; None where no rotary embedding is declared, or not one size for all."""
    inner = lookup(config, geometry.nested) if geometry.nested else config
    if all(inner.get(key) is None for key in _MARKS):
        return None
    for key in ("rotary_dim", "qk_rope_head_dim"):
        size = inner.get(key)
        if isinstance(size, int) and not isinstance(size, bool):
            return size
    places = [inner, inner.get("rope_parameters"), inner.get("rope_scaling")]
    share: Any = 1.0
    for place in places:
        if isinstance(place, Mapping):
            share = place.get("partial_rotary_factor") or place.get("rotary_pct") or share
    return int(geometry.head_dim * share) if geometry.head_dim is not None and _within(share, 0, 1) else None


def _within(value: Any, least: float, largest: float) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= largest


def _one_rope(place: Mapping[str, Any], scaling: Mapping[str, Any]) -> str:
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    words = [shown(kind)[1:-1] if isinstance(kind, str) else shown(kind)]
    for key, word in (("factor", "factor"), ("original_max_position_embeddings", "original positions")):
        if scaling.get(key) is not None:
            words.append(f"{word} {shown(scaling[key])}")
    theta = place.get("rope_theta", scaling.get("rope_theta"))
    if theta is not None:
        whole = isinstance(theta, float) and theta.is_integer()
        words.append(f"theta {shown(int(theta) if whole else theta)}")
    return ", ".join(words)
