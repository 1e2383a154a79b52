"""From a model's config to a tiny one of the same kind: what decides behaviour stays, what only costs shrinks.

Pure: dictionaries in, dictionaries out. Which layers are kept is decided first (one of each distinct kind, in their
order), then every size is scaled by its role; what no rule names is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 64
"""Width of the twin's hidden state; a model of three heads has a narrower twin."""
HEADS = 4
HEAD_DIM = 16
ODD_HEAD_DIM = 24
"""Where the model's heads x head_dim is not its width, the twin's is not either."""
STATE = 16
"""State-space state size."""
SMALL_EXPERTS = 8
CHUNK = 32
"""Positions a state-space layer takes at a time; its plain PyTorch form pads shorter inputs to it."""
MAX_LAYERS = 12
TABLE_BYTES = 300_000_000
"""A float32 embedding table above this loses rows; below it the vocabulary keeps every row."""
_ROWS = TABLE_BYTES // (4 * WIDTH)
_DROPOUTS = ("dropout", "pdrop", "dropout_prob", "layerdrop", "jitter_noise")

_LAYERS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers",
    "num_decoder_layers", "num_encoder_layers", "num_blocks", "num_layers_per_stack",
)  # fmt: skip
_WIDTHS = (
    "hidden_size", "d_model", "n_embd", "emb_dim", "embedding_dim", "embedding_size", "word_embed_proj_dim",
    "input_embedding_size", "output_embedding_size", "attention_hidden_size", "lru_width", "intermediate_size",
    "intermediate_size_mlp", "ffn_dim", "n_inner", "dff", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size",
    "expert_ffn_hidden_size", "moe_intermediate_size", "dim_ff", "d_inner", "shared_intermediate_size",
    "shared_expert_intermediate_size", "shared_experts_intermediate_size", "feed_forward_size",
    "moe_shared_expert_intermediate_size", "dense_intermediate_size", "q_lora_rank", "kv_lora_rank", "o_lora_rank",
    "hidden_size_per_layer_input", "router_hidden_size", "laurel_rank", "ple_embed_dim", "hc_lowrank", "d_rel",
    "gated_norm_rank", "adapter_rank", "time_step_rank", "mamba_dt_rank", "block_multiple_of",
)  # fmt: skip
_HEADS = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads",
    "encoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads", "index_n_heads",
    "swa_num_attention_heads", "linear_num_heads", "linear_num_value_heads", "num_attention_heads_per_layer",
)  # fmt: skip
_KV_HEADS = (
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "swa_num_key_value_heads", "num_query_groups",
    "num_global_key_value_heads", "linear_num_key_heads",
)  # fmt: skip
_HEAD_DIMS = (
    "head_dim", "global_head_dim", "swa_head_dim", "dim_head", "attention_head_size", "d_head", "kv_channels",
    "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_head_dim", "linear_head_dim", "linear_key_head_dim",
    "linear_value_head_dim", "mamba_d_head", "mamba_head_dim", "mamba_headdim",
)  # fmt: skip
_EXPERTS = (
    "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts",
)  # fmt: skip
_TOP_K = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k", "top_k")
_GROUPS = ("n_group", "num_expert_group")
_STATES = (
    "mamba_d_state", "ssm_state_size", "state_size",
)  # fmt: skip
_SSM_HEADS = (
    "mamba_n_heads", "mamba_num_heads", "n_mamba_heads",
)  # fmt: skip
_SSM_GROUPS = (
    "mamba_n_groups", "mamba_ngroups", "n_groups", "o_groups",
)  # fmt: skip
_CHUNKS = ("mamba_chunk_size", "chunk_size")
_BOUNDARIES = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "max_window_layers")
"""Layers below the number are of another kind than those at or above it."""
_INDEX_LISTS = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "cross_attention_layers", "hybrid_layer_ids")
_PERIODS = (
    "attn_layer_period", "expert_layer_period", "decoder_sparse_step", "no_rope_layer_interval", "layer_group_size",
    "sliding_window_pattern", "_sliding_window_pattern", "interleave_moe_layer_step", "global_attn_every_n_layers",
    "moe_layer_interval", "n_layers_per_attn_res_block",
)  # fmt: skip
_PATTERNS = ("block_types",)
"""Lists repeated over the layers."""
_DECIDING = (
    "hidden_act", "hidden_activation", "activation_function", "attention_bias", "mlp_bias", "use_qk_norm", "qk_norm",
    "sliding_window", "use_sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "logits_scaling",
    "logit_scale", "embedding_multiplier", "residual_multiplier", "attention_multiplier", "query_pre_attn_scalar",
    "scale_embedding", "alibi", "parallel_attn", "new_decoder_architecture", "multi_query", "num_kv_shared_layers",
)  # fmt: skip


@dataclass(frozen=True)
class Shrunk:
    """A config's fields made small, and in words what was kept and what was changed."""

    fields: dict[str, Any]
    kept: tuple[str, ...]
    changed: tuple[str, ...]


def shrink(fields: Mapping[str, Any]) -> Shrunk:
    """The fields of a text config, as `to_dict` writes them, made small."""
    layers = _layers_to_keep(fields)
    rule = _Scale(fields, layers)
    small = {key: rule.of(key, value) for key, value in fields.items() if not key.startswith("_attn_implementation")}
    small.pop("quantization_config", None)  # the twin's weights are float32
    changed = tuple(
        f"{key} {fields[key]} -> {small[key]}"
        for key in fields
        if key in small and small[key] != fields[key] and isinstance(fields[key], int | float)
    )
    return Shrunk(small, _kept(fields, layers), changed)


def attention_class(heads: int, kv_heads: int) -> str:
    """MHA, GQA or MQA by the number of key/value heads."""
    if kv_heads == heads:
        return "MHA"
    return "MQA" if kv_heads == 1 else "GQA"


def first_of(fields: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The first of those fields that holds a positive whole number."""
    for name in fields:
        value = fields[name]
        if name in names and isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _layers_to_keep(fields: Mapping[str, Any]) -> list[int]:
    """Indices of the layers the twin has: one of each distinct kind, at least two, in their order."""
    total = first_of(fields, _LAYERS)
    if total is None:
        return []
    aligned = [v for v in fields.values() if isinstance(v, list | tuple) and len(v) == total]
    kinds: dict[str, int] = {}
    for index in range(total):
        kinds.setdefault(str([v[index] for v in aligned] + _flags(fields, index, total)), index)
        if len(kinds) == MAX_LAYERS:
            break
    periods = [p for key in _PERIODS if isinstance(p := fields.get(key), int) and 1 < p < total]
    periods += [len(p) for key in _PATTERNS if isinstance(p := fields.get(key), list | tuple) and 1 < len(p) < total]
    if len(kinds) == 1 and periods:
        return list(range(min(total, max(periods), MAX_LAYERS)))
    chosen = sorted(kinds.values())
    spare = (index for index in range(total) if index not in chosen)
    while len(chosen) < min(2, total):
        chosen = sorted([*chosen, next(spare)])
    return chosen


def _flags(fields: Mapping[str, Any], index: int, total: int) -> list[Any]:
    """What fields other than aligned lists say about one layer."""
    flags: list[Any] = [index < k for key in _BOUNDARIES if isinstance(k := fields.get(key), int)]
    flags += [index in ids for key in _INDEX_LISTS if isinstance(ids := fields.get(key), list | tuple)]
    shared = fields.get("num_kv_shared_layers")
    if isinstance(shared, int):
        flags.append(index >= total - shared)
    return [*flags, _overrides(fields, index)]


def _overrides(fields: Mapping[str, Any], index: int) -> dict[str, Any]:
    """What `per_layer_config` says of one layer; its keys are layer numbers, zero-padded or not."""
    table = fields.get("per_layer_config") or {}
    return next((dict(v) for k, v in table.items() if str(k).isdigit() and int(k) == index), {})


class _Scale:
    """The rule of every field, given the model's own sizes."""

    def __init__(self, fields: Mapping[str, Any], layers: list[int]) -> None:
        self.layers = layers
        self.total = first_of(fields, _LAYERS) or 0
        self.fields = fields
        self.width = first_of(fields, ("hidden_size", "d_model", "n_embd", "emb_dim", "embedding_dim")) or WIDTH
        self.heads = first_of(fields, _HEADS) or HEADS
        kv_heads = first_of(fields, _KV_HEADS) or self.heads
        self.small_heads = min(self.heads, HEADS)
        self.small_kv = {"MHA": self.small_heads, "MQA": 1, "GQA": max(1, self.small_heads // 2)}[
            attention_class(self.heads, kv_heads)
        ]
        self.small_width = WIDTH if WIDTH % self.small_heads == 0 else HEAD_DIM * self.small_heads
        self._inner = self.small_width * (first_of(fields, ("mamba_expand", "expand")) or 2)
        self.head_dim = fields.get("head_dim") if isinstance(fields.get("head_dim"), int) else None
        wide = self.head_dim is not None and self.head_dim * self.heads != self.width
        self.small_head_dim = ODD_HEAD_DIM if wide else self.small_width // self.small_heads

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
        return next((small for names, small in self._sizes(key, value) if key in names), self._clamped(key, value))

    def _sizes(self, key: str, value: int) -> tuple[tuple[Sequence[str], int], ...]:
        """What a whole number becomes, by the role its name has; the first role that names it counts."""
        has_state = first_of(self.fields, _STATES) is not None
        ssm_heads = self._inner // HEAD_DIM
        head_dim = self.head_dim or max(1, self.width // self.heads)
        return (
            (_LAYERS, max(len(self.layers), 1)),
            (_WIDTHS, _round_up(value * self.small_width // self.width, 16)),
            (("num_heads",) if has_state else (), ssm_heads),
            (_HEADS, self.small_heads),
            (("linear_num_key_heads",), max(1, self.small_heads // 2)),
            (_KV_HEADS, self.small_kv),
            (_HEAD_DIMS, self._head_dim(key, value)),
            (("qk_head_dim",), 2 * HEAD_DIM),
            (_EXPERTS, self._experts(value)),
            (_STATES, min(value, STATE)),
            (_SSM_HEADS, ssm_heads),
            (("mamba_d_ssm",), self._inner),
            (_SSM_GROUPS, min(value, 2)),
            (_CHUNKS if has_state else (), min(value, CHUNK)),
            (_BOUNDARIES, sum(index < value for index in self.layers)),
            (("num_kv_shared_layers",), sum(index >= self.total - value for index in self.layers)),
            (("vocab_size", "vocab_size_per_layer_input"), min(value, _ROWS)),
            (("rotary_dim",), max(2, value * self.small_head_dim // head_dim // 2 * 2)),
        )

    def _clamped(self, key: str, value: int) -> int:
        """What no role names stays, but a token id must have a row."""
        rows = min(first_of(self.fields, ("vocab_size",)) or value + 1, _ROWS)
        return min(value, rows - 1) if key.endswith("token_id") else value

    def _head_dim(self, key: str, value: int) -> int:
        if key == "head_dim" and first_of(self.fields, ("qk_rope_head_dim", "expand")) is None:
            return _round_up(value * self.small_head_dim // (self.head_dim or value), 2)
        return HEAD_DIM

    def _experts(self, value: int) -> int:
        top_k = first_of(self.fields, _TOP_K) or 1
        groups = first_of(self.fields, _GROUPS) or 1
        return min(value, _round_up(max(SMALL_EXPERTS, 2 * top_k), 2 * groups))

    def _listed(self, key: str, value: Sequence[Any]) -> list[Any]:
        if key in _INDEX_LISTS:
            return [new for new, old in enumerate(self.layers) if old in value]
        if key.endswith("_token_id") or len(value) != self.total or not self.layers:
            return list(value)
        return [self.of(key, value[index]) for index in self.layers]

    def _nested(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        if key == "per_layer_config":
            kept = {str(new): _overrides(self.fields, old) for new, old in enumerate(self.layers)}
            return {layer: {k: self.of(k, v) for k, v in held.items()} for layer, held in kept.items() if held}
        if key.startswith("rope"):
            return {k: self._rope(k, v, value) for k, v in value.items()}
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


def _round_up(value: int, step: int) -> int:
    return max(step, -(-value // step) * step)


def _kept(fields: Mapping[str, Any], layers: list[int]) -> tuple[str, ...]:
    """What the twin has in common with the model, in words."""
    kept: list[str] = []
    heads = first_of(fields, _HEADS)
    if heads is not None:
        kept.append(f"attention {attention_class(heads, first_of(fields, _KV_HEADS) or heads)}")
    if "vocab_size" in fields and fields["vocab_size"] <= _ROWS:
        kept.append(f"vocab_size {fields['vocab_size']}")
    kept.append(f"tie_word_embeddings {fields.get('tie_word_embeddings')}")
    rope = fields.get("rope_parameters")
    if isinstance(rope, dict):
        leaves = [v for v in rope.values() if isinstance(v, dict)] or [rope]
        kept.append("rotary " + ", ".join(sorted({str(leaf.get("rope_type", "default")) for leaf in leaves})))
    types = fields.get("layer_types")
    if isinstance(types, list | tuple) and layers and max(layers) < len(types):
        kept.append("layers " + ", ".join(dict.fromkeys(str(types[i]) for i in layers)))
    kept += [f"{key} {fields[key]}" for key in (*_TOP_K, *_DECIDING) if fields.get(key) is not None]
    return tuple(kept)
