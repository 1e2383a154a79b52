"""From a model's config, tensor table and established facts to the sizes its memory depends on. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from wirecheck.geometry import Geometry, lookup, read_geometry
from wirecheck.safetensors_header import TensorEntry
from wirecheck.schema import Scalar
from wirecheck.vram.formula import DTYPE_BYTES, MemoryShape

_PACKED = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
"""dtypes that are not cast to the run's: buffers, and weights packed by a quantizer."""
_TABLES = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight")


def read_shape(
    side: Literal["a", "b"],
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorEntry],
    established: Callable[[str], Scalar],
    dtype: str,
) -> MemoryShape | tuple[str, ...]:
    """The shape, or the names of the sizes that are missing.

    `established(field)` gives what a probe found out about the field, None where none did; it goes before what
    config.json declares, because a class may fill in or override sizes.
    """
    geometry = read_geometry(config)

    def size(field: str) -> int | None:
        value = established(field)
        return value if type(value) is int and value > 0 else getattr(geometry, field)

    hidden, layers = size("hidden_size"), size("num_layers")
    heads, vocab = size("num_heads"), size("vocab_size")
    if hidden is None or layers is None or heads is None or vocab is None:
        sizes = {"hidden_size": hidden, "num_layers": layers, "num_heads": heads, "vocab_size": vocab}
        return tuple(name for name, value in sizes.items() if value is None)
    reservations = []
    intermediate = size("intermediate_size")
    if intermediate is None:
        intermediate = 4 * hidden
        reservations.append(f"no intermediate size is declared, so 4 x {hidden} was taken.")
    if geometry.nested:
        reservations.append(f"its files hold more than the language model in {geometry.nested}; all of it was counted.")
    experts = size("experts_per_token") if (size("num_experts") or 0) > 1 else None
    shape = MemoryShape(
        side=side,
        model_type=_model_type(config, geometry),
        weight_bytes=weight_bytes(tensors, dtype, tied=established("tied") is True or geometry.tied is True),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=size("num_kv_heads") or heads,
        head_dim=size("head_dim") or -(-hidden // heads),
        intermediate_size=intermediate,
        vocab_size=vocab,
        experts_per_token=experts or 0,
        expert_size=geometry.expert_size or intermediate,
        capped_logits=_declares(config, geometry, "final_logit_softcapping"),
        reservations=tuple(reservations),
    )
    return shape if shape.weight_bytes else _counted(shape, size("num_experts") or 1, dtype, tied=geometry.tied)


def weight_bytes(tensors: Mapping[str, TensorEntry], dtype: str, *, tied: bool) -> int:
    """Every tensor as the run holds it: floating ones in its dtype, packed ones as on file, a tied table once."""
    total = sum(
        entry.num_bytes if entry.dtype in _PACKED else entry.num_elements * DTYPE_BYTES[dtype]
        for entry in tensors.values()
    )
    head = tensors.get("lm_head.weight")
    if tied and head is not None and any(name.endswith(_TABLES) for name in tensors):
        total -= head.num_elements * DTYPE_BYTES[dtype]
    return total


def _counted(shape: MemoryShape, experts: int, dtype: str, *, tied: bool | None) -> MemoryShape:
    """The shape with its weights counted from declared sizes, for a model of which no weight file was read."""
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    attention = shape.hidden_size * (2 * queries + 2 * keys)
    wide = experts * shape.expert_size if shape.experts_per_token else shape.intermediate_size
    layer = attention + 3 * shape.hidden_size * wide
    tables = shape.vocab_size * shape.hidden_size * (1 if tied else 2)
    words = "no weight file was read, so its weights were counted from declared sizes."
    fields = {name: getattr(shape, name) for name in shape.__dataclass_fields__}
    counted = (tables + shape.num_layers * layer) * DTYPE_BYTES[dtype]
    return MemoryShape(**fields | {"weight_bytes": counted, "reservations": (*shape.reservations, words)})


def _model_type(config: Mapping[str, Any], geometry: Geometry) -> str:
    inner = lookup(config, f"{geometry.nested}.model_type") if geometry.nested else None
    return inner if isinstance(inner, str) else geometry.model_type or "unknown"


def _declares(config: Mapping[str, Any], geometry: Geometry, key: str) -> bool:
    return bool(lookup(config, f"{geometry.nested}.{key}") if geometry.nested else config.get(key))
