"""What a wire may do to the models it is lent: ask embedded text for a gradient, hook them, put its own layers in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import benches, rigs
from tests.tiny_wires import TinyWire, models, settings
from tests.wire_cases import ask
from tests.wire_checks import own
from wirecheck.probes import wiring
from wirecheck.probes.wire_use import WIRE_USE
from wirecheck.probes.wire_use_state import learns_and_keeps
from wirecheck.schema import Ran, Severity, TrainSpec
from wirecheck.wires.contract import Batch
from wirecheck.wires.samples import SAMPLES
from wirecheck.wires.watch import observe

# --- embedded text that asks for a gradient


class InputGrads(TinyWire):
    """As recipes for gradient checkpointing do."""

    def freeze(self) -> None:
        super().freeze()
        for one in self.models.values():
            one.model.enable_input_require_grads()


class InputGradsLate(TinyWire):
    """Switched on within the step."""

    def loss(self, batch: Batch) -> Any:
        for one in self.models.values():
            one.model.enable_input_require_grads()
        try:
            return super().loss(batch)
        finally:
            for one in self.models.values():
                one.model.disable_input_require_grads()


class InputGradsAndStray(InputGrads):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.gain = torch.ones(3, requires_grad=True)

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x * self.gain.mean() for side, x in super().prefix(batch).items()}


@pytest.mark.parametrize("kind", [InputGrads, InputGradsLate])
def test_wir10_embedded_text_that_asks_for_a_gradient_is_no_stray(kind: type[TinyWire]) -> None:
    output, untold = ask(learns_and_keeps, kind)
    assert (output.fired, untold) == (set(), "")


def test_wir10_a_stray_beside_embedded_text_is_told() -> None:
    output, _ = ask(learns_and_keeps, InputGradsAndStray)
    assert output.of("WIR10")[0].claim.endswith("in no state: tensor of shape 3.")


# --- hooks on the models


class Injects(TinyWire):
    """What is learned is added to what the first layers give, by hooks that stay on the models."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.now: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(given[2].seed + 7)
            widths = {side: one.model.config.hidden_size for side, one in self.models.items()}
            self.net.inject = nn.ModuleDict({side: nn.Linear(64, width) for side, width in widths.items()})
        for side, one in self.models.items():
            one.model.model.layers[0].register_forward_hook(self.added(side))

    def added(self, side: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            here = self.now.get(side)
            return output if here is None or len(here) != len(output) else output + here

        return hook

    def loss(self, batch: Batch) -> Any:
        z = self.net.latent(batch.sources).mean(1, keepdim=True)
        self.now = {side: layer(z) for side, layer in self.net.inject.items()}
        return super().loss(batch)


class InjectsMore(Injects):
    """Its loss hangs on a number that is in no state."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.start = float(given[2].seed)

    def loss(self, batch: Batch) -> Any:
        losses = super().loss(batch)
        return {side: term * (1 + self.start) for side, term in losses.items()}


def test_wir10_hooks_of_one_wire_are_not_on_the_models_of_another() -> None:
    output, untold = ask(learns_and_keeps, Injects)
    assert (output.fired, untold) == (set(), "")


def test_wir10_a_hooking_wire_whose_state_is_not_whole() -> None:
    output, _ = ask(learns_and_keeps, InjectsMore)
    assert output.severity("WIR10") == "block"


def test_the_other_wire_of_the_probe_is_made_on_models_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "factory", lambda _bench: Injects)
    output = benches.run(WIRE_USE, rigs.bench())
    assert output.severity("WIR10") == "ok"


# --- layers of the wire's own in a frozen model


class LowRank(nn.Module):
    """base(x) + x A B"""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        like = {"dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.randn(base.in_features, 2, **like) * 0.1)
        self.up = nn.Parameter(torch.zeros(2, base.out_features, **like))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + x @ self.down @ self.up
        return out


class Lora(TinyWire):
    """Adapters of low rank within the frozen models and in the module; they draw from torch's own generator."""

    is_held = True
    is_frozen = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        added = []
        for one in self.models.values():
            for layer in one.model.model.layers:
                layer.self_attn.q_proj = LowRank(layer.self_attn.q_proj)
                added += [layer.self_attn.q_proj.down, layer.self_attn.q_proj.up]
                layer.self_attn.q_proj.base.weight.requires_grad_(not self.is_frozen)
        if self.is_held:
            self.net.lora = nn.ParameterList(added)


class LoraElsewhere(Lora):
    is_held = False


class LoraThawed(Lora):
    is_frozen = False


class MoreRows(TinyWire):
    """A frozen model is given rows for more tokens."""

    def __init__(self, *given: Any) -> None:
        given[0].model.resize_token_embeddings(300, mean_resizing=False)
        super().__init__(*given)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [Lora, MoreRows])
def test_wir04_not_on_what_the_wire_adds_to_a_model(kind: type[TinyWire], dtype: Any) -> None:
    run = own(kind, train=TrainSpec(dtype=dtype))
    assert isinstance(run, Ran)
    assert {f.severity for f in run.findings} == {Severity.OK}


def test_wir04_a_frozen_tensor_under_an_adapter_that_asks_for_a_gradient() -> None:
    (block,) = (f for f in own(LoraThawed).findings if f.severity is Severity.BLOCK)
    assert block.code == "WIR04"
    start = (
        "4 of the frozen models' 47 parameters ask for or hold a gradient: a.model.layers.0.self_attn.q_proj.weight,"
    )
    assert block.claim.startswith(start)


def test_wir10_adapters_within_a_model_come_back() -> None:
    output, untold = ask(learns_and_keeps, Lora)
    assert (output.fired, untold) == (set(), "")


def test_wir10_adapters_within_a_model_and_in_no_module() -> None:
    output, _ = ask(learns_and_keeps, LoraElsewhere)
    assert output.of("WIR10")[0].severity == "block"
    assert output.of("WIR10")[0].claim.startswith("8 tensors that receive a gradient are in no module")


def test_a_models_own_parameters_are_those_before_the_factory() -> None:
    pair = models()
    before = {name: id(p) for name, p in pair[0].model.named_parameters()}
    wire = Lora(*pair, settings())
    assert {name: id(p) for name, p in pair[0].own_parameters().items()} == before
    assert observe(wire, pair, SAMPLES).strays == ()


# --- random numbers of the factory


def test_a_factory_draws_from_its_seed_and_leaves_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    class Global(TinyWire):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.drawn = torch.rand(())

    monkeypatch.setattr(wiring, "factory", lambda _bench: Global)
    bench, pair = rigs.bench(), models()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = (wiring.make(bench, pair, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.drawn == again.drawn != other.drawn
