"""The names of tensors and dtypes that the probe of weights knows, each by what would be missed without it."""

from __future__ import annotations

import json

import pytest

from tests.shards import CONFIG, Shapes, write_model
from tests.test_probe_weights import _facts, _findings, _fires, _holds
from wirecheck.schema import Severity

ROWS = (16, 4)
TABLES = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "token_embd", "embed_in", "backbone.embeddings")


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_embeddings(tmp_path, name):
    facts = _facts(write_model(tmp_path, {f"{name}.weight": ("BF16", ROWS), "model.x.weight": ("BF16", (5, 4))}))
    assert facts["embedding_rows"] == ROWS[0]


@pytest.mark.parametrize("name", ["lm_head.weight", "embed_out.weight", "output.weight"])
def test_tables_of_logits(tmp_path, name):
    """Its own rows: not the width of the table, nor the rows of the embedding."""
    shapes: Shapes = {"model.embed_tokens.weight": ("BF16", ROWS), name: ("BF16", (12, 4))}
    facts = _facts(write_model(tmp_path, shapes))
    assert (facts["embedding_rows"], facts["head_rows"]) == (16, 12)


@pytest.mark.parametrize("tower", ["vision_tower", "visual", "audio_tower", "image_encoder"])
def test_tables_of_other_towers_are_not_the_models(tmp_path, tower):
    assert "embedding_rows" not in _facts(write_model(tmp_path, {f"{tower}.embed_tokens.weight": ("BF16", ROWS)}))


@pytest.mark.parametrize("key", ["text_config", "llm_config", "language_config"])
def test_the_text_config_by_any_of_its_names(tmp_path, key):
    folder = write_model(tmp_path)
    (folder / "config.json").write_text(json.dumps({key: {**CONFIG, "vocab_size": 15}}))
    found = _findings(folder, "WGT08")
    assert [f.severity for f in found] == [Severity.BLOCK] * 2
    assert all("vocab_size is 15" in f.claim for f in found)


@pytest.mark.parametrize("word", ["norm", "scale", "inv_freq", "bias", "position_ids", "rotary"])
def test_what_is_no_matrix_by_its_name(tmp_path, word):
    """Large, of two dimensions and another dtype than the matrices: a mix, if it counted."""
    shapes: Shapes = {
        "model.embed_tokens.weight": ("BF16", ROWS),
        f"model.layers.0.{word}.weight": ("F32", (64, 4)),
    }
    _holds(write_model(tmp_path, shapes), "WGT12")


@pytest.mark.parametrize("dtype", ["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"])
def test_codes_in_whole_numbers(tmp_path, dtype):
    shapes: Shapes = {"model.embed_tokens.weight": ("BF16", ROWS), "model.layers.0.q.weight": (dtype, (64, 4))}
    _fires(write_model(tmp_path, shapes), "WGT12", Severity.BLOCK, f"model.layers.0.q.weight as {dtype}, 1 in all")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F6_E2M3", "F6_E3M2", "F4"])
def test_codes_in_narrow_floats(tmp_path, dtype):
    shapes: Shapes = {
        "model.embed_tokens.weight": ("BF16", ROWS),
        "model.layers.0.q.weight": (dtype, (64, 4)),
        "model.layers.0.q.weight_scale": ("F32", (1,)),
    }
    finding = _fires(write_model(tmp_path, shapes), "WGT12", Severity.BLOCK, f"as {dtype}, 1 in all")
    assert finding.remedy.startswith("Restore `quantization_config`")


def test_a_share_of_a_hundredth_is_a_mix(tmp_path):
    """Of 10,000 bytes: 100 are a hundredth and count, 99 are less and do not."""
    for width, fires in ((100, True), (96, False)):
        shapes: Shapes = {"a.weight": ("BF16", (1, (10_000 - width) // 2)), "b.weight": ("F32", (1, width // 4))}
        [finding] = _findings(write_model(tmp_path / str(width), shapes), "WGT12")
        assert (finding.severity is not Severity.OK) is fires


def test_three_are_named_and_the_rest_counted(tmp_path):
    shapes: Shapes = {f"model.{n}.weight": ("I8", (2, 2)) for n in "abcd"}
    [finding] = _findings(write_model(tmp_path, shapes), "WGT12")
    assert len(finding.evidence) == 3
    assert [one.expected for one in finding.evidence] == ["a float"] * 3
    (tmp_path / "model.safetensors").unlink()
    for n in range(5):
        (tmp_path / f"pytorch_model-{n}.bin").write_bytes(b"\x80\x04.")
    _fires(
        tmp_path, "WGT10", Severity.WARN, "(pytorch_model-0.bin, pytorch_model-1.bin, pytorch_model-2.bin and 2 more)"
    )
