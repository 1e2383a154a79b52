"""CFG05 of a nested config, and of latent attention: where its evidence leads, and where it must be silent."""

from __future__ import annotations

import pytest

from tests.benches import LLAMA
from tests.test_probe_config import check

__all__ = ["check"]
"""A fixture."""


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"hidden_size": 66, "head_dim": None}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 15}, "head_dim"),
        ({"num_local_experts": 4, "num_experts_per_tok": 5}, "num_experts_per_tok"),
        ({"layer_types": ["full_attention"] * 2}, "layer_types"),
    ],
)
def test_cfg05_leads_to_the_key_in_a_nested_config(check, changed, key):
    output = check({"model_type": "gemma3", "text_config": LLAMA | changed})
    (finding,) = output.of("CFG05")
    assert finding.evidence[0].source.endswith(f"#text_config.{key}")


def test_cfg05_lets_latent_attention_have_heads_that_divide_nothing(check):
    """Its heads are made from a compressed state, not cut from the hidden size."""
    latent = {"hidden_size": 66, "head_dim": None, "kv_lora_rank": 16}
    assert check(**latent).severity("CFG05") == "ok"
    assert check({"model_type": "gemma3", "text_config": LLAMA | latent}).severity("CFG05") == "ok"
