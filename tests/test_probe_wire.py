"""The probe of one step of any wire: each code fires on a planted fault and is silent on a sound wire."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from tokenizers import Regex, normalizers
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests import rigs, tiny_wires
from tests.tiny_wires import TinyWire
from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.probes import wiring
from wirecheck.probes.wire import WIRE_TWIN, WIRE_WEIGHTS, check_wire
from wirecheck.probes.wiring import Ground
from wirecheck.runner import run_one
from wirecheck.schema import Fact, Level, Ran, Severity, TrainSpec, WireSpec
from wirecheck.wires import parameter_count
from wirecheck.wires.samples import TWO_SOURCES

GROUND = Ground(Level.SIMULATED, "twins", "planted step, seed 0")


def findings(kind=TinyWire, pair=None, train=None, ground=GROUND):
    """Code -> findings of one check of a wire of that kind, in their order."""
    pair = pair or tiny_wires.models()
    found = {}
    with wiring.lent(pair), suppress(CannotRun):  # a check that ends as skipped keeps what it found
        wire = kind(*pair, tiny_wires.settings())
        for item in check_wire(rigs.bench(train=train), wire, pair, ground):
            found.setdefault(item.code, []).append(item)
    return found


def own(kind, probe=WIRE_TWIN, **options):
    """The probe's run on the user's own wire of that kind."""
    spec = WireSpec(name=f"{kind.__module__}:{kind.__qualname__}", latent_length=4, latent_width=64)
    return run_one(probe, rigs.bench(spec, **options))


def the(found, code):
    (finding,) = found[code]
    return finding


def fired(found):
    return {code for code, items in found.items() if any(f.severity is not Severity.OK for f in items)}


def observed(finding):
    return [evidence.observed for evidence in finding.evidence]


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
    with pytest.raises(KeyboardInterrupt), wiring.lent(pair):
        with zoo.quiet():
            pair[0].model.gradient_checkpointing_enable()
        pair[0].model.train()
        raise KeyboardInterrupt
    model = pair[0].model
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
    assert isinstance(run, Ran)
    (note,) = (f for f in run.findings if f.severity is not Severity.OK)
    assert (note.code, note.severity) == ("WIR01", Severity.NOTE)
    assert "no such operation" in observed(note)[0]


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


# --- WIR02


class Forgotten(TinyWire):
    def __init__(self, *given):
        super().__init__(*given)
        self.net.forgotten = nn.Linear(4, 4)


def test_wir02_unused_parameter():
    found = findings(Forgotten)
    assert fired(found) == {"WIR02"}
    claim = "2 of 7 trainable tensors receive no gradient, or zeros only: forgotten.weight, forgotten.bias."
    assert the(found, "WIR02").claim == claim


class Detached(TinyWire):
    def prefix(self, batch):
        latent = self.net.latent
        self.net.latent = lambda sources: latent(sources).detach()
        try:
            return super().prefix(batch)
        finally:
            self.net.latent = latent


def test_wir02_detached_latent():
    found = findings(Detached)
    assert fired(found) == {"WIR02"}
    assert the(found, "WIR02").claim.endswith("zeros only: embed.weight.")


class Zeroed(TinyWire):
    def __init__(self, *given):
        super().__init__(*given)
        self.net.embed.weight.register_hook(torch.zeros_like)


def test_wir02_gradient_of_zeros():
    assert the(findings(Zeroed), "WIR02").claim.endswith("zeros only: embed.weight.")


class Untrained(TinyWire):
    def __init__(self, *given):
        super().__init__(*given)
        self.anchor_scale = torch.ones((), requires_grad=True)
        self.net.requires_grad_(False)

    def prefix(self, batch):
        return {side: x * self.anchor_scale for side, x in super().prefix(batch).items()}


def test_wir02_nothing_to_train():
    assert the(findings(Untrained), "WIR02").claim == "The wire's module has no trainable tensor."


class Gated(TinyWire):
    """A gate that starts at zero before a branch of two layers: as in Flamingo, ReZero and LoRA."""

    def __init__(self, *given):
        super().__init__(*given)
        self.net.gate = nn.Parameter(torch.zeros(()))
        self.net.branch = nn.Linear(48, 48)
        nn.init.zeros_(self.net.branch.weight)
        self.net.deep = nn.Linear(48, 48)

    def prefix(self, batch):
        made = super().prefix(batch)
        deep = self.net.deep(made["a"]) + 1
        made["a"] = made["a"] + torch.tanh(self.net.gate) * (self.net.branch(deep) + 1e-2)
        return made


def test_wir02_not_behind_a_gate_that_starts_at_zero():
    finding = the(findings(Gated), "WIR02")
    assert finding.severity is Severity.OK
    assert finding.claim.endswith("(4 of them from the second or third step on).")


def test_wir02_not_on_a_sound_wire():
    assert the(findings(), "WIR02").severity is Severity.OK


# --- WIR03


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_wir03_weight_of_the_wire(value):
    class Spoilt(TinyWire):
        def __init__(self, *given):
            super().__init__(*given)
            self.net.embed.weight.data[:] = value

    found = findings(Spoilt)
    assert fired(found) == {"WIR03"}
    assert "loss of a, loss of b" in the(found, "WIR03").claim
    assert set(found) == {"WIR01", "WIR03", "WIR04"}


def test_wir03_weight_of_a_frozen_model():
    model = rigs.llama()
    model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    assert "loss of a" in the(findings(pair=tiny_wires.models(model)), "WIR03").claim


class Exploding(TinyWire):
    def __init__(self, *given):
        super().__init__(*given)
        self.net.project["a"].weight.register_hook(lambda gradient: gradient / 0)


def test_wir03_gradient_alone():
    finding = the(findings(Exploding), "WIR03")
    assert finding.claim == "1 losses or gradients hold NaN or an infinity: gradient of project.a.weight."


class NarrowRange(TinyWire):
    """Runs out of float16's range, and only there."""

    def side_loss(self, side, inputs):
        big = torch.tensor(3e5).to(self.models[side].model.dtype)
        return super().side_loss(side, inputs) * (big / big)


def test_wir03_in_the_runs_dtype_alone():
    run = own(NarrowRange, train=TrainSpec(dtype="float16"))
    (block,) = (f for f in run.findings if f.severity is Severity.BLOCK)
    assert block.code == "WIR03"
    assert block.evidence[0].source.endswith("cast to float16")


def test_wir03_not_on_a_sound_wire():
    assert the(findings(), "WIR03").severity is Severity.OK


# --- WIR04


class Unfrozen(TinyWire):
    def freeze(self):
        """Nothing: the models stay as they were lent."""


def test_wir04_a_wire_that_freezes_nothing():
    finding = the(findings(Unfrozen), "WIR04")
    assert finding.severity is Severity.BLOCK
    assert finding.claim.startswith("47 of the frozen models' 47 parameters ask for or hold a gradient: a.model.embed")


class OneLeft(TinyWire):
    def freeze(self):
        super().freeze()
        self.models["b"].model.model.layers[1].self_attn.q_proj.weight.requires_grad_(True)


def test_wir04_one_parameter_left_trainable():
    found = findings(OneLeft)
    assert fired(found) == {"WIR04"}
    assert the(found, "WIR04").claim.endswith("gradient: b.model.layers.1.self_attn.q_proj.weight.")


class Thawing(TinyWire):
    def loss(self, batch):
        self.models["a"].model.requires_grad_(True)
        losses = super().loss(batch)
        self.models["a"].model.requires_grad_(False)
        return losses


def test_wir04_a_step_that_thaws_the_model():
    assert "a.model.embed_tokens.weight" in the(findings(Thawing), "WIR04").claim


class Swallowing(TinyWire):
    """The frozen model is a part of the module: saved, moved and trained with it."""

    def __init__(self, *given):
        super().__init__(*given)
        self.net.model = self.models["a"].model


def test_wir04_a_model_inside_the_module():
    finding = the(findings(Swallowing), "WIR04")
    assert finding.severity is Severity.BLOCK
    assert "are in the wire's module: a.model.embed_tokens.weight" in finding.claim


class Sharing(TinyWire):
    """A trained tensor that is the memory of a frozen one."""

    def __init__(self, *given):
        super().__init__(*given)
        self.net.table = nn.Parameter(self.models["a"].model.get_input_embeddings().weight.data)

    def prefix(self, batch):
        return {side: x + 1e-3 * self.net.table.mean() for side, x in super().prefix(batch).items()}


def test_wir04_a_frozen_tensors_memory_is_trained():
    finding = the(findings(Sharing), "WIR04")
    assert finding.severity is Severity.BLOCK
    assert observed(finding) == [0, 1, 1]
    assert finding.evidence[2].source.endswith("frozen parameters that change when the wire is updated")


class Writing(TinyWire):
    def loss(self, batch):
        with torch.no_grad():
            self.models["b"].model.model.norm.weight.mul_(1.01)
        return super().loss(batch)


def test_wir04_a_step_that_writes_into_a_frozen_model():
    finding = the(findings(Writing), "WIR04")
    assert finding.claim.endswith("parameters change when the wire is updated: b.model.norm.weight.")


def test_wir04_not_on_a_sound_wire():
    assert the(findings(), "WIR04").severity is Severity.OK


# --- WIR07


class Uncalibrated(TinyWire):
    gain = 100.0

    def prefix(self, batch):
        made = super().prefix(batch)
        return made | {"a": made["a"] * self.gain}


class Fainter(Uncalibrated):
    gain = 0.01


class Fifth(Uncalibrated):
    gain = 1.2


@pytest.mark.parametrize(("kind", "words"), [(Uncalibrated, "1e+02"), (Fainter, "0.01")])
def test_wir07_uncalibrated_prefix(kind, words):
    found = findings(kind)
    assert fired(found) == {"WIR07"}
    off, sound = found["WIR07"]
    assert off.severity is Severity.WARN
    assert off.claim == f"On the twins, the soft tokens reach A at {words} times the scale of its embeddings."
    assert sound.severity is Severity.OK


def test_wir07_not_on_a_wire_a_fifth_off():
    for finding in findings(Fifth)["WIR07"]:
        assert finding.severity is Severity.OK
    assert observed(findings(Fifth)["WIR07"][0]) == [pytest.approx(1.2, rel=0.01)]


class Stale(TinyWire):
    """The table changes after the wire was fitted to it."""

    def __init__(self, *given):
        super().__init__(*given)
        self.models["b"].model.get_input_embeddings().weight.data.mul_(10)


def test_wir07_table_that_changed_after_the_wire_was_fitted():
    off = findings(Stale)["WIR07"][1]
    assert off.claim == "On the twins, the soft tokens reach B at 0.1 times the scale of its embeddings."


class NoTable(Uncalibrated):
    def __init__(self, *given):
        super().__init__(*given)
        self.models["a"].model.get_input_embeddings().weight.data.zero_()


def test_wir07_table_of_zeros():
    off = findings(NoTable)["WIR07"][0]
    assert (off.severity, observed(off)) == (Severity.WARN, ["inf"])


class TextOnly(TinyWire):
    """Source and answer as tokens, and a trained loss weight: no soft token at all."""

    def __init__(self, *given):
        super().__init__(*given)
        self.net = nn.Linear(1, 1)

    def loss(self, batch):
        made = {}
        for side, one in self.models.items():
            width = one.model.get_input_embeddings().weight.shape[1]
            inputs = self.sequence(side, batch, torch.zeros(len(batch.sources), 0, width))
            inputs["inputs_embeds"] = inputs["inputs_embeds"] + 0 * self.net(torch.ones(1))
            made[side] = self.side_loss(side, inputs) * self.net(torch.ones(1)).exp()
        return {side: loss.sum() for side, loss in made.items()}


def test_wir07_without_soft_tokens_has_nothing_to_scale():
    found = findings(TextOnly)
    assert [f.severity for f in found["WIR07"]] == [Severity.OK] * 2
    assert found["WIR07"][0].claim.startswith("A is handed the embeddings of tokens only")
    assert fired(found) == set()


def test_wir07_before_and_after_calibration_of_a_shipped_wire():
    for finding in (f for f in run_one(WIRE_TWIN, rigs.bench()).findings if f.code == "WIR07"):
        assert finding.severity is Severity.OK
        before, after = observed(finding)
        assert before == pytest.approx(50, rel=0.05)
        assert after == pytest.approx(1, rel=1e-3)


# --- WIR18


class Checkpointed(TinyWire):
    mode = True

    def loss(self, batch):
        for one in self.models.values():
            with zoo.quiet():
                one.model.gradient_checkpointing_enable({"use_reentrant": False})
            one.model.train(self.mode)
        return super().loss(batch)


class InEvalMode(Checkpointed):
    mode = False


class AdapterOnly(TinyWire):
    def prefix(self, batch):
        prefix = super().prefix
        return dict(zip("ab", checkpoint(lambda: tuple(prefix(batch).values()), use_reentrant=False), strict=True))


ASKED = TrainSpec(dtype="float32", grad_checkpointing=True)


@pytest.mark.parametrize("kind", [TinyWire, InEvalMode, AdapterOnly])
def test_wir18_no_layer_is_run_again(kind):
    found = findings(kind, train=ASKED)
    assert fired(found) == {"WIR18"}
    finding = the(found, "WIR18")
    assert finding.severity is Severity.WARN
    assert finding.claim.endswith("in backward no layer of A and B is run again.")
    assert observed(finding) == [0, 0]


def test_wir18_not_where_layers_are_run_again():
    finding = the(findings(Checkpointed, train=ASKED), "WIR18")
    assert finding.severity is Severity.OK
    assert observed(finding) == [2, 2]


def test_wir18_is_not_asked_where_checkpointing_is_not():
    assert "WIR18" not in findings()


def test_the_two_sources_are_told_apart_by_content_alone():
    one, two = (text.encode() for text in TWO_SOURCES)
    assert len(one) == len(two)
    assert one[0] != two[0]
