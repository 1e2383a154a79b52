"""The default config of every causal model type, as the installed transformers has it, and what some of them lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wirecheck import zoo, zoo_twin
from wirecheck.errors import CannotRun
from wirecheck.limits import one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_INDEXER = {
    "indexer_n_heads": 8, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 2048,
    "indexer_compress_ratio": 4,
}  # fmt: skip

GIVEN: dict[str, dict[str, Any]] = {
    # None by default, and counted with at once
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "lfm2_moe": {"layer_types": ["conv", "conv", *["full_attention", "conv"] * 15]},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    # filled in by the class only where a file names it
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "dbrx": {"attn_config": {"kv_n_heads": 1, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    # by default another kind of model than any of its checkpoints: no layer of attention, or both ways of it
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "granitemoehybrid": {"layer_types": (["linear_attention"] * 7 + ["full_attention"]) * 4},
    "xlm": {"causal": True},
    # asked for by the class's own message
    "reformer": {"is_decoder": True},
    "xmod": {"default_language": "en_XX"},
}
"""Per type, what its default config lacks to be built and run: a value of the kind that its checkpoints set."""


@dataclass(frozen=True)
class Default:
    """A config to make a twin from, what was set in it beside the class's defaults, and why."""

    config: PretrainedConfig
    given: tuple[str, ...]
    refused: str | None
    """What the class raises on its defaults alone; None where it runs on them."""


class NoDefault(CannotRun):
    """The config class refuses its own defaults."""


def warm() -> None:
    """Import torch and what of transformers every model shares, so that forks have it at once."""
    zoo.transformers_library()
    import transformers.generation.utils
    import transformers.modeling_utils  # noqa: F401


def default_config(model_type: str) -> Default:
    """The type's default config, with what it lacks given. Raises NoDefault where there is none.

    A class that attends both ways unless `is_decoder` is set is set to be a decoder: that is how it is a causal LM.
    """
    given = dict(GIVEN.get(model_type, {}))
    refused = why_refused(model_type) if given else None
    config = _made(model_type, given)
    if getattr(config, "is_decoder", True) is False and not getattr(config, "is_encoder_decoder", False):
        given["is_decoder"] = True
        config = _made(model_type, given)
    return Default(config, tuple(f"{key} = {_words(value)}" for key, value in given.items()), refused)


def _words(value: Any) -> str:
    """A value as a reader takes it in: of a list of one item per layer, how many there are of each."""
    if isinstance(value, list) and len(value) > len(set(value)):
        return ", ".join(f"{value.count(item)} x {item}" for item in dict.fromkeys(value))
    return str(value)


def why_refused(model_type: str) -> str | None:
    """What the class raises on its defaults alone, built at full shape or run as a twin; None where it runs."""
    import torch

    try:
        config = _made(model_type, {})
        zoo.skeleton(config)
        twin = zoo_twin.twin(config, seed=0, max_rows=1024)
    except CannotRun as error:
        return error.reason
    try:
        with zoo.quiet(), torch.no_grad():
            twin.model(input_ids=torch.arange(8)[None] + 8, use_cache=False)
    except Exception as error:  # noqa: BLE001  # whatever the class raises is the answer
        return f"{type(error).__name__}: {one_line(error)}"
    return None


def _made(model_type: str, given: dict[str, Any]) -> PretrainedConfig:
    try:
        with zoo.quiet():
            config: PretrainedConfig = zoo.transformers_library().AutoConfig.for_model(model_type, **given)
    except Exception as error:
        raise NoDefault(f"{type(error).__name__}: {one_line(error)}") from error
    return config
