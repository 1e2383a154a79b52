"""WIR02, WIR03, WIR04: what the gradient reaches, what it must not, and whether it is finite."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import rigs, tiny_wires
from tests.tiny_wires import TinyWire
from tests.wire_checks import findings, fired, observed, own, the
from wirecheck.schema import Severity, TrainSpec

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


class Experts(TinyWire):
    """A mixture of which each latent goes through the expert chosen for it."""

    count = 8
    seed = 3

    def __init__(self, *given):
        super().__init__(*given)
        width = self.net.embed.weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            self.net.router = nn.Linear(width, self.count)
            self.net.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(self.count))
        latent = self.net.latent
        self.net.latent = lambda sources: self.routed(latent(sources))

    def routed(self, z):
        weight, choice = self.choose(self.net.router(z).softmax(dim=-1))
        out = z
        for number, expert in enumerate(self.net.experts):
            chosen = choice == number
            if chosen.any():
                out = out + (chosen * weight)[..., None] * expert(z)
        return out

    def choose(self, share):
        return share.max(dim=-1)


class NeverTheLast(Experts):
    def choose(self, share):
        return share[..., :-1].max(dim=-1)


class NeverTheLastAndForgotten(NeverTheLast):
    def __init__(self, *given):
        super().__init__(*given)
        self.net.forgotten = nn.Linear(4, 4)


def test_wir02_not_on_experts_that_other_texts_choose():
    assert the(findings(Experts), "WIR02").severity is Severity.OK


def test_wir02_an_expert_that_no_text_chooses_is_a_warning():
    found = findings(NeverTheLast)
    assert fired(found) == {"WIR02"}
    finding = the(found, "WIR02")
    assert finding.severity is Severity.WARN
    words = "are not reached by the texts tried: experts.7.weight, experts.7.bias."
    assert finding.claim == f"2 of 23 trainable tensors {words}"


def test_wir02_what_is_dead_beside_an_idle_expert_is_told():
    finding = the(findings(NeverTheLastAndForgotten), "WIR02")
    assert finding.severity is Severity.BLOCK
    assert finding.claim.endswith("zeros only: forgotten.weight, forgotten.bias.")


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
