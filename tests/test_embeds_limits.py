"""What the `inputs_embeds` probes say where weights fail, where the machine fails, and where the future is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaForCausalLM

from tests.benches import LLAMA, SEEDS, config_folder, model_bench, run
from tests.factories import SHARED, needs_assets, seed_snapshot
from tests.test_probe_embeds import SIZES, judged, severities, tiny
from wirecheck import devices, readiness, zoo_weights
from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit, one_line, within_means
from wirecheck.probes.embeds import EMBEDS_TWIN, EMBEDS_WEIGHTS
from wirecheck.schema import Finding, Level, Severity, TrainSpec
from wirecheck.snapshot import ModelRef, parse_ref, take
from wirecheck.wires.failure import part

STORIES = SHARED / "assets" / "weights" / "stories260K"
NO_HALF = RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")
LIMITS = [
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("\"rms_norm\" not implemented for 'BFloat16'"),
    ImportError("no module named mamba_ssm"),
    NO_HALF,
]
FAULTS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (24x64 and 65x3)"),
    RuntimeError("\"embedding\" not implemented for 'Float'"),
    NotImplementedError("ids only"),
    ValueError("x"),
]


@pytest.mark.parametrize("error", LIMITS, ids=str)
def test_errors_that_speak_of_the_machine(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda: 2**30)
    with pytest.raises(CannotRun), within_means():
        raise error
    wrapped = ValueError("could not load")
    wrapped.__cause__ = error
    assert machine_limit(wrapped) == machine_limit(error)


@pytest.mark.parametrize("error", FAULTS, ids=str)
def test_errors_that_speak_of_the_model(error: Exception) -> None:
    assert machine_limit(error) is None
    with pytest.raises(type(error)), within_means():
        raise error


def test_a_wire_s_part_that_this_cpu_lacks_is_no_failure() -> None:
    with pytest.raises(CannotRun, match=r"^model a: this machine's CPU"), part("outer"), part("model a"):
        raise NO_HALF


def test_a_message_keeps_no_folder_and_a_repository_its_name() -> None:
    text = one_line(ValueError("org/name/config.json of https://host/org/name, in /home/x/lib/file.py at 0x7fab"))
    assert text == "org/name/config.json of https://host/org/name, in file.py at 0x…"


# --- forwards that fail for the machine ----------------------------------------------------------------------------


class RaisesWhen(LlamaForCausalLM):
    """Raises what it is given once the named step is reached."""

    step = ""
    error: Exception = NO_HALF

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        reached = {"ids": input_ids is not None, "embeds": inputs_embeds is not None, "grad": torch.is_grad_enabled()}
        if reached.get(self.step, False):
            raise self.error
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


@pytest.mark.parametrize("error", LIMITS, ids=str)
@pytest.mark.parametrize("step", ["ids", "embeds", "grad"])
def test_emb01_05_this_machine_s_limits_are_no_block(step: str, error: Exception) -> None:
    model = tiny(RaisesWhen)
    model.step, model.error = step, error
    with pytest.raises(CannotRun, match=r"machine|here"):
        judged(model)


@pytest.mark.parametrize(("step", "code"), [("ids", "EMB01"), ("embeds", "EMB01"), ("grad", "EMB05")])
def test_emb01_05_other_errors_of_the_real_weights_are(step: str, code: str) -> None:
    model = tiny(RaisesWhen)
    model.step, model.error = step, FAULTS[0]
    assert severities(model)[code] is Severity.BLOCK


# --- weights that do not load --------------------------------------------------------------------------------------


def executed(path: Path) -> list[Finding]:
    bench = model_bench(path, train=TrainSpec(dtype="float32"))
    return [f for f in EMBEDS_WEIGHTS.run(bench) if isinstance(f, Finding)]


@needs_assets
def test_emb01_weights_that_do_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("conversion failed\nat 0x7f01 in /home/x/lib/core.py")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    (finding,) = executed(STORIES)
    assert (finding.code, finding.severity, finding.level) == ("EMB01", Severity.BLOCK, Level.EXECUTED)
    assert finding.evidence[0].observed == "RuntimeError: conversion failed"


@needs_assets
@pytest.mark.parametrize("error", LIMITS, ids=str)
def test_emb01_weights_this_machine_cannot_load(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(CannotRun) as caught:
        executed(STORIES)
    assert not isinstance(caught.value, zoo_weights.WeightsRefused)


@needs_assets
def test_emb01_quantized_weights_that_do_not_load_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("a GPU is needed for these kernels")

    shutil.copytree(STORIES, tmp_path / "m", copy_function=shutil.copyfile)
    (tmp_path / "m").chmod(0o755)
    fields = json.loads((STORIES / "config.json").read_text())
    fields["quantization_config"] = {"quant_method": "hqq"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(fields))
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(CannotRun, match="depends on the machine: RuntimeError: a GPU is needed") as caught:
        executed(tmp_path / "m")
    assert not isinstance(caught.value, zoo_weights.WeightsRefused)


def test_weights_on_the_hub_are_fetched_at_the_revision_asked_for(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.shards import write_model

    held = take(parse_ref(str(write_model(tmp_path / "model"))))
    ref = ModelRef("org/name@v2", "hub", "org/name", revision="v2")
    away = replace(held, ref=ref, weights=tuple(replace(f, path=None) for f in held.weights))
    with pytest.raises(CannotRun, match="`hf download org/name --revision v2`"):
        readiness.require_weights(away)


# --- models that read the future -----------------------------------------------------------------------------------


def test_cfg03_attends_both_ways() -> None:
    sizes = {**SIZES, "head_dim": 8, "sliding_window": 16, "initializer_range": 0.2}
    found = judged(tiny(Gemma3ForCausalLM, Gemma3TextConfig(**sizes, use_bidirectional_attention=True)))
    assert found["CFG03"].severity is Severity.BLOCK
    assert "attends both ways" in found["CFG03"].claim
    assert judged(tiny(Gemma3ForCausalLM, Gemma3TextConfig(**sizes)))["CFG03"].severity is Severity.OK


@needs_assets
@pytest.mark.parametrize("name", SEEDS)
def test_cfg03_and_all_else_silent_on_sound_models(tmp_path: Path, name: str) -> None:
    out = run(EMBEDS_TWIN, model_bench(seed_snapshot(name, tmp_path)))
    assert out.severity("CFG03") == "ok"
    assert not {f.severity for f in out.findings} & {Severity.WARN, Severity.BLOCK}


# --- twins of quantized models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gptq", "no-such-method"])
def test_emb05_is_not_settled_by_a_twin_without_the_quantized_layers(tmp_path: Path, method: str) -> None:
    bench = model_bench(config_folder(tmp_path / "m", quantization_config={"quant_method": method, "bits": 4}))
    seen: list[Any] = []
    with pytest.raises(CannotRun, match="the twin is not quantized"):
        seen.extend(EMBEDS_TWIN.run(bench))
    assert "quantization_config left out" in bench.twin.changed


@pytest.mark.parametrize("quantized", [{}, {"quantization_config": {"quant_method": "hqq"}}], ids=["plain", "hqq"])
def test_emb05_is_settled_where_the_layers_pass_gradients(tmp_path: Path, quantized: dict[str, Any]) -> None:
    bench = model_bench(config_folder(tmp_path / "m", LLAMA, **quantized))
    assert run(EMBEDS_TWIN, bench).severity("EMB05") == "ok"
    assert ("quantization_config left out" in bench.twin.changed) == bool(quantized)
