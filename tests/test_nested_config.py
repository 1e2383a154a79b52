"""CFG05 of a nested config and of latent attention, and CFG02 at the edges of versions."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tests.benches import LLAMA, config_folder, model_bench, run
from tests.test_probe_config import check
from wirecheck.probes.config import CONFIG

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


def test_cfg05_takes_heads_that_divide_for_sound_wherever_latent_attention_is_declared(check):
    """Above the nested part the declaration counts, too: no size of a head is computed then."""
    text = {key: value for key, value in LLAMA.items() if key != "head_dim"}
    assert check({"model_type": "gemma3", "kv_lora_rank": 16, "text_config": text}).severity("CFG05") == "ok"


def test_cfg05_names_the_size_of_a_head_that_was_computed(check):
    output = check(hidden_size=60, head_dim=None)
    assert "15 rotated dimensions per head" in output.claim("CFG05")
    (finding,) = output.of("CFG05")
    assert finding.evidence[0].source.endswith("#head_dim")


def test_cfg02_reads_a_part_of_a_version_of_seven_digits_and_no_more(check):
    assert "newer 9999999.0" in check(model_type="llama17", transformers_version="9999999.0").claim("CFG02")
    assert "written by" not in check(model_type="llama17", transformers_version="10000000.0").claim("CFG02")


def test_cfg02_of_the_version_that_is_installed_is_no_newer(check):
    written = version("transformers")
    assert f"{written}, which is no newer" in check(model_type="llama17", transformers_version=written).claim("CFG02")


def test_cfg03_of_a_type_that_is_not_native_is_a_note(tmp_path):
    """Whether its class is not named, wraps another model, or ends in a head that is not a language model's."""
    silent = config_folder(tmp_path / "silent", LLAMA, without=("architectures",), model_type="newest")
    wraps = {"model_type": "newest", "architectures": ["NewestForConditionalGeneration"], "text_config": LLAMA}
    other = LLAMA | {"model_type": "newest", "architectures": ["NewestForSequenceClassification"]}
    for folder in (silent, config_folder(tmp_path / "wraps", wraps), config_folder(tmp_path / "other", other)):
        output = run(CONFIG, model_bench(folder))
        assert output.severity("CFG03") == "note"
        assert "is not established" in output.claim("CFG03")


def test_the_first_token_is_the_text_parts_and_else_the_top_levels(check):
    """A part of any other name is not asked, though it be called None."""
    for config, bos, key in (
        ({"model_type": "gemma3", "bos_token_id": 2, "text_config": LLAMA}, 1, "text_config.bos_token_id"),
        (
            {"model_type": "gemma3", "bos_token_id": 2, "text_config": LLAMA | {"bos_token_id": None}},
            2,
            "bos_token_id",
        ),
        (LLAMA | {"None": {"bos_token_id": 7}}, 1, "bos_token_id"),
    ):
        fact = check(config).facts["config_bos_id"]
        assert (fact.value, fact.source.partition("#")[2]) == (bos, key)
