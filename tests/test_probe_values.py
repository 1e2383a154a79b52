"""The real-weights probe: every floating number on file is finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.factories import SHARED, needs_assets, seed_snapshot
from tests.shards import CONFIG, raw, write_model
from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench
from wirecheck.probes import values
from wirecheck.probes.values import VALUES
from wirecheck.schema import Finding, Level, Policy, Severity, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take


def bench(path: Path) -> ModelBench:
    asked: dict[str, Any] = {"wire": WireSpec(), "train": TrainSpec(), "policy": Policy(), "seed": 0}
    return ModelBench(**asked, side="a", snapshot=take(parse_ref(str(path))))


def run(path: Path) -> Finding:
    (finding,) = VALUES.run(bench(path))
    assert isinstance(finding, Finding)
    assert finding.level is Level.EXECUTED
    return finding


def weights(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A folder whose one shard holds these tensors."""
    write_model(path, config=CONFIG)
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_wgt11_counts_values_that_are_no_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    wrong = torch.ones(6, 5)
    wrong[1, 2], wrong[5, 4], wrong[0, 0] = float("nan"), float("inf"), -float("inf")
    finding = run(weights(tmp_path / "m", {"good": torch.ones(3).to(dtype), "wrong": wrong.to(dtype)}))
    assert finding.severity is Severity.BLOCK
    assert finding.claim == "1 of 2 tensors hold NaN or infinite values: wrong (3)."
    assert [(e.source, e.observed) for e in finding.evidence] == [("wrong", 3)]


def test_wgt11_finds_the_last_value_of_a_tensor_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "BLOCK_ELEMENTS", 8)
    wrong = torch.ones(7, 3)
    wrong[6, 2] = float("nan")
    assert run(weights(tmp_path / "m", {"wrong": wrong})).claim.endswith(": wrong (1).")
    assert run(weights(tmp_path / "n", {"right": torch.ones(7, 3)})).severity is Severity.OK


def test_wgt11_reads_scalars_and_leaves_whole_numbers_alone(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(float("nan")),
        "empty": torch.ones(0, 4),
        "whole": torch.ones(4, dtype=torch.int64),
    }
    assert run(weights(tmp_path / "m", tensors)).claim == "1 of 2 tensors hold NaN or infinite values: scalar (1)."


@needs_assets
def test_wgt11_finite_weights() -> None:
    finding = run(SHARED / "assets" / "weights" / "stories260K")
    assert finding.severity is Severity.OK
    assert finding.claim == "All 260,032 values of the 47 floating tensors on file are finite."


@needs_assets
def test_wgt11_claims_nothing_of_zeros(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="all zeros"):
        run(seed_snapshot("meta-llama__Llama-3.2-1B-Instruct", tmp_path))


def test_a_dtype_that_the_library_does_not_have_is_a_reason_to_skip(tmp_path: Path) -> None:
    header = {"x": {"dtype": "F99", "shape": [4], "data_offsets": [0, 8]}}
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(raw(header, b"\1" * 8))
    with pytest.raises(CannotRun, match=r"does not read model\.safetensors"):
        list(VALUES.run(bench(tmp_path)))
