"""Whether a config.json names a decoder with a language-model head, judged by its flags and class names. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wirecheck.geometry import Geometry

_LM_HEAD = re.compile(r"(ForCausalLM|LMHeadModel|ModelWithLMHead|WithLMHeadModel|GenerationDecoder)$")
_WRAPPER = re.compile(r"(ForConditionalGeneration|ForImageTextToText|ForVision2Seq)$")
_BARE = re.compile(r"Model$")

TWO_WAY = frozenset(
    (
        *("bert", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert", "roberta"),
        *("roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    )
)
"""Encoder families whose causal class attends both ways unless `is_decoder` is set."""


@dataclass(frozen=True, slots=True)
class Head:
    """What kind of model the config describes."""

    kind: Literal["causal", "encoder-decoder", "encoder", "other-head", "bare", "wrapper", "unknown"]
    because: str
    """A sentence fragment with the value it rests on."""
    key: str
    """The key in config.json it rests on."""


def read_head(config: Mapping[str, Any], geometry: Geometry, causal_types: frozenset[str]) -> Head:
    """The kind of model; `unknown` where the config names no class and its type is not known to be causal."""
    model_type, names = geometry.model_type, geometry.architectures
    if config.get("is_encoder_decoder") is True:
        return Head("encoder-decoder", "is_encoder_decoder is true", "is_encoder_decoder")
    if model_type in TWO_WAY and config.get("is_decoder") is not True:
        return Head("encoder", f"{model_type} attends both ways unless is_decoder is true", "model_type")
    if names:
        return _by_names(names, geometry, is_causal_type=model_type in causal_types)
    if model_type in causal_types:
        return Head("causal", f"model type {model_type} has a causal class", "model_type")
    return Head("unknown", f"no class is named, and model type {model_type} has no causal one", "architectures")


def _by_names(names: tuple[str, ...], geometry: Geometry, *, is_causal_type: bool) -> Head:
    because = f"it names {', '.join(names)}"
    if any(_LM_HEAD.search(name) for name in names):
        return Head("causal", because, "architectures")
    if any(_WRAPPER.search(name) for name in names):
        if is_causal_type:
            return Head("causal", f"{because}, and {geometry.model_type} has a causal class", "architectures")
        if geometry.nested:
            return Head("wrapper", f"{names[0]} wraps a language model in {geometry.nested}", "architectures")
    if any(_BARE.search(name) and not name.endswith("RewardModel") for name in names):
        return Head("bare", f"{names[0]} has no language-model head", "architectures")
    return Head("other-head", because, "architectures")
