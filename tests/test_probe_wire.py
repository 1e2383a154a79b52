from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, normalizers
from torch import nn

from tests import rigs
from wirecheck.errors import CannotRun
from wirecheck.probes.wire import WIRE_TWIN, WIRE_WEIGHTS, Ground, check_wire
from wirecheck.runner import run_one
from wirecheck.schema import Fact, Level, Ran, Severity, TrainSpec, WireSpec
from wirecheck.wires import WIRES, parameter_count
from wirecheck.wires.adapter import Adapter
from wirecheck.wires.checks import TWO_SOURCES
from wirecheck.wires.step import STEPS, encode, joint_step, sequence, soft_tokens

GROUND = Ground(Level.SIMULATED, "twins", "planted step, seed 0")


def findings(rig=None, step=joint_step):
    """Code -> findings of one check of `rig`, in their order."""
    found = {}
    with suppress(CannotRun):  # a check that ends as skipped keeps what it found
        for item in check_wire(rigs.bench(), rig or rigs.rig(), step, GROUND):
            found.setdefault(item.code, []).append(item)
    return found


def the(found, code):
    (finding,) = found[code]
    return finding


def fired(found):
    return {code for code, items in found.items() if any(f.severity is not Severity.OK for f in items)}


def observed(finding):
    return [evidence.observed for evidence in finding.evidence]


def forward(side, prefix_BMD, relabel=lambda labels: labels):
    embeds, mask, labels = sequence(side, prefix_BMD)
    return side.model(inputs_embeds=embeds, attention_mask=mask, labels=relabel(labels)).loss


# --- a sound wire


@pytest.mark.parametrize("probe", [WIRE_TWIN, WIRE_WEIGHTS])
@pytest.mark.parametrize("resident", ["joint", "sequential"])
def test_a_sound_wire_passes_every_check(probe, resident):
    run = run_one(probe, rigs.bench(train=TrainSpec(dtype="float32", resident=resident)))
    assert isinstance(run, Ran)
    assert {f.severity for f in run.findings} == {Severity.OK}
    assert tuple(sorted({f.code for f in run.findings})) == probe.codes
    assert {f.level for f in run.findings} == {probe.level}


def test_a_sound_wire_passes_in_bfloat16():
    models = {"model_a": rigs.llama().bfloat16(), "model_b": rigs.qwen().bfloat16()}
    run = run_one(WIRE_WEIGHTS, rigs.bench(train=TrainSpec(dtype="bfloat16"), **models))
    assert isinstance(run, Ran)
    assert {f.severity for f in run.findings} == {Severity.OK}


def test_the_same_check_says_the_same_twice():
    first, second = (run_one(WIRE_TWIN, rigs.bench()) for _ in range(2))
    assert first.findings == second.findings
    assert first.facts == second.facts


def test_no_gradient_is_left_in_the_models():
    bench = rigs.bench()
    model = bench.a.twin.model
    model.lm_head.weight.requires_grad_(True)
    run_one(WIRE_TWIN, bench)
    assert model.lm_head.weight.grad is None


def test_the_facts_are_of_the_full_width():
    facts = {item.key: item.value for item in WIRE_TWIN.run(rigs.bench()) if isinstance(item, Fact)}
    a, b = parameter_count(rigs.SPEC, 48), parameter_count(rigs.SPEC, 64)
    tensors = len(rigs.rig().trainable())
    assert facts == {
        "trainable_tensors": tensors,
        "encoder_parameters": a.encoder,
        "adapter_a_parameters": a.adapter,
        "adapter_b_parameters": b.adapter,
    }


def test_a_twin_with_fewer_rows_than_tokens_is_wired_with_folded_ids():
    run = run_one(WIRE_TWIN, rigs.bench(model_a=rigs.llama(vocabulary=100)))
    assert {f.severity for f in run.findings} == {Severity.OK}


def test_an_unknown_wire_is_a_skip_with_its_reason():
    with pytest.raises(CannotRun, match="ships no wire named telepathy; it ships bytes"):
        list(WIRE_TWIN.run(rigs.bench(WireSpec(name="telepathy"))))


def test_a_tokenizer_that_makes_no_tokens_is_a_skip_with_its_reason():
    bench = rigs.bench()
    bench.b.tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex(r"[\s\S]"), "")
    with pytest.raises(CannotRun, match="b's tokenizer makes no tokens of plain text"):
        list(WIRE_TWIN.run(bench))


def test_too_little_memory_is_a_skip_with_its_reason(monkeypatch):
    def starved(rig):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setitem(STEPS, "joint", starved)
    with pytest.raises(CannotRun, match="not enough memory on this machine for step"):
        list(WIRE_TWIN.run(rigs.bench()))


def test_a_wire_too_wide_for_this_machine_is_a_skip_with_its_reason(monkeypatch):
    def starved(spec, seed):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setitem(WIRES, "bytes", replace(WIRES["bytes"], encoder=starved))
    with pytest.raises(CannotRun, match="not enough memory on this machine for encoder"):
        list(WIRE_TWIN.run(rigs.bench()))


@pytest.mark.parametrize("probe", [WIRE_TWIN, WIRE_WEIGHTS])
def test_no_step_is_run_that_is_longer_than_a_model_bears(probe):
    assert "CFG08" in probe.moot_after


# --- WIR01


def test_wir01_adapter_of_another_width():
    rig = rigs.rig()
    one, other = rig.sides
    found = findings(replace(rig, sides=(replace(one, adapter=other.adapter), other)))
    finding = the(found, "WIR01")
    assert finding.severity is Severity.BLOCK
    assert finding.claim == "The wire's step fails in its part `sequence of a` on the twins."
    assert "prefix [3, 4, 64] float32 cpu" in observed(finding)[0]
    assert set(found) == {"WIR01"}


def test_wir01_width_the_heads_do_not_divide():
    (finding,) = run_one(WIRE_TWIN, rigs.bench(WireSpec(latent_width=100))).findings
    assert (finding.code, finding.severity) == ("WIR01", Severity.BLOCK)
    assert observed(finding) == ["ValueError: latent width 100 is not divisible by the encoder's 8 heads"]


def test_wir01_width_is_told_before_weights_are_loaded():
    bench = rigs.bench(WireSpec(latent_width=100))
    del bench.a.__dict__["weights"]  # loading them from the empty snapshot would fail
    (finding,) = run_one(WIRE_WEIGHTS, bench).findings
    assert finding.code == "WIR01"
    assert finding.claim == "The wire cannot be made: its part `encoder` fails."
    assert finding.level is Level.SIMULATED  # no real weight ran


def test_wir01_model_that_takes_no_embeds():
    class IdsOnly(rigs.LlamaForCausalLM):
        def forward(self, input_ids=None, attention_mask=None, labels=None, use_cache=None):
            raise AssertionError("unreachable: inputs_embeds is refused first")

    model = IdsOnly(rigs.llama().config).requires_grad_(False)
    finding = the(findings(rigs.rig(model_a=model)), "WIR01")
    assert "unexpected keyword argument 'inputs_embeds'" in observed(finding)[0]


def test_wir01_step_that_hands_over_no_embeds():
    def by_ids(rig):
        return {side.name: side.model(input_ids=side.answer_BL, labels=side.answer_BL).loss for side in rig.sides}

    assert observed(the(findings(step=by_ids), "WIR01")) == ["its forward was not given inputs_embeds"]


def test_wir01_not_on_a_sound_wire():
    finding = the(findings(), "WIR01")
    assert finding.severity is Severity.OK
    assert "3 texts became prefixes of 4 x 48 for A and 4 x 64 for B" in finding.claim


# --- WIR02


def test_wir02_unused_parameter():
    rig = rigs.rig()
    rig.sides[1].adapter.forgotten = nn.Linear(4, 4)
    found = findings(rig)
    assert fired(found) == {"WIR02"}
    claim = the(found, "WIR02").claim
    assert claim.startswith("2 of ")
    assert claim.endswith("or zeros only: adapter_b.forgotten.weight, adapter_b.forgotten.bias.")


def test_wir02_detached_latent():
    def detached(rig):
        z_BMZ = encode(rig).detach()
        losses = {side.name: forward(side, soft_tokens(rig, side, z_BMZ)) for side in rig.sides}
        sum(losses.values()).backward()
        return losses

    found = findings(step=detached)
    assert fired(found) == {"WIR02"}
    assert "encoder.embed.weight" in the(found, "WIR02").claim
    assert "adapter" not in the(found, "WIR02").claim.split(":")[1]


def test_wir02_gradient_of_zeros():
    rig = rigs.rig()
    rig.encoder.pooler.gate.weight.register_hook(torch.zeros_like)
    assert "encoder.pooler.gate.weight" in the(findings(rig), "WIR02").claim


def test_wir02_not_on_a_sound_wire():
    assert the(findings(), "WIR02").severity is Severity.OK


# --- WIR03


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_wir03_weight_of_the_encoder(value):
    rig = rigs.rig()
    rig.encoder.norm.weight.data[0] = value
    found = findings(rig)
    assert fired(found) == {"WIR03"}
    assert "loss of a, loss of b" in the(found, "WIR03").claim
    assert set(found) == {"WIR01", "WIR03", "WIR04"}


def test_wir03_weight_of_a_frozen_model():
    model = rigs.llama()
    model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    assert "loss of a" in the(findings(rigs.rig(model_a=model)), "WIR03").claim


def test_wir03_gradient_alone():
    rig = rigs.rig()
    rig.sides[0].adapter.skip.weight.register_hook(lambda gradient: gradient / 0)
    finding = the(findings(rig), "WIR03")
    assert finding.claim == "1 losses or gradients hold NaN or an infinity: gradient of adapter_a.skip.weight."


def test_wir03_not_on_a_sound_wire():
    assert the(findings(), "WIR03").severity is Severity.OK


# --- WIR04


def test_wir04_parameter_left_trainable():
    model = rigs.qwen()
    model.model.layers[1].self_attn.q_proj.weight.requires_grad_(True)
    found = findings(rigs.rig(model_b=model))
    assert fired(found) == {"WIR04"}
    assert the(found, "WIR04").claim.endswith(": b.model.layers.1.self_attn.q_proj.weight.")


def test_wir04_step_that_thaws_the_model():
    def thawing(rig):
        rig.sides[0].model.requires_grad_(True)
        losses = joint_step(rig)
        rig.sides[0].model.requires_grad_(False)
        return losses

    assert "a.model.embed_tokens.weight" in the(findings(step=thawing), "WIR04").claim


def test_wir04_not_on_a_sound_wire():
    assert the(findings(), "WIR04").severity is Severity.OK


# --- WIR07


class Uncalibrated(Adapter):
    def colour(self, x_BMD):
        return x_BMD

    def calibrate(self, x_BMD):
        return x_BMD


def test_wir07_uncalibrated_prefix():
    rig = rigs.rig()
    rig.sides[0].adapter.__class__ = Uncalibrated
    found = findings(rig)
    assert fired(found) == {"WIR07"}
    off, sound = found["WIR07"]
    assert off.severity is Severity.WARN
    assert off.claim == "On the twins, the soft tokens reach A at 50 times its embeddings' scale."
    assert sound.severity is Severity.OK


def test_wir07_table_that_changed_after_the_adapter_was_fitted():
    rig = rigs.rig()
    rig.sides[1].model.get_input_embeddings().weight.data.mul_(3)
    off = findings(rig)["WIR07"][1]
    assert off.claim == "On the twins, the soft tokens reach B at 0.33 times its embeddings' scale."


def test_wir07_table_of_zeros():
    rig = rigs.rig()
    rig.sides[0].adapter.__class__ = Uncalibrated
    rig.sides[0].model.get_input_embeddings().weight.data.zero_()
    off = findings(rig)["WIR07"][0]
    assert (off.severity, observed(off)) == (Severity.WARN, ["inf", "inf"])


def test_wir07_prefix_of_zeros_against_a_table_of_zeros():
    class Silent(Uncalibrated):
        def calibrate(self, x_BMD):
            return x_BMD * 0

    rig = rigs.rig()
    rig.sides[0].adapter.__class__ = Silent
    rig.sides[0].model.get_input_embeddings().weight.data.zero_()
    off = findings(rig)["WIR07"][0]
    assert (off.severity, observed(off)) == (Severity.WARN, ["inf", "nan"])


def test_wir07_not_on_a_sound_wire():
    for finding in findings()["WIR07"]:
        assert finding.severity is Severity.OK
        before, after = observed(finding)
        assert before == pytest.approx(50, rel=0.05)
        assert after == pytest.approx(1, rel=1e-3)


# --- WIR11


def test_wir11_encoder_that_does_not_read():
    rig = rigs.rig()
    read = rig.encoder.forward
    rig.encoder.forward = lambda bytes_BT, mask_BT: read(bytes_BT * 0, mask_BT)
    found = findings(rig)
    assert fired(found) == {"WIR11"}
    claim = "Two different sources give the same latent and the same prefix of a and the same prefix of b."
    assert the(found, "WIR11").claim == claim


def test_wir11_gate_that_is_shut():
    rig = rigs.rig()
    nn.init.constant_(rig.encoder.pooler.gate.bias, -100)
    assert "WIR11" in fired(findings(rig))


def test_wir11_adapter_that_does_not_read():
    rig = rigs.rig()
    adapter = rig.sides[1].adapter
    read = adapter.forward
    adapter.forward = lambda z_BMZ, lengths_B: read(z_BMZ * 0, lengths_B)
    assert the(findings(rig), "WIR11").claim == "Two different sources give the same prefix of b."


def test_wir11_not_on_a_sound_wire():
    assert the(findings(), "WIR11").severity is Severity.OK


def test_the_two_sources_are_told_apart_by_content_alone():
    one, two = (text.encode() for text in TWO_SOURCES)
    assert len(one) == len(two)
    assert one[0] != two[0]
