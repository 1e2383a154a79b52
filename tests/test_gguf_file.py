"""Snapshots from GGUF files: the config they stand for, their tensors, and every way they are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.shards import POINTER, write_gguf
from wirecheck.errors import ModelNotFound
from wirecheck.snapshot import Snapshot, parse_ref, take


def _take(path: Path) -> Snapshot:
    return take(parse_ref(str(path)))


def test_gguf_config_and_tensors(tmp_path):
    snapshot = _take(write_gguf(tmp_path / "m.gguf"))
    assert snapshot.ref.kind == "gguf"
    assert snapshot.folder == tmp_path
    assert snapshot.read_json("config.json") == {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "vocab_size": 6,
        "tie_word_embeddings": True,
    }
    assert snapshot.source("config.json", "hidden_size") == f"m.gguf@{snapshot.commit[:19]}#llama.embedding_length"
    embedding = snapshot.tensors["token_embd.weight"]
    assert (embedding.dtype, embedding.shape, embedding.num_bytes) == ("Q8_0", (6, 32), 6 * 34)
    assert snapshot.tensors["blk.0.attn_norm.weight"].num_bytes == 128
    raw = (tmp_path / "m.gguf").read_bytes()
    norm = snapshot.tensors["blk.0.attn_norm.weight"]
    assert raw[norm.begin : norm.end] == np.ones(32, np.float32).tobytes()
    assert snapshot.weights_on_disk


def test_gguf_with_a_head_is_not_tied(tmp_path):
    assert _take(write_gguf(tmp_path / "m.gguf", head=True)).read_json("config.json")["tie_word_embeddings"] is False


def test_gguf_long_lists_are_passed_over(tmp_path):
    short, long = write_gguf(tmp_path / "a.gguf"), write_gguf(tmp_path / "b.gguf", tokens=5000)
    assert _take(long).tensors.keys() == _take(short).tensors.keys()
    assert _take(long).read_json("config.json") == _take(short).read_json("config.json")


def test_a_folder_of_one_gguf_is_that_file(tmp_path):
    write_gguf(tmp_path / "m.gguf")
    assert _take(tmp_path).ref.path == tmp_path / "m.gguf"
    write_gguf(tmp_path / "n.gguf")
    with pytest.raises(ModelNotFound, match="2 GGUF"):
        _take(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "truncated"), (b"GGUF", "truncated"), (b"MZ" * 400, "malformed"), (POINTER, "lfs-pointer")],
)
def test_gguf_that_is_none(tmp_path, content, problem):
    (tmp_path / "m.gguf").write_bytes(content)
    snapshot = _take(tmp_path / "m.gguf")
    assert snapshot.weights[0].problem == problem
    assert not snapshot.has("config.json")


def test_gguf_cut_anywhere_is_never_a_crash(tmp_path):
    content = write_gguf(tmp_path / "m.gguf").read_bytes()
    problems = set()
    for length in range(1, len(content), 7):
        (tmp_path / "m.gguf").write_bytes(content[:length])
        problems.add(_take(tmp_path / "m.gguf").weights[0].problem)
    assert problems == {"truncated"}


def test_gguf_absurd_list_lengths_end_at_once(tmp_path):
    content = write_gguf(tmp_path / "m.gguf").read_bytes()
    at = content.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 8
    for length in (2**40, 2**64 - 1):
        (tmp_path / "m.gguf").write_bytes(content[:at] + length.to_bytes(8, "little") + content[at + 8 :])
        assert _take(tmp_path / "m.gguf").weights[0].problem in ("truncated", "malformed")


def test_a_part_of_a_split_gguf_says_so(tmp_path):
    [file] = _take(write_gguf(tmp_path / "m.gguf", split=3)).weights
    assert file.problem == "missing"
    assert "3 parts" in file.detail
