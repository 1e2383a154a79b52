"""From a raw config.json to the sizes of the language model in it, without loading transformers.

Only what is declared is reported: what a class would fill in by default stays None. Every field remembers its key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NESTED_KEYS = ("text_config", "llm_config", "language_config", "thinker_config.text_config")
"""Where multimodal wrappers keep the config of their language model."""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "n_embed", "model_dim", "dim"),
    "num_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_kv_heads": (
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "n_kv_heads",
        "num_query_groups",
        "multi_query_group_num",
        "attn_config.kv_n_heads",
    ),
    "head_dim": ("head_dim", "attention_head_dim", "kv_channels"),
    "intermediate_size": (
        "intermediate_size",
        "n_inner",
        "ffn_dim",
        "ffn_hidden_size",
        "d_ff",
        "ffn_config.ffn_hidden_size",
    ),
    "vocab_size": ("vocab_size", "padded_vocab_size", "n_vocab"),
    "max_positions": ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length", "max_seq_length"),
    "sliding_window": ("sliding_window", "attention_window_size"),
    "num_experts": (
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "moe_num_experts",
        "ffn_config.moe_num_experts",
    ),
    "experts_per_token": (
        "num_experts_per_tok",
        "experts_per_token",
        "top_k_experts",
        "moe_top_k",
        "moe_topk",
        "ffn_config.moe_top_k",
    ),
    "expert_size": ("moe_intermediate_size", "expert_dim"),
}
"""Field -> the keys that publishers use for it, the commonest first."""

LARGEST: Mapping[str, int] = {
    "hidden_size": 2**20,
    "num_layers": 10_000,
    "num_heads": 2**16,
    "num_kv_heads": 2**16,
    "head_dim": 2**16,
    "intermediate_size": 2**24,
    "vocab_size": 2**26,
    "max_positions": 2**40,
    "sliding_window": 2**40,
    "num_experts": 2**16,
    "experts_per_token": 2**16,
    "expert_size": 2**24,
}
"""The largest value that is still taken for a size; about a hundred times what any published model has."""

MAY_BE_LISTS = frozenset({"intermediate_size", "num_heads", "num_kv_heads", "head_dim"})
"""Fields that some classes declare per layer; the largest is kept."""

LONGEST_NAME = 100
"""Characters a model type, a class or a dtype may have."""

MAY_BE_ZERO = ("num_experts", "experts_per_token", "sliding_window")
"""Fields where zero says that there are none."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A declared value that cannot be a size, a flag or a name."""

    field: str
    key: str
    value: str
    """The value as JSON, cut short."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The sizes that one config.json declares; None where it declares nothing usable."""

    model_type: str | None
    architectures: tuple[str, ...]
    hidden_size: int | None
    num_layers: int | None
    num_heads: int | None
    num_kv_heads: int | None
    head_dim: int | None
    intermediate_size: int | None
    vocab_size: int | None
    max_positions: int | None
    sliding_window: int | None
    """Tokens each position looks back on; None also where the config switches the window off."""
    num_experts: int | None
    experts_per_token: int | None
    expert_size: int | None
    """Intermediate size of one expert, where it differs from that of the dense layers."""
    tied: bool | None
    dtype: str | None
    nested: str | None
    """Path of the nested text config the sizes were read from; None for a flat config."""
    keys: tuple[tuple[str, str], ...]
    """(field, dotted key it was read from), sorted."""
    derived: frozenset[str]
    """Fields computed from others here: most classes compute them so, some do not."""
    faults: tuple[Fault, ...]

    def key(self, field: str) -> str | None:
        """The dotted key in config.json that `field` came from; None where none did."""
        return dict(self.keys).get(field)


def read_geometry(config: Mapping[str, Any]) -> Geometry:
    """The geometry of a raw config.json. Never raises on hostile values: they end up in `faults`, as None."""
    reader = _Reader(config)
    nested = reader.nested
    sizes = {field: reader.size(field) for field in ALIASES}
    for field in MAY_BE_ZERO:
        sizes[field] = sizes[field] or None
    if reader.value("multi_query")[0] is True and reader.value("new_decoder_architecture")[0] is not True:
        sizes["num_kv_heads"] = reader.keep("num_kv_heads", "multi_query", 1)
    if reader.value("use_sliding_window")[0] is False:
        sizes["sliding_window"] = None
    derived = frozenset[str]()
    latent_attention = reader.value("kv_lora_rank")[0] is not None
    hidden, heads = sizes["hidden_size"], sizes["num_heads"]
    if sizes["head_dim"] is None and hidden and heads and hidden % heads == 0 and not latent_attention:
        sizes["head_dim"], derived = hidden // heads, frozenset({"head_dim"})
    return Geometry(
        model_type=reader.text("model_type", from_top=True),
        architectures=reader.architectures(),
        tied=reader.flag("tied", "tie_word_embeddings"),
        dtype=reader.dtype(),
        nested=nested,
        derived=derived,
        faults=tuple(reader.faults),
        keys=tuple(sorted(reader.keys.items())),
        **sizes,
    )


def lookup(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where any part of it is absent."""
    value: Any = config
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def shown(value: Any, limit: int = 60) -> str:
    """A value as JSON on one line, cut to `limit` characters."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def find_nested(config: Mapping[str, Any]) -> str | None:
    """The path of the nested text config that holds the sizes, or None when they are at the top level."""
    declared_here = any(lookup(config, key) is not None for key in ALIASES["hidden_size"])
    for path in NESTED_KEYS:
        inner = lookup(config, path)
        if not isinstance(inner, Mapping) or not inner:
            continue
        if not declared_here or any(lookup(inner, key) is not None for key in ALIASES["hidden_size"]):
            return path
    return None


class _Reader:
    """Reads one config with the nested part first, and writes down keys and faults on the way."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.nested = find_nested(config)
        self.keys: dict[str, str] = {}
        self.faults: list[Fault] = []

    def value(self, *keys: str) -> tuple[Any, str]:
        """(first declared value among the keys, its path), the nested part first; (None, "") where none is declared."""
        for prefix in (f"{self.nested}.", "") if self.nested else ("",):
            for key in keys:
                found = lookup(self.config, prefix + key)
                if found is not None:
                    return found, prefix + key
        return None, ""

    def keep(self, field: str, key: str, value: int) -> int:
        self.keys[field] = self.value(key)[1]
        return value

    def fault(self, field: str, key: str, value: Any, why: str) -> None:
        self.faults.append(Fault(field=field, key=key, value=shown(value), why=why))

    def size(self, field: str) -> int | None:
        value, path = self.value(*ALIASES[field])
        if not path:
            return None
        several = value if isinstance(value, list) and value and field in MAY_BE_LISTS else [value]
        least = 0 if field in MAY_BE_ZERO or len(several) > 1 else 1
        for one in several:
            why = _why_not_a_size(one, least, LARGEST[field])
            if why:
                self.fault(field, path, value, why)
                return None
        self.keys[field] = path
        return int(max(several))

    def flag(self, field: str, key: str) -> bool | None:
        value, path = self.value(key)
        if not path:
            return None
        if not isinstance(value, bool):
            self.fault(field, path, value, "is not true or false")
            return None
        self.keys[field] = path
        return value

    def text(self, key: str, *, from_top: bool = False) -> str | None:
        value, path = (self.config.get(key), key) if from_top else self.value(key)
        if value is None:
            return None
        if not _is_name(value):
            self.fault(key, path, value, "is not a name")
            return None
        self.keys[key] = path
        return str(value)

    def dtype(self) -> str | None:
        name = self.text("dtype") or self.text("torch_dtype")
        if name is None:
            return None
        self.keys["dtype"] = self.keys.pop("torch_dtype", self.keys.get("dtype", "dtype"))
        return name.removeprefix("torch.")

    def architectures(self) -> tuple[str, ...]:
        value = self.config.get("architectures")
        if value is None:
            return ()
        if not isinstance(value, list) or not all(_is_name(name) for name in value):
            self.fault("architectures", "architectures", value, "is not a list of names")
            return ()
        self.keys["architectures"] = "architectures"
        return tuple(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_NAME


def _why_not_a_size(value: Any, least: int, largest: int) -> str | None:
    if isinstance(value, bool):
        return "is true or false where a whole number belongs"
    if not isinstance(value, int):
        return "is not a whole number"
    if value < least:
        return f"is below {least}"
    if value > largest:
        return f"is past {largest:,}, more than any model has"
    return None
