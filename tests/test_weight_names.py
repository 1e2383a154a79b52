"""The names of tensors and dtypes that the probe of weights knows, each by what would be missed without it."""

from __future__ import annotations

import json
from dataclasses import replace

import gguf
import numpy as np
import pytest

from tests.shards import CONFIG, Shapes, write_model
from tests.test_probe_weights import _facts, _findings, _fires, _holds
from wirecheck.codes import CODES
from wirecheck.schema import Severity
from wirecheck.snapshot import parse_ref, take
from wirecheck.weight_files import WeightFile

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
    """Of 10,000 bytes: 100 are a hundredth and count, 96 are less and do not; nor do 4 of 402."""
    for total, width, fires in ((10_000, 100, True), (10_000, 96, False), (402, 4, False)):
        shapes: Shapes = {"a.weight": ("BF16", (1, (total - width) // 2)), "b.weight": ("F32", (1, width // 4))}
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


def test_three_are_named_and_nothing_is_counted(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for n in range(3):
        (tmp_path / f"pytorch_model-{n}.bin").write_bytes(b"\x80\x04.")
    _fires(tmp_path, "WGT10", Severity.WARN, "(pytorch_model-0.bin, pytorch_model-1.bin, pytorch_model-2.bin): none")


def test_the_shallowest_table_is_the_models(tmp_path):
    """Whatever else bears its name further down, and whichever name comes first."""
    shapes: Shapes = {"draft.model.embed_tokens.weight": ("BF16", (9, 4)), "model.embed_tokens.weight": ("BF16", ROWS)}
    assert _facts(write_model(tmp_path, shapes))["embedding_rows"] == ROWS[0]


def test_a_head_is_judged_without_a_table_of_embeddings(tmp_path):
    _fires(
        write_model(tmp_path, {"lm_head.weight": ("BF16", (15, 4))}), "WGT08", Severity.BLOCK, "The head has 15 rows"
    )


def test_a_vector_is_no_matrix(tmp_path):
    """A state space model's decay: another dtype than the matrices, and none of the words that tell a norm."""
    shapes: Shapes = {"model.embed_tokens.weight": ("BF16", ROWS), "model.layers.0.A_log": ("F32", (64,))}
    _holds(write_model(tmp_path, shapes), "WGT12")


def test_a_gguf_says_itself_how_whole_numbers_are_read(tmp_path):
    """A table of ids among its matrices, as some mixtures of experts have."""
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.ones(ROWS, np.float32))
    writer.add_tensor("blk.0.ffn_gate_tid2eid.weight", np.ones(ROWS, np.int32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    _holds(tmp_path / "m.gguf", "WGT12")


def test_packed_weights_do_not_tell_how_many_parameters_there_are(tmp_path):
    config = {**CONFIG, "quantization_config": {"quant_method": "gptq"}}
    assert "num_parameters" not in _facts(write_model(tmp_path, config=config))


def test_weights_of_which_a_part_is_elsewhere_are_not_read_for_zeros(tmp_path):
    snapshot = take(parse_ref(str(write_model(tmp_path))))
    away = WeightFile("model-2.safetensors", None, 100, "safetensors")
    assert _findings(snapshot, "WGT14")
    assert _findings(replace(snapshot, weights=(*snapshot.weights, away)), "WGT14") == []


def test_the_remedy_of_no_weights_names_gguf_files_and_nothing_beside(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    [bare] = _findings(tmp_path, "WGT01")
    assert bare.remedy == CODES["WGT01"].remedy
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    [held] = _findings(tmp_path, "WGT01")
    assert held.remedy == "Give a GGUF file by its own path, on this disk: a.gguf, b.gguf."
