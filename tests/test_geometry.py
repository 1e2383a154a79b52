"""Sizes out of raw configs: aliases, nesting, hostile values, real files."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benches import LLAMA
from tests.factories import SHARED, needs_assets
from wirecheck.geometry import ALIASES, LARGEST, lookup, read_geometry, shown
from wirecheck.lm_head import read_head
from wirecheck.quantization import read_quantization
from wirecheck.rope import Positions, rope_words, rotary_size, scaled_positions

TRUTH = {
    "meta-llama__Llama-3.1-8B-Instruct": (4096, 32, 32, 8, 128, 128_256, False, 131_072),
    "meta-llama__Llama-3.2-1B-Instruct": (2048, 16, 32, 8, 64, 128_256, True, 131_072),
    "meta-llama__Llama-3.2-3B-Instruct": (3072, 28, 24, 8, 128, 128_256, True, 131_072),
    "Qwen__Qwen2.5-7B-Instruct": (3584, 28, 28, 4, 128, 152_064, False, 32_768),
    "Qwen__Qwen2.5-1.5B-Instruct": (1536, 28, 12, 2, 128, 151_936, True, 32_768),
    "mistralai__Mistral-7B-Instruct-v0.3": (4096, 32, 32, 8, 128, 32_768, False, 32_768),
}
"""hidden, layers, heads, KV heads, head_dim, vocabulary, tied, positions: FACTS section 3."""
RECORDED = sorted(path.name for path in (SHARED / "assets" / "snapshots").glob("*"))


def recorded(name: str) -> dict:
    return json.loads((SHARED / "assets" / "snapshots" / name / "config.json").read_text(encoding="utf-8"))


@needs_assets
@pytest.mark.parametrize("name", sorted(TRUTH))
def test_seed_models_have_the_known_sizes(name):
    g = read_geometry(recorded(name))
    sizes = (
        g.hidden_size,
        g.num_layers,
        g.num_heads,
        g.num_kv_heads,
        g.head_dim,
        g.vocab_size,
        g.tied,
        g.max_positions,
    )
    assert sizes == TRUTH[name]
    assert g.sliding_window is None
    assert g.dtype == "bfloat16"
    assert g.nested is None


@needs_assets
@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_config_is_read_without_a_fault(name):
    geometry = read_geometry(recorded(name))
    assert geometry.faults == ()
    assert None not in (geometry.hidden_size, geometry.num_layers, geometry.num_heads, geometry.vocab_size)


def test_aliases_are_read_and_their_keys_kept():
    g = read_geometry({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024})
    assert (g.hidden_size, g.num_layers, g.num_heads, g.max_positions) == (768, 12, 12, 1024)
    assert g.key("hidden_size") == "n_embd"
    assert g.num_kv_heads is None
    assert g.key("num_kv_heads") is None
    assert g.vocab_size is None


def test_head_width_is_derived_where_it_is_absent_and_marked():
    declared, derived = read_geometry(LLAMA), read_geometry(LLAMA | {"head_dim": None})
    assert declared.derived == frozenset()
    assert (derived.head_dim, derived.derived) == (16, {"head_dim"})


def test_head_width_is_not_guessed_where_heads_do_not_divide_or_latent_attention_is_used():
    assert read_geometry({"hidden_size": 65, "num_attention_heads": 4}).head_dim is None
    assert read_geometry({"hidden_size": 64, "num_attention_heads": 4, "kv_lora_rank": 8}).head_dim is None


def test_multi_query_has_one_key_value_head_unless_the_newer_decoder_is_used():
    falcon = {"hidden_size": 4544, "num_attention_heads": 71, "num_kv_heads": 71, "multi_query": True}
    assert read_geometry(falcon).num_kv_heads == 1
    assert read_geometry(falcon).key("num_kv_heads") == "multi_query"
    assert read_geometry(falcon | {"new_decoder_architecture": True, "num_kv_heads": 8}).num_kv_heads == 8


def test_nested_sizes_go_before_the_top_level_and_ties_fall_back_on_it():
    config = {"hidden_size": 1, "tie_word_embeddings": True, "text_config": {"hidden_size": 32, "num_hidden_layers": 2}}
    g = read_geometry(config)
    assert (g.nested, g.hidden_size, g.key("hidden_size")) == ("text_config", 32, "text_config.hidden_size")
    assert (g.tied, g.key("tied")) == (True, "tie_word_embeddings")


def test_an_empty_nested_config_is_no_nested_config():
    assert read_geometry(LLAMA | {"text_config": {}}).nested is None
    assert read_geometry(LLAMA | {"text_config": "none"}).nested is None


def test_per_layer_lists_give_their_largest():
    assert read_geometry({"intermediate_size": [8, 16, 12]}).intermediate_size == 16
    assert read_geometry({"intermediate_size": []}).faults[0].why == "is not a whole number"


def test_window_switched_off_is_no_window():
    assert read_geometry({"sliding_window": 4096}).sliding_window == 4096
    assert read_geometry({"sliding_window": 4096, "use_sliding_window": False}).sliding_window is None


def test_dtype_is_read_under_both_names():
    assert read_geometry({"torch_dtype": "torch.float16"}).dtype == "float16"
    assert read_geometry({"torch_dtype": "float16"}).key("dtype") == "torch_dtype"
    assert read_geometry({"dtype": "bfloat16", "torch_dtype": "float16"}).dtype == "bfloat16"


@pytest.mark.parametrize("value", [10**12, -1, 0, 64.0, "64", True, [64], {"a": 1}])
def test_what_cannot_be_a_size_is_a_fault_and_none(value):
    g = read_geometry(LLAMA | {"hidden_size": value})
    assert g.hidden_size is None
    assert [(fault.field, fault.key, fault.value) for fault in g.faults] == [
        ("hidden_size", "hidden_size", shown(value))
    ]


def test_names_and_flags_of_another_kind_are_faults():
    g = read_geometry(
        {"model_type": 7, "architectures": "LlamaForCausalLM", "tie_word_embeddings": "yes", "dtype": "a\nb"}
    )
    assert {fault.key for fault in g.faults} == {"model_type", "architectures", "tie_word_embeddings", "dtype"}
    assert (g.model_type, g.architectures, g.tied, g.dtype) == (None, (), None, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    *sorted({alias.split(".")[0] for aliases in ALIASES.values() for alias in aliases}),
    *("model_type", "architectures", "dtype", "torch_dtype", "text_config", "rope_scaling", "rope_parameters"),
    *("rotary_dim", "rotary_pct", "partial_rotary_factor", "quantization_config", "kv_lora_rank", "multi_query"),
    *("is_encoder_decoder", "is_decoder", "use_sliding_window", "rope_theta"),
]
configs = st.dictionaries(
    st.sampled_from(KEYS), json_values | st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4)
)


@settings(deadline=None)
@given(configs)
def test_no_config_makes_the_readers_raise(config):
    g = read_geometry(config)
    for field, largest in LARGEST.items():
        value = getattr(g, field)
        assert value is None or (type(value) is int and 0 < value <= largest)
    assert g.key("hidden_size") is None or lookup(config, g.key("hidden_size")) == g.hidden_size
    rope_words(config, g.nested)
    rotary_size(config, g)
    scaled_positions(config, g)
    read_quantization(config, g.nested)
    read_head(config, g, frozenset({"llama"}))


def test_rope_is_put_into_words():
    llama3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    words, key = rope_words({"rope_theta": 500000.0, "rope_scaling": llama3}, None)
    assert (words, key) == ("llama3, factor 8.0, original positions 8192, theta 500000", "rope_scaling")
    assert rope_words({"rope_theta": 10000}, None) == ("default, theta 10000", "rope_theta")
    assert rope_words({"n_positions": 1024}, None) is None
    both = {"full": {"rope_type": "default", "rope_theta": 1e6}, "local": {"rope_type": "default", "rope_theta": 1e4}}
    nested = {"text_config": {"rope_parameters": both}}
    words = "full: default, theta 1000000; local: default, theta 10000"
    assert rope_words(nested, "text_config") == (words, "text_config.rope_parameters")


@pytest.mark.parametrize(
    ("scaling", "positions"),
    [
        (None, (2048, 2048)),
        ({"type": "linear", "factor": 2.0}, (2048, 4096)),
        ({"type": "dynamic", "factor": 4}, (2048, 8192)),
        ({"type": "linear", "factor": 4, "original_max_position_embeddings": 1024}, (4096, 4096)),
        ({"type": "linear", "factor": 2, "original_max_position_embeddings": 1024}, (2048, 2048)),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, (4096, 4096)),
        ({"type": "yarn", "factor": 4.0}, (2048, 2048)),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 256}, (2048, 2048)),
        ({"rope_type": "longrope", "factor": 32.0, "original_max_position_embeddings": 1024}, (2048, 2048)),
        ({"type": "linear", "factor": 1e300}, (2048, 2048)),
        ({"type": "linear", "factor": True}, (2048, 2048)),
    ],
)
def test_positions_count_the_declared_scaling(scaling, positions):
    config = LLAMA | {"rope_scaling": scaling}
    assert scaled_positions(config, read_geometry(config)) == Positions(*positions)


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        ({}, 16),
        ({"partial_rotary_factor": 0.5}, 8),
        ({"rotary_dim": 6}, 6),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}}, 4),
        ({"rope_theta": None}, None),
    ],
)
def test_rotated_size(changed, size):
    config = LLAMA | changed
    assert rotary_size(config, read_geometry(config)) == size
