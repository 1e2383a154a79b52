"""From a model's config to a tiny one of the same kind: what decides behaviour stays, what only costs shrinks.

Pure: dictionaries in, dictionaries out. Which layers are kept is decided first (`shrink_layers`), then every size is
scaled by its role (`shrink_roles`); what no rule names is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from wirecheck import shrink_roles as roles
from wirecheck.shrink_layers import first_of, layers_to_keep, num_layers, overrides

WIDTH = 64
"""Width of the twin's hidden state; a model of three heads has a narrower twin."""
HEADS = 4
HEAD_DIM = 16
ODD_HEAD_DIM = 24
"""Where the model's heads x head_dim is not its width, the twin's is not either."""
STATE = 16
"""State-space state size."""
SMALL_EXPERTS = 8
HASH_ROWS = 1024
CHUNK = 32
"""Positions a state-space layer takes at a time; its plain PyTorch form pads shorter inputs to it."""
TABLE_BYTES = 300_000_000
"""A float32 embedding table above this loses rows; below it the vocabulary keeps every row."""
_ROWS = TABLE_BYTES // (4 * WIDTH)
_DROPOUTS = ("dropout", "pdrop", "dropout_prob", "layerdrop", "jitter_noise")


@dataclass(frozen=True)
class Shrunk:
    """A config's fields made small, and in words what was kept and what was changed."""

    fields: dict[str, Any]
    kept: tuple[str, ...]
    changed: tuple[str, ...]


def shrink(fields: Mapping[str, Any], *, max_rows: int | None = None) -> Shrunk:
    """The fields of a text config, as `to_dict` writes them, made small.

    The vocabulary keeps its rows, up to `TABLE_BYTES`, or up to `max_rows` where that is given.
    """
    rows = min(_ROWS, max_rows or _ROWS)
    layers = layers_to_keep(fields)
    small = _Scale(fields, layers, rows).all()
    changed = tuple(
        f"{key} {fields[key]} -> {small[key]}"
        for key in fields
        if key in small and small[key] != fields[key] and isinstance(fields[key], int | float)
    )
    return Shrunk(small, _kept(fields, layers, rows), changed)


def attention_class(heads: int, kv_heads: int) -> str:
    """MHA, GQA or MQA by the number of key/value heads."""
    if kv_heads == heads:
        return "MHA"
    return "MQA" if kv_heads == 1 else "GQA"


def with_rows(key: str, value: Any, rows: int) -> Any:
    """A token id, or a list of them, that has a row among `rows`; anything else as it is."""
    if not key.endswith(("token_id", "token_index", "_tokens")):
        return value
    if isinstance(value, list | tuple):
        return [with_rows(key, one, rows) for one in value]
    return min(value, rows - 1) if isinstance(value, int) else value


def _own_width(fields: Mapping[str, Any]) -> int | None:
    return first_of(fields, roles.HIDDEN)


class _Scale:
    """The rule of every field, given the model's own sizes."""

    def __init__(self, fields: Mapping[str, Any], layers: list[int], rows: int, base: int | None = None) -> None:
        """`base` is the width that becomes `WIDTH`: the model's own, or the least of several nested in one config."""
        self.layers, self.rows, self.fields = layers, rows, fields
        self.total = num_layers(fields)
        inner = [width for value in fields.values() if (width := _sub_model_width(value)) is not None]
        self.base = base or _own_width(fields) or min(inner, default=WIDTH)
        self.width = _own_width(fields) or self.base
        self.heads = first_of(fields, roles.HEADS) or HEADS
        kv_heads = first_of(fields, roles.KV_HEADS) or self.heads
        self.small_heads = min(self.heads, HEADS)
        self.small_kv = {"MHA": self.small_heads, "MQA": 1, "GQA": max(1, self.small_heads // 2)}[
            attention_class(self.heads, kv_heads)
        ]
        small = self._twin_width(self.width)
        self.small_width = small if small % self.small_heads == 0 else HEAD_DIM * self.small_heads
        self._inner = self.small_width * (first_of(fields, ("mamba_expand", "expand")) or 2)
        self.head_dim = fields.get("head_dim") if isinstance(fields.get("head_dim"), int) else None
        wide = self.head_dim is not None and self.head_dim * self.heads != self.width
        self.small_head_dim = ODD_HEAD_DIM if wide else self.small_width // self.small_heads

    def all(self) -> dict[str, Any]:
        """Every field made small."""
        dropped = ("quantization_config",)  # the twin's weights are float32
        kept = (key for key in self.fields if not key.startswith("_attn_implementation") and key not in dropped)
        return {key: self.of(key, self.fields[key]) for key in kept}

    def of(self, key: str, value: Any) -> Any:
        """The twin's value of one field."""
        if isinstance(value, dict) and key.endswith(("_config", "rope_parameters", "rope_scaling")):
            return self._nested(key, value)
        if isinstance(value, list | tuple):
            return self._listed(key, value)
        if isinstance(value, float) and key.endswith(_DROPOUTS):
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            return value
        return next((small for names, small in self._sizes(key, value) if key in names), self._unnamed(key, value))

    def _twin_width(self, width: int) -> int:
        """`WIDTH` for the base; models nested in one config keep their ratios, in powers of two."""
        least = roles.LEAST_WIDTH.get(str(self.fields.get("model_type")), WIDTH)
        return max(least, WIDTH << max(0, round(log2(width / self.base))))

    def _sizes(self, key: str, value: int) -> tuple[tuple[Sequence[str], int], ...]:
        """What a whole number becomes, by the role its name has; the first role that names it counts."""
        has_state = first_of(self.fields, roles.STATES) is not None
        ssm_heads = self._inner // HEAD_DIM
        head_dim = self.head_dim or max(1, self.width // self.heads)
        return (
            (roles.LAYERS, max(len(self.layers), 1) * self._rounds(key)),
            (("hidden_size_global",), self._twin_width(value)),
            (roles.WIDTHS, _round_up(value * self.small_width // self.width, 16)),
            (("num_heads",) if has_state else (), ssm_heads),
            (roles.HEADS, self.small_heads),
            (("linear_num_key_heads",), max(1, self.small_heads // 2)),
            (roles.KV_HEADS, self.small_kv),
            (roles.HEAD_DIMS, self._head_dim(key, value)),
            (("qk_head_dim",), 2 * HEAD_DIM),
            (roles.EXPERTS, self._experts(value)),
            (roles.STATES, min(value, STATE)),
            (roles.SSM_HEADS, ssm_heads),
            (("mamba_d_ssm",), self._inner),
            (roles.SSM_GROUPS, min(value, 2)),
            (roles.CHUNKS if has_state else (), min(value, CHUNK)),
            (roles.BOUNDARIES, sum(index < value for index in self.layers)),
            (("num_kv_shared_layers",), sum(index >= self.total - value for index in self.layers)),
            (roles.HASHES, min(value, HASH_ROWS)),
            (("rotary_dim",), max(2, value * self.small_head_dim // head_dim // 2 * 2)),
        )

    def _rounds(self, key: str) -> int:
        """How often the layers are gone through, where the model has a stack of them and counts every passage."""
        stack = first_of(self.fields, (roles.STACK,))
        return max(1, self.total // stack) if stack and key != roles.STACK else 1

    def _unnamed(self, key: str, value: int) -> int:
        """What no role names stays, but a vocabulary has at most the rows given, and a token id has one of them."""
        if key.endswith(("vocab_size", "vocab_size_per_layer_input")):
            return min(value, self.rows)
        rows = min(first_of(self.fields, ("vocab_size",)) or value + 1, self.rows)
        return int(with_rows(key, value, rows))

    def _head_dim(self, key: str, value: int) -> int:
        if key != "head_dim" or first_of(self.fields, ("expand",)) is not None:
            return HEAD_DIM
        if first_of(self.fields, ("qk_rope_head_dim",)) is None:
            return _round_up(value * self.small_head_dim // (self.head_dim or value), 2)
        return 2 * HEAD_DIM if value in self._query_key_dims() else HEAD_DIM

    def _query_key_dims(self) -> set[int]:
        """Both parts of a query of latent attention together, as the config or one of its layers has them."""
        views = [{**self.fields, **overrides(self.fields, index)} for index in range(max(self.total, 1))]
        parts = ("qk_nope_head_dim", "qk_rope_head_dim")
        return {sum(view[part] for part in parts) for view in views if all(view.get(part) for part in parts)}

    def _experts(self, value: int) -> int:
        top_k = first_of(self.fields, roles.TOP_K) or 1
        groups = first_of(self.fields, roles.GROUPS) or 1
        return min(value, _round_up(max(SMALL_EXPERTS, 2 * top_k), 2 * groups))

    def _listed(self, key: str, value: Sequence[Any]) -> list[Any]:
        if key in roles.INDEX_LISTS:
            return [new for new, old in enumerate(self.layers) if old in value]
        if key in roles.WIDTH_LISTS:
            parts = [one * self.small_width // sum(value) for one in value]
            return [*parts[:-1], self.small_width - sum(parts[:-1])]
        if key.endswith(("_token_id", "_tokens")) or len(value) != self.total or not self.layers:
            rows = min(first_of(self.fields, ("vocab_size",)) or self.rows, self.rows)
            return list(with_rows(key, value, rows))
        return [self.of(key, value[index]) for index in self.layers]

    def _nested(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        if key == "per_layer_config":
            kept = {str(new): overrides(self.fields, old) for new, old in enumerate(self.layers)}
            return {layer: {k: self.of(k, v) for k, v in held.items()} for layer, held in kept.items() if held}
        if key.startswith("rope"):
            return {k: self._rope(k, v, value) for k, v in value.items()}
        if _sub_model_width(value) is not None:
            return _Scale(value, layers_to_keep(value), self.rows, self.base).all()
        return {k: self.of(k, v) for k, v in value.items()}

    def _rope(self, key: str, value: Any, whole: Mapping[str, Any]) -> Any:
        """Rotary settings stay, but lists as long as half the rotated part follow the head's size."""
        if isinstance(value, dict):
            return {k: self._rope(k, v, value) for k, v in value.items()}
        part = whole.get("partial_rotary_factor") or self.fields.get("partial_rotary_factor") or 1.0
        mla = first_of(self.fields, ("qk_rope_head_dim",)) is not None
        half = int((HEAD_DIM if mla else self.small_head_dim) * part) // 2
        if key in ("short_factor", "long_factor") and isinstance(value, list | tuple):
            return list(value)[:half]
        if key == "mrope_section" and isinstance(value, list | tuple):
            third = half // 3
            return [half - 2 * third, third, third]
        return value


def _sub_model_width(value: Any) -> int | None:
    """The width of a model whose whole config is nested in another's; None for any other value."""
    whole = isinstance(value, dict) and first_of(value, roles.LAYERS) and first_of(value, roles.HEADS)
    return _own_width(value) if whole else None


def _round_up(value: int, step: int) -> int:
    return max(step, -(-value // step) * step)


def _kept(fields: Mapping[str, Any], layers: list[int], rows: int) -> tuple[str, ...]:
    """What the twin has in common with the model, in words."""
    kept: list[str] = []
    heads = first_of(fields, roles.HEADS)
    if heads is not None:
        kept.append(f"attention {attention_class(heads, first_of(fields, roles.KV_HEADS) or heads)}")
    if first_of(fields, ("kv_lora_rank",)) is not None:
        query = "queries and " if first_of(fields, ("q_lora_rank",)) else ""
        kept.append(f"latent attention ({query}keys and values through a low rank)")
    if first_of(fields, roles.STATES) is not None:
        kept.append("state-space layers")
    if first_of(fields, ("hidden_size_per_layer_input",)) is not None:
        kept.append("per-layer embeddings")
    if isinstance(fields.get("vocab_size"), int) and fields["vocab_size"] <= rows:
        kept.append(f"vocab_size {fields['vocab_size']}")
    kept.append(f"tie_word_embeddings {fields.get('tie_word_embeddings')}")
    rope = fields.get("rope_parameters")
    if isinstance(rope, dict):
        leaves = [v for v in rope.values() if isinstance(v, dict)] or [rope]
        kept.append("rotary " + ", ".join(sorted({str(leaf.get("rope_type", "default")) for leaf in leaves})))
    types = next((v for key in roles.KINDS if isinstance(v := fields.get(key), list | tuple)), ())
    if layers and max(layers) < len(types):
        kept.append("layers " + ", ".join(dict.fromkeys(str(types[i]) for i in layers)))
    kept += [f"{key} {fields[key]}" for key in (*roles.TOP_K, *roles.DECIDING) if fields.get(key) is not None]
    return tuple(kept)
