"""The probe of one step of any wire: sound wires pass, and WIR01 says where a broken one fails."""

from __future__ import annotations

import importlib

import pytest
import torch
from tokenizers import Regex, normalizers
from torch import nn
from transformers.utils import requires_backends

from tests import rigs, tiny_wires
from tests.tiny_wires import TinyWire
from tests.wire_checks import findings, observed, own, the
from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.probe_run import run_one
from wirecheck.probes import wiring
from wirecheck.probes.wire import WIRE_TWIN, WIRE_WEIGHTS
from wirecheck.schema import Fact, Ran, Severity, Skipped, TrainSpec, WireSpec
from wirecheck.wires import parameter_count
from wirecheck.wires.failure import part
from wirecheck.wires.samples import TWO_SOURCES

# --- a sound wire


@pytest.mark.parametrize("probe", [WIRE_TWIN, WIRE_WEIGHTS])
@pytest.mark.parametrize("resident", ["joint", "sequential"])
def test_a_sound_wire_passes_every_check(probe, resident):
    train = TrainSpec(dtype="float32", resident=resident, grad_checkpointing=True)
    run = run_one(probe, rigs.bench(train=train))
    assert isinstance(run, Ran)
    assert {f.severity for f in run.findings} == {Severity.OK}
    assert tuple(sorted({f.code for f in run.findings})) == probe.codes
    assert {f.level for f in run.findings} == {probe.level}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_sound_wire_passes_in_the_runs_dtype(dtype):
    models = {"model_a": rigs.llama().to(getattr(torch, dtype)), "model_b": rigs.qwen().to(getattr(torch, dtype))}
    run = run_one(WIRE_WEIGHTS, rigs.bench(train=TrainSpec(dtype=dtype), **models))
    assert isinstance(run, Ran)
    assert {f.severity for f in run.findings} == {Severity.OK}


def test_a_wire_of_the_users_own_passes():
    run = own(TinyWire)
    assert isinstance(run, Ran)
    assert {f.severity for f in run.findings} == {Severity.OK}
    assert {fact.key: fact.value for fact in run.facts} == {"trainable_tensors": 5, "wire_parameters": 23664}


class Dropping(TinyWire):
    def prefix(self, batch):
        return {side: nn.functional.dropout(x, 0.2) for side, x in super().prefix(batch).items()}


def test_a_wire_with_dropout_passes():
    run = own(Dropping)
    assert isinstance(run, Ran)
    assert {f.severity for f in run.findings} == {Severity.OK}


@pytest.mark.parametrize("kind", [TinyWire, Dropping])
def test_the_same_check_says_the_same_twice(kind):
    first, second = (own(kind) for _ in range(2))
    assert first.findings == second.findings
    assert first.facts == second.facts


def test_the_models_are_frozen_and_clean_afterwards():
    bench = rigs.bench()
    model = bench.a.twin.model
    model.requires_grad_(True)
    run_one(WIRE_TWIN, bench)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_the_models_are_frozen_and_clean_after_ctrl_c():
    pair = tiny_wires.models()
    model = pair[0].model

    def interrupted():
        with wiring.lent(pair), zoo.quiet():
            model.gradient_checkpointing_enable()
            model.train()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_the_facts_are_of_the_full_width():
    facts = {item.key: item.value for item in WIRE_TWIN.run(rigs.bench()) if isinstance(item, Fact)}
    a, b = parameter_count(rigs.SPEC, 48), parameter_count(rigs.SPEC, 64)
    assert facts == {
        "trainable_tensors": 144,
        "encoder_parameters": a.encoder,
        "adapter_a_parameters": a.adapter,
        "adapter_b_parameters": b.adapter,
    }


def test_a_twin_with_fewer_rows_than_tokens_is_a_skip_with_its_reason():
    bench = rigs.bench(model_a=rigs.llama(vocabulary=100))
    bench.a.__dict__["skeleton"] = rigs.llama()
    with pytest.raises(CannotRun, match="the twin of a has rows for 100 of 258 tokens"):
        list(WIRE_TWIN.run(bench))


def test_an_unknown_wire_is_a_skip_with_its_reason():
    with pytest.raises(CannotRun, match="ships no wire named telepathy; it ships bytes"):
        list(WIRE_TWIN.run(rigs.bench(WireSpec(name="telepathy"))))


def test_an_unknown_wire_is_told_before_weights_are_loaded():
    bench = rigs.bench(WireSpec(name="telepathy"))
    del bench.a.__dict__["weights"]  # loading them from the empty snapshot would fail otherwise
    with pytest.raises(CannotRun, match="ships no wire named telepathy"):
        list(WIRE_WEIGHTS.run(bench))


def test_a_tokenizer_that_makes_no_tokens_is_a_skip_with_its_reason():
    bench = rigs.bench()
    bench.b.tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex(r"[\s\S]"), "")
    with pytest.raises(CannotRun, match="b's tokenizer makes no tokens of plain text"):
        list(WIRE_TWIN.run(bench))


class Starved(TinyWire):
    def loss(self, batch):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


class TooWide(TinyWire):
    def __init__(self, *given):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize(("kind", "where"), [(Starved, "loss"), (TooWide, "factory")])
def test_too_little_memory_is_a_skip_with_its_reason(kind, where):
    assert own(kind).reason.startswith(f"not enough memory on this machine for {where}")


@pytest.mark.parametrize("probe", [WIRE_TWIN, WIRE_WEIGHTS])
def test_no_step_is_run_that_is_longer_than_a_model_bears(probe):
    assert "CFG08" in probe.moot_after


def test_real_weights_are_not_loaded_for_a_wire_that_fails_on_the_twins():
    assert "WIR01" in WIRE_WEIGHTS.moot_after


# --- WIR01


class OtherWidth(TinyWire):
    def sequence(self, side, batch, prefix_BMD):
        return super().sequence(side, batch, prefix_BMD[..., :-8])


def test_wir01_prefix_of_another_width():
    (finding,) = own(OtherWidth).findings
    assert (finding.code, finding.severity) == ("WIR01", Severity.BLOCK)
    assert finding.claim == "The wire fails in its part `loss` on the twins."
    assert "Sizes of tensors must match" in observed(finding)[0]


def test_wir01_width_the_heads_do_not_divide():
    (finding,) = run_one(WIRE_TWIN, rigs.bench(WireSpec(latent_width=100))).findings
    assert (finding.code, finding.severity) == ("WIR01", Severity.BLOCK)
    assert "latent width 100 is not divisible by the encoder's 8 heads" in observed(finding)[0]


def test_wir01_model_that_takes_no_embeds():
    class IdsOnly(rigs.LlamaForCausalLM):
        def forward(self, input_ids=None, attention_mask=None, labels=None, use_cache=None):
            raise AssertionError("unreachable: inputs_embeds is refused first")

    run = own(TinyWire, model_a=IdsOnly(rigs.llama().config))
    assert "unexpected keyword argument 'inputs_embeds'" in observed(run.findings[0])[0]


class Float(TinyWire):
    def loss(self, batch):
        return float(sum(super().loss(batch).values()))


class Several(TinyWire):
    def loss(self, batch):
        return torch.stack(list(super().loss(batch).values()))


class Nothing(TinyWire):
    def loss(self, batch):
        return None


class Empty(TinyWire):
    def loss(self, batch):
        return {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Float, "loss is a float, not a tensor"),
        (Several, "loss has shape [2] and requires_grad True"),
        (Nothing, "loss is a NoneType, not a tensor"),
        (Empty, "no term was returned"),
    ],
)
def test_wir01_loss_that_is_none(kind, message):
    (finding,) = own(kind).findings
    assert (finding.code, observed(finding)) == ("WIR01", [message])


class Island(TinyWire):
    """Hands over its prefix as it is made, in float32, whatever the model's dtype."""

    def sequence(self, side, batch, prefix_BMD):
        inputs = super().sequence(side, batch, prefix_BMD)
        M = prefix_BMD.shape[1]
        inputs["inputs_embeds"] = torch.cat((prefix_BMD, inputs["inputs_embeds"][:, M:].float()), dim=1)
        return inputs


class OwnAutocast(Island):
    def loss(self, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().loss(batch)


def test_wir01_dtype_island_in_the_runs_dtype():
    run = own(Island, train=TrainSpec(dtype="bfloat16"))
    blocks = [f for f in run.findings if f.severity is Severity.BLOCK]
    assert [f.claim for f in blocks] == ["The wire fails in its part `loss` on the twins in bfloat16."]
    assert "same dtype" in observed(blocks[0])[0]


def test_wir01_not_on_an_island_in_float32_nor_under_the_wires_own_autocast():
    assert {f.severity for f in own(Island).findings} == {Severity.OK}
    run = own(OwnAutocast, train=TrainSpec(dtype="bfloat16"))
    assert {f.severity for f in run.findings} == {Severity.OK}
    assert run.findings[-1].claim == "The same step runs between models in bfloat16, and everything stays finite."


class NoKernel(TinyWire):
    def loss(self, batch):
        if self.models["a"].model.dtype is not torch.float32:
            raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")
        return super().loss(batch)


def test_wir01_a_missing_kernel_is_no_fault_of_the_wire():
    run = own(NoKernel, train=TrainSpec(dtype="float16"))
    assert isinstance(run, Skipped), "what was not tried is no pass"
    assert "no such operation" in run.reason
    (note,) = (f for f in run.findings if f.severity is not Severity.OK)
    assert (note.code, note.severity) == ("WIR01", Severity.NOTE)
    assert "no such operation" in observed(note)[0]


class Lacking(TinyWire):
    """What it imports in the run's dtype is not here."""

    def loss(self, batch):
        if self.models["a"].model.dtype is not torch.float32:
            importlib.import_module("surely_not_installed")
        return super().loss(batch)


def test_wir01_what_the_wire_itself_cannot_import_is_its_failure():
    run = own(Lacking, train=TrainSpec(dtype="bfloat16"))
    (block,) = (f for f in run.findings if f.severity is not Severity.OK)
    assert (block.code, block.severity) == ("WIR01", Severity.BLOCK)
    assert observed(block) == ["ModuleNotFoundError: No module named 'surely_not_installed'"]


def test_wir01_not_on_a_library_that_lacks_a_package():
    with pytest.raises(CannotRun, match="a package is missing or broken here"), part("loss"):
        requires_backends(TinyWire, "detectron2")


def test_copies_in_the_runs_dtype_are_the_same_models():
    pair = tiny_wires.models()
    for one, copy in zip(pair, wiring.in_dtype(pair, "bfloat16"), strict=True):
        assert {p.dtype for p in copy.model.parameters()} == {torch.bfloat16}
        assert not copy.model.training
        for name, p in one.model.state_dict().items():
            assert torch.equal(p.bfloat16(), copy.model.state_dict()[name]), name
        assert {p.dtype for p in one.model.parameters()} == {torch.float32}


def test_copies_keep_in_float32_what_the_class_keeps():
    pair = tiny_wires.models()
    pair[0].model._keep_in_fp32_modules_strict = {"norm"}
    copy = wiring.in_dtype(pair, "bfloat16")[0].model
    kept = {name for name, p in copy.named_parameters() if p.dtype is torch.float32}
    assert kept == {"model.norm.weight"}


def test_wir01_not_on_a_sound_wire():
    finding = the(findings(), "WIR01")
    assert finding.severity is Severity.OK
    assert finding.claim.endswith("forwards that a gradient comes back through: 1 of A and 1 of B.")
    assert observed(finding)[1] == "A 3 x 31 x 48, B 3 x 30 x 64"


def test_the_two_sources_are_told_apart_by_content_alone():
    one, two = (text.encode() for text in TWO_SOURCES)
    assert len(one) == len(two)
    assert one[0] != two[0]
