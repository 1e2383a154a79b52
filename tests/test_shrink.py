"""The shrinker's rules: what decides behaviour is in the twin's config, what only costs is small."""

from __future__ import annotations

from typing import Any

import pytest

from wirecheck.shrink import HASH_ROWS, HEAD_DIM, WIDTH, shrink, with_rows
from wirecheck.shrink_layers import layers_to_keep, num_layers

PLAIN: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12, "num_attention_heads": 16,
    "num_key_value_heads": 4, "vocab_size": 5000,
}  # fmt: skip


def small(**fields: Any) -> dict[str, Any]:
    return shrink({**PLAIN, **fields}).fields


# --- the vocabulary ----------------------------------------------------------------------------------------------


def test_the_vocabulary_stays_unless_it_may_shrink() -> None:
    fields = {**PLAIN, "pad_token_id": 4999, "eos_token_id": [7, 4998]}
    whole, cut = shrink(fields), shrink(fields, max_rows=100)
    assert (whole.fields["vocab_size"], cut.fields["vocab_size"]) == (5000, 100)
    assert (whole.fields["pad_token_id"], cut.fields["pad_token_id"]) == (4999, 99)
    assert (whole.fields["eos_token_id"], cut.fields["eos_token_id"]) == ([7, 4998], [7, 99])
    assert "vocab_size 5000" in whole.kept
    assert "vocab_size 5000 -> 100" in cut.changed


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("image_token_id", 900, 99),
        ("image_token_index", 900, 99),
        ("begin_suppress_tokens", [3, 900], [3, 99]),
        ("eos_token_id", None, None),
        ("patch_size", 900, 900),
    ],
)
def test_a_token_id_has_a_row_and_nothing_else_is_touched(key: str, value: Any, expected: Any) -> None:
    assert with_rows(key, value, 100) == expected


def test_tables_read_by_a_hash_shrink_and_tables_of_tokens_do_not() -> None:
    fields = small(encoder_hash_byte_group_vocab=500_002, shape_vocab_size=24_858)
    assert (fields["encoder_hash_byte_group_vocab"], fields["shape_vocab_size"]) == (HASH_ROWS, 24_858)


# --- layers ------------------------------------------------------------------------------------------------------


def test_lists_of_layer_numbers_are_no_kinds_of_layers() -> None:
    """Twelve numbers for twelve layers are not twelve kinds."""
    assert layers_to_keep({**PLAIN, "full_attn_idxs": list(range(12))}) == [0, 1]


def test_a_layer_that_a_list_of_numbers_names_is_kept_and_named_anew() -> None:
    fields = small(attn_layer_indices=[5, 9])
    assert fields["num_hidden_layers"] == 2
    assert fields["attn_layer_indices"] == [1]


def test_layers_are_counted_by_their_kinds_where_no_field_counts_them() -> None:
    fields = {"hidden_size": 256, "layers_block_type": ["mamba"] * 5 + ["moe", "attention"]}
    assert num_layers(fields) == 7
    assert shrink(fields).fields["layers_block_type"] == ["mamba", "moe", "attention"]


def test_a_kind_that_its_type_needs_twice_is_kept_twice() -> None:
    kinds = ["linear", "hybrid"] * 6
    assert small(layers_block_type=kinds, model_type="zamba")["layers_block_type"] == ["linear", "hybrid", "hybrid"]
    assert small(layers_block_type=kinds, model_type="other")["layers_block_type"] == ["linear", "hybrid"]


def test_passages_through_a_stack_are_counted_as_its_class_counts_them() -> None:
    fields = small(num_hidden_layers=128, num_layers_per_stack=16)
    assert (fields["num_layers_per_stack"], fields["num_hidden_layers"]) == (2, 16)


# --- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head_dim", "expected"),
    [(192, 2 * HEAD_DIM), (64, HEAD_DIM), (128, HEAD_DIM)],
    ids=["both parts of a query", "its rotated part", "neither"],
)
def test_head_dim_of_latent_attention_follows_what_it_measures(head_dim: int, expected: int) -> None:
    parts = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}
    fields = small(**parts, head_dim=head_dim)
    assert fields["head_dim"] == expected
    assert (fields["qk_nope_head_dim"], fields["qk_rope_head_dim"], fields["kv_lora_rank"]) == (16, 16, 32)


def test_head_dim_of_latent_attention_may_be_that_of_single_layers() -> None:
    parts = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "per_layer_config": {"02": {"qk_nope_head_dim": 192}}}
    assert small(**parts, head_dim=256)["head_dim"] == 2 * HEAD_DIM


def test_models_nested_in_one_config_keep_their_ratios() -> None:
    def part(width: int, layers: int) -> dict[str, Any]:
        return {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 16}

    fields = {"encoder_config": {**part(1024, 1), "hidden_size_global": 2048}, "global_config": part(2048, 25)}
    done = shrink(fields).fields
    assert done["encoder_config"]["hidden_size"] == WIDTH
    assert done["encoder_config"]["hidden_size_global"] == done["global_config"]["hidden_size"] == 2 * WIDTH
    assert (done["encoder_config"]["num_hidden_layers"], done["global_config"]["num_hidden_layers"]) == (1, 2)


def test_settings_nested_in_a_config_are_scaled_as_its_own() -> None:
    assert small(ffn_config={"ffn_hidden_size": 4096})["ffn_config"] == {"ffn_hidden_size": 256}


def test_widths_that_make_up_the_hidden_size_still_do() -> None:
    assert sum(small(axial_pos_embds_dim=[256, 768])["axial_pos_embds_dim"]) == WIDTH


@pytest.mark.parametrize(("kind", "width"), [("xlstm", 128), ("llama", WIDTH)])
def test_a_type_may_need_a_wider_twin(kind: str, width: int) -> None:
    assert small(model_type=kind)["hidden_size"] == width


def test_what_was_kept_is_said() -> None:
    latent = {"kv_lora_rank": 512, "q_lora_rank": 1536, "hidden_size_per_layer_input": 256, "mamba_d_state": 128}
    kept = shrink({**PLAIN, **latent}).kept
    assert {"latent attention (queries and keys and values through a low rank)", "state-space layers"} <= set(kept)
    assert "per-layer embeddings" in kept
    assert not {"state-space layers", "per-layer embeddings"} & set(shrink(PLAIN).kept)
