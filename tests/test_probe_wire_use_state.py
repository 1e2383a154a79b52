"""Whether a wire learns (WIR05), and whether what it learned comes back from its file (WIR10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import rigs
from tests.wire_cases import Decoding, KeysAndValues, LeftPadded, TinyWire, ask, case_of
from wirecheck.probes.wire_use_state import learns_and_keeps
from wirecheck.schema import TrainSpec
from wirecheck.wires.contract import Batch
from wirecheck.wires.learning import FALL, LEAST_STEPS, PACE, overfit
from wirecheck.wires.persistence import save


class Turned(torch.autograd.Function):
    """The identity, with the gradient's sign turned."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class Ascends(TinyWire):
    """The gradient that reaches the adapters has the wrong sign."""

    sides = ("a", "b")

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        made = super().prefix(batch)
        return {side: Turned.apply(x) if side in self.sides else x for side, x in made.items()}


class Detached(TinyWire):
    """No gradient reaches what is trained; a parameter that changes nothing keeps the loss differentiable."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net.idle = nn.Parameter(torch.ones(()))

    def loss(self, batch: Batch) -> Any:
        return {side: term + 0 * self.net.idle for side, term in super().loss(batch).items()}

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x.detach() for side, x in super().prefix(batch).items()}


class Forgetful(TinyWire):
    """Nothing of what is trained is in `module`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hidden = self.net
        self.shown = nn.Module()

    @property
    def module(self) -> nn.Module:
        return self.shown


# --- WIR05 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("kind", [TinyWire, LeftPadded, KeysAndValues])
def test_wir05_sound_wires_learn(kind: type[TinyWire], optimizer: Any) -> None:
    bench = rigs.bench(train=TrainSpec(dtype="float32", optimizer=optimizer))
    output, untold = ask(learns_and_keeps, kind, bench)
    assert (output.fired, untold) == (set(), "")
    assert output.claim("WIR05") == f"The wire learns: trained on one row by {optimizer}, its loss falls."


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        (Ascends, "Trained on one row by adamw, the wire's loss rises."),
        (Detached, "Trained on one row by adamw, the wire's loss does not fall."),
        (Forgetful, "The wire's module holds nothing to be trained."),
    ],
)
def test_wir05_wires_that_cannot_learn(kind: type[TinyWire], claim: str) -> None:
    output, _ = ask(learns_and_keeps, kind)
    assert output.severity("WIR05") == "warn"
    assert output.claim("WIR05") == claim


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_wir05_one_model_whose_gradient_is_turned(optimizer: Any) -> None:
    class OnlyB(Ascends):
        sides = ("b",)

    output, _ = ask(learns_and_keeps, OnlyB, rigs.bench(train=TrainSpec(dtype="float32", optimizer=optimizer)))
    assert output.severity("WIR05") == "warn"


def test_wir05_loss_that_does_not_depend_on_the_prefix() -> None:
    class Deaf(TinyWire):
        def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
            inputs = super().sequence(side, batch, prefix_BMD)
            inputs["attention_mask"][:, : prefix_BMD.shape[1]] = 0
            return inputs

    output, _ = ask(learns_and_keeps, Deaf)
    assert output.severity("WIR05") == "warn"


def test_wir05_a_gate_that_starts_shut_is_given_time() -> None:
    class Gated(TinyWire):
        """The prefix begins as a constant; what is learned comes in through tanh(gate)."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.net.gate = nn.Parameter(torch.zeros(()))
            self.base = {side: torch.randn(4, 1, generator=torch.Generator().manual_seed(5)) for side in self.models}

        def prefix(self, batch: Batch) -> dict[str, Tensor]:
            made = super().prefix(batch)
            return {side: self.rms[side] * self.base[side] + self.net.gate.tanh() * x for side, x in made.items()}

    with case_of(Gated) as case:
        learned = overfit(case.steady, case.first_row, "adamw")
    assert learned.has_learned
    assert learned.steps > len([rate for rate in PACE["adamw"] if rate == PACE["adamw"][0]]) / 2


def test_wir05_the_figures_are_those_of_the_batch() -> None:
    with case_of() as case:
        before = case.alone[0].loss
        learned = overfit(case.steady, case.first_row, "adamw")
    assert learned.before == pytest.approx(before, rel=1e-6)
    assert learned.after <= (1 - FALL) * before
    assert learned.steps >= LEAST_STEPS
    assert sum(learned.sides_before.values()) == pytest.approx(before, rel=1e-4)


# --- WIR10 -------------------------------------------------------------------------------------------------------


class Scaled(TinyWire):
    """The prefix is multiplied by `self.scales()`."""

    def scales(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x * self.scales()[side] for side, x in super().prefix(batch).items()}


class InADict(Scaled):
    """Two trained tensors in a plain dict."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        generator = torch.Generator().manual_seed(args[2].seed)
        self.own = {side: torch.rand(1, generator=generator).add(0.5).requires_grad_() for side in self.models}

    def scales(self) -> dict[str, Tensor]:
        return self.own


class LeavesOut(TinyWire):
    """A module whose state leaves a trained tensor out, and does not miss it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net._register_state_dict_hook(lambda _module, state, *_: state.__delitem__("embed.weight"))
        self.net.register_load_state_dict_post_hook(lambda _module, keys: keys.missing_keys.clear())


class Counting(Scaled):
    """A running statistic that decides the output, kept where the state does not look."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.keep(torch.tensor(1.0 + args[2].seed))

    def keep(self, start: Tensor) -> None:
        self.running = start

    def scales(self) -> dict[str, Tensor]:
        return dict.fromkeys(self.models, self.running)


class InABuffer(Counting):
    """The same, in a buffer that is not persistent."""

    def keep(self, start: Tensor) -> None:
        self.net.register_buffer("running", start, persistent=False)

    def scales(self) -> dict[str, Tensor]:
        return dict.fromkeys(self.models, self.net.running)


class Lazy(TinyWire):
    """A parameter that comes to be with the first step: a fresh wire does not have it."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        if not hasattr(self.net, "late"):
            self.net.late = nn.Parameter(torch.ones(()))
        return {side: x * self.net.late for side, x in super().prefix(batch).items()}


class HoldsModel(TinyWire):
    """One of the frozen models is a part of the module."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.net.receiver = self.models["b"].model


@pytest.mark.parametrize("kind", [TinyWire, Decoding])
def test_wir10_sound(kind: type[TinyWire]) -> None:
    output, untold = ask(learns_and_keeps, kind)
    assert output.severity("WIR10") == "ok"
    assert "5 tensors" in output.claim("WIR10")
    assert untold == ""


def test_wir10_tensors_in_a_plain_dict() -> None:
    output, _ = ask(learns_and_keeps, InADict)
    claims = [finding.claim for finding in output.of("WIR10")]
    assert {finding.severity for finding in output.of("WIR10")} == {"block"}
    stray = (
        "2 tensors that receive a gradient are in no module, and so in no state: tensor of shape 1, tensor of shape 1."
    )
    assert claims[0] == stray
    assert len(claims) == 2, "and the loaded wire is another"


def test_wir10_state_that_leaves_a_tensor_out() -> None:
    output, _ = ask(learns_and_keeps, LeavesOut)
    claims = [finding.claim for finding in output.of("WIR10")]
    assert claims == [
        "1 trained tensors are not in the state that the wire saves: embed.weight.",
        "Loaded into a wire of another seed, the state of a trained wire does not make it the same wire.",
    ]


@pytest.mark.parametrize("kind", [Counting, InABuffer])
def test_wir10_what_decides_and_is_not_saved(kind: type[TinyWire]) -> None:
    output, _ = ask(learns_and_keeps, kind)
    assert output.severity("WIR10") == "block"
    assert output.claim("WIR10").startswith("Loaded into a wire of another seed")


def test_wir10_a_state_that_does_not_load() -> None:
    class Renamed(TinyWire):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.net._register_state_dict_hook(lambda _m, state, *_: state.update({"x": state.pop("embed.weight")}))

    output, _ = ask(learns_and_keeps, Renamed)
    assert output.severity("WIR10") == "block"
    assert output.claim("WIR10") == "The wire's state, saved, is not loaded into another wire of the same settings."
    assert "embed.weight" in str(output.of("WIR10")[0].evidence[0].observed)


def test_wir10_a_state_that_cannot_be_saved() -> None:
    class Refuses(TinyWire):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.net.state_dict = None  # type: ignore[method-assign]

    output, _ = ask(learns_and_keeps, Refuses)
    assert output.severity("WIR10") == "block"
    assert output.claim("WIR10") == "The wire's state cannot be saved."


def test_wir10_frozen_model_in_the_state() -> None:
    output, _ = ask(learns_and_keeps, HoldsModel)
    warned = [finding for finding in output.of("WIR10") if finding.severity == "warn"]
    assert len(warned) == 1
    assert "tensors of the frozen models: receiver." in warned[0].claim


def test_wir10_entries_that_are_no_tensors() -> None:
    class Versioned(TinyWire):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)

            class Net(type(self.net)):
                def get_extra_state(self) -> dict[str, int]:
                    return {"version": 1}

                def set_extra_state(self, state: dict[str, int]) -> None:
                    assert state == {"version": 1}

            self.net.__class__ = Net

    output, _ = ask(learns_and_keeps, Versioned)
    assert [finding.severity for finding in output.of("WIR10")] == ["note", "ok"]


def test_wir10_shared_tensors_are_saved_once_each() -> None:
    class Tied(TinyWire):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.net.again = self.net.embed

    output, _ = ask(learns_and_keeps, Tied)
    assert output.severity("WIR10") == "ok"


def test_wir10_the_file_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with case_of() as case:
        saved = save(case.steady)
    assert saved.num_bytes == sum(p.numel() * 4 for p in case.steady.wire.module.parameters())
    assert list(tmp_path.iterdir()) == []
