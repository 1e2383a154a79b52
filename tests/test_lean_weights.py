"""Real weights are mapped from their files, cost no memory, equal a plain load, and are never written."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.benches import model_bench
from tests.shards import write_gguf
from wirecheck import devices, zoo, zoo_weights
from wirecheck.errors import CannotRun
from wirecheck.probes.embeds import EMBEDS_WEIGHTS
from wirecheck.schema import Policy
from wirecheck.snapshot import Snapshot, parse_ref, take

linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="/proc tells anonymous memory from pages of files"
)

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 264,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2, tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4)),
}


def saved(folder: Path, kind: str = "llama", dtype: torch.dtype = torch.bfloat16) -> Path:
    """A small random model as transformers saves it, in two shards or more."""
    torch.manual_seed(0)
    MODELS[kind]().to(dtype).save_pretrained(folder, max_shard_size="60KB")
    return folder


def loaded(folder: Path, dtype: str = "bfloat16") -> Any:
    return zoo_weights.load_weights(take(parse_ref(str(folder))), dtype=dtype, trust_remote_code=False)


def footprint(snapshot: Snapshot, dtype: torch.dtype) -> zoo_weights.Footprint:
    return zoo_weights.footprint(snapshot, zoo.load_config(snapshot, trust_remote_code=False), dtype)


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}


def is_mapped(tensor: torch.Tensor) -> bool:
    return any(begin <= tensor.data_ptr() < end for begin, end in zoo_weights._mappings())


# --- mapped, private, equal --------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("kind", ["llama", "qwen2, tied"])
def test_every_tensor_of_a_dense_model_lies_in_its_file(tmp_path: Path, kind: str) -> None:
    model = loaded(saved(tmp_path, kind))
    assert [name for name, tensor in model.named_parameters() if not is_mapped(tensor)] == []
    assert [name for name, p in model.named_parameters() if p.requires_grad] == []
    assert not is_mapped(torch.ones(4))


@linux
def test_what_is_cast_lies_in_memory(tmp_path: Path) -> None:
    assert not any(is_mapped(tensor) for tensor in loaded(saved(tmp_path), "float32").parameters())


def test_writing_to_a_mapped_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    before = digests(saved(tmp_path))
    model = loaded(tmp_path)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    assert not any(bool(tensor.any()) for tensor in model.parameters())
    assert digests(tmp_path) == before
    again = loaded(tmp_path)
    assert all(bool(tensor.any()) for tensor in again.parameters())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_mapped_weights_equal_copied_ones_to_the_last_bit(tmp_path: Path, kind: str, dtype: str) -> None:
    lean = loaded(saved(tmp_path, kind), dtype)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, dtype), disable_mmap=True).eval()
    plain.requires_grad_(False)
    assert not is_mapped(next(plain.parameters()))
    assert lean.state_dict().keys() == plain.state_dict().keys()
    results = []
    for model in (lean, plain):
        ids_BT = torch.arange(26).view(2, 13)
        embeds_BTD = model.get_input_embeddings()(ids_BT).detach().requires_grad_()
        out = model(inputs_embeds=embeds_BTD, labels=ids_BT, use_cache=False)
        out.loss.backward()
        results.append((out.logits.detach(), embeds_BTD.grad))
    assert all(torch.equal(left, right) for left, right in zip(*results, strict=True))
    assert results[0][1].any()


# --- what is counted ---------------------------------------------------------------------------------------------


def test_only_what_is_copied_is_counted(tmp_path: Path) -> None:
    snapshot = take(parse_ref(str(saved(tmp_path))))
    on_file = sum(tensor.num_bytes for tensor in snapshot.tensors.values())
    same, cast = footprint(snapshot, torch.bfloat16), footprint(snapshot, torch.float32)
    assert same.mapped_bytes == on_file
    assert same.loading_bytes < 1000  # the rotary frequencies
    assert cast.mapped_bytes == 0
    assert 2 * on_file <= cast.copied_bytes < 2 * on_file + 1000
    assert cast.loading_bytes > cast.copied_bytes


def test_experts_on_file_one_by_one_are_joined_and_counted(tmp_path: Path) -> None:
    snapshot = take(parse_ref(str(saved(tmp_path, "mixtral"))))
    experts = sum(t.num_bytes for name, t in snapshot.tensors.items() if ".experts." in name)
    others = sum(t.num_bytes for name, t in snapshot.tensors.items() if ".experts." not in name)
    assert ".experts.3." in " ".join(snapshot.tensors)
    same, cast = footprint(snapshot, torch.bfloat16), footprint(snapshot, torch.float32)
    assert same.mapped_bytes == others
    assert experts <= same.copied_bytes < experts + 1000
    assert cast.loading_bytes > 2 * cast.copied_bytes  # cast one by one, then joined


def test_one_tensor_of_another_dtype_is_counted_alone(tmp_path: Path) -> None:
    (file,) = saved(tmp_path).glob("model-00001-*.safetensors")
    tensors = load_file(file)
    name = next(iter(tensors))
    tensors[name] = tensors[name].float()
    save_file(tensors, file, metadata={"format": "pt"})
    same = footprint(take(parse_ref(str(tmp_path))), torch.bfloat16)
    assert tensors[name].numel() * 2 <= same.copied_bytes < tensors[name].numel() * 2 + 1000


def test_a_reader_that_copies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = take(parse_ref(str(saved(tmp_path))))
    assert zoo_weights.maps_files(snapshot)
    monkeypatch.setattr(zoo_weights, "_mappings", lambda: [(0, 1)])
    on_file = sum(tensor.num_bytes for tensor in snapshot.tensors.values())
    assert footprint(snapshot, torch.bfloat16) == zoo_weights.Footprint(0, on_file, int(on_file * 1.1))


def test_a_gguf_is_unpacked_beside_the_model(tmp_path: Path) -> None:
    snapshot = take(parse_ref(str(write_gguf(tmp_path / "tiny.gguf"))))
    elements = sum(tensor.num_elements for tensor in snapshot.tensors.values())
    assert footprint(snapshot, torch.bfloat16).loading_bytes == int(2 * elements * 2.2)


def test_names_the_loader_does_not_take_are_counted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = take(parse_ref(str(saved(tmp_path))))
    monkeypatch.setattr(zoo, "load_ghosts", lambda *_: {}["no such name"])
    assert footprint(snapshot, torch.bfloat16).mapped_bytes == 0


# --- memory and devices ------------------------------------------------------------------------------------------


def test_weights_larger_than_memory_load_where_they_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda _device="cpu": 4000)
    assert loaded(saved(tmp_path)).dtype is torch.bfloat16
    with pytest.raises(
        CannotRun, match=r"the real weights need \d+ bytes of memory in float32, and 4000 bytes are free"
    ):
        loaded(tmp_path, "float32")


def test_a_device_must_hold_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda device="cpu": 2**30 if device == "cpu" else 4000)
    snapshot = take(parse_ref(str(saved(tmp_path))))
    with pytest.raises(CannotRun, match=r"need \d+ bytes of memory on cuda in bfloat16, and 4000 bytes are free"):
        zoo_weights.load_weights(snapshot, dtype="bfloat16", trust_remote_code=False, device="cuda")


def test_weights_are_moved_to_the_device_asked_for(tmp_path: Path) -> None:
    model = zoo_weights._placed(loaded(saved(tmp_path)), "meta")  # the one other device every machine has
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}


def test_a_device_that_is_full_after_all_is_no_fault_of_the_weights(tmp_path: Path) -> None:
    model = loaded(saved(tmp_path))
    model.to = lambda _device: (_ for _ in ()).throw(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(CannotRun, match="2 GiB more were asked for"):
        zoo_weights._placed(model, "cuda")


def test_the_executed_probe_is_skipped_where_the_device_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "available", lambda: ("cpu",))
    bench = model_bench(saved(tmp_path), policy=Policy(device="cuda"))
    with pytest.raises(CannotRun, match="`--device cpu` runs the real weights here"):
        list(EMBEDS_WEIGHTS.run(bench))


# --- resident memory ---------------------------------------------------------------------------------------------

MEASURE = """
import re, sys, torch
from pathlib import Path
from wirecheck import zoo, zoo_weights
from wirecheck.snapshot import parse_ref, take

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def step(folder, dtype):
    model = zoo_weights.load_weights(take(parse_ref(folder)), dtype=dtype, trust_remote_code=False)
    embeds = model.get_input_embeddings()(torch.arange(24).view(2, 12)).detach().requires_grad_()
    with zoo.quiet():
        model(inputs_embeds=embeds, labels=torch.arange(24).view(2, 12), use_cache=False).loss.backward()
    return model

small, large, dtype = sys.argv[1:]
step(small, dtype)  # what is imported and set up once
before = anonymous()
model = step(large, dtype)
print(anonymous() - before, sum(p.numel() * p.itemsize for p in model.parameters()))
"""


@linux
def test_a_step_on_mapped_weights_takes_a_fraction_of_their_size(tmp_path: Path) -> None:
    sizes = {
        **SIZES,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 24,
        "tie_word_embeddings": True,
    }
    small, large = saved(tmp_path / "small"), tmp_path / "large"
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in LlamaForCausalLM(LlamaConfig(**sizes)).named_parameters()}
    large.mkdir()
    save_file(
        {name: torch.full(shape, 0.01, dtype=torch.bfloat16) for name, shape in shapes.items()},
        large / "model.safetensors",
        metadata={"format": "pt"},
    )
    (large / "config.json").write_text(
        json.dumps({**LlamaConfig(**sizes).to_dict(), "architectures": ["LlamaForCausalLM"]})
    )
    measured = {}
    for dtype in ("bfloat16", "float32"):
        words = [sys.executable, "-c", MEASURE, str(small), str(large), dtype]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        grown, whole = (int(n) for n in re.findall(r"-?\d+", done.stdout))
        measured[dtype] = grown / whole
    assert whole > 350_000_000
    assert measured["bfloat16"] < 0.2
    assert measured["float32"] > 0.9
