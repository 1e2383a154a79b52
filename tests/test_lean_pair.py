"""The benchmark of the large pair: the snapshots it writes are sound, and it refuses what cannot be done."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.benches import LLAMA, config_folder
from tests.factories import needs_assets
from wirecheck.snapshot import parse_ref, take
from wirecheck.zero_fill import zero_filled

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import lean_pair
    import measure_seeds
finally:
    sys.path.remove(BENCHMARKS)

Usage = namedtuple("Usage", "total used free")


def test_a_snapshot_is_whole_sharded_and_of_the_scale_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_pair, "SHARD_BYTES", 100_000)
    monkeypatch.setattr(lean_pair, "BLOCK", 1000)
    shapes = lean_pair.tensor_shapes(config_folder(tmp_path, LLAMA))
    written = lean_pair.write_weights(tmp_path, shapes, seed=0)
    snapshot = take(parse_ref(str(tmp_path)))
    assert snapshot.weights_on_disk
    assert len(snapshot.weights) > 1
    assert written == sum(tensor.num_bytes for tensor in snapshot.tensors.values())
    assert zero_filled(snapshot) == ()
    tensors = {name: t for file in snapshot.weights for name, t in load_file(file.path).items()}
    assert tensors.keys() == shapes.keys()
    table = tensors["model.embed_tokens.weight"].float()
    assert float(table.std()) == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(table[:8], table[8:16])
    assert torch.equal(tensors["model.norm.weight"], torch.ones(64, dtype=torch.bfloat16))


@needs_assets
def test_too_small_a_disk_is_told_before_anything_large_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 10 * 10**9))
    folders = [tmp_path / name for name in lean_pair.SIZES]
    assert lean_pair.prepare(folders, None) == 1
    assert "has 10.0 GB free and 33.3 GB are needed: --folder elsewhere" in capsys.readouterr().out
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize("name", lean_pair.SIZES)
def test_the_made_configs_have_the_sizes_of_the_recorded_models(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(lean_pair.SIZES[name]))
    total = sum(2 * lean_pair._product(shape) for shape in lean_pair.tensor_shapes(tmp_path).values())
    assert total == {"m": 16_060_522_496, "Q": 15_231_233_024}[name[0]]


def test_nothing_is_measured_without_a_cuda_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["measure_seeds.py", "--out", str(tmp_path / "measured.json")])
    with pytest.raises(SystemExit) as ended:
        measure_seeds.main()
    assert ended.value.code == 2
    assert "no CUDA device on this machine" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
