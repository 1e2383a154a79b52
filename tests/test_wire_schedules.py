"""A wire's own `backward` against its `loss`: WIR02 where the gradients differ, WIR01 where the terms do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import benches, rigs
from tests.tiny_wires import TinyWire
from tests.wire_cases import ask
from wirecheck.probes import wiring
from wirecheck.probes.wire_use import WIRE_USE
from wirecheck.probes.wire_use_schedule import schedules
from wirecheck.schema import TrainSpec
from wirecheck.wires.contract import Batch


class Scheduled(TinyWire):
    """One model after the other, from one latent; the gradient of each is handed on to it."""

    scale = 1.0
    told = 1.0
    lost: tuple[str, ...] = ()
    """Sides whose gradient is not handed on."""

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        latent, terms = self.net.latent, {}
        z = latent(batch.sources)
        leaf = z.detach().requires_grad_()
        cut = z.detach()
        for side in self.models:
            self.net.latent = lambda _sources, side=side: cut if side in self.lost else leaf
            try:
                loss = self.side_loss(side, self.sequence(side, batch, self.prefix(batch)[side]))
            finally:
                self.net.latent = latent
            (self.scale * loss).backward()
            terms[side] = self.told * loss.detach()
        z.backward(leaf.grad)
        return terms


class Scaled(Scheduled):
    """As for a step of four batches."""

    scale = 0.25


class ScaledAndTold(Scaled):
    told = 0.25


class LosesA(Scheduled):
    lost = ("a",)


class Ascends(Scheduled):
    scale = -1.0


class TellsHalf(Scheduled):
    told = 0.5


class Stray(Scheduled):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.gain = torch.ones(3, requires_grad=True)

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x * self.gain.mean() for side, x in super().prefix(batch).items()}


class Random(Scheduled):
    """Draws for each side, in eval mode too; the schedule draws in another order."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x + 0.1 * self.rms[side] * torch.randn_like(x) for side, x in super().prefix(batch).items()}


@pytest.mark.parametrize("kind", [Scheduled, Scaled, ScaledAndTold])
def test_wir02_not_on_a_schedule_that_differentiates_the_loss(kind: type[TinyWire]) -> None:
    output, untold = ask(schedules, kind)
    assert (output.fired, untold) == (set(), "")
    claim = "The gradients that the wire's `backward` leaves are those of its `loss`, up to one factor for all."
    assert output.claim("WIR02") == claim
    assert output.of("WIR02")[0].evidence[1].observed == pytest.approx(kind.scale)


def test_wir02_a_schedule_that_loses_the_gradient_of_one_model() -> None:
    output, _ = ask(schedules, LosesA)
    assert output.fired == {"WIR02"}
    assert output.severity("WIR02") == "block"
    assert output.claim("WIR02").startswith("In 1 of 5 trained tensors")
    assert output.claim("WIR02").endswith("that of its `loss`: embed.weight.")


def test_wir02_a_schedule_that_ascends() -> None:
    output, _ = ask(schedules, Ascends)
    assert output.severity("WIR02") == "block"
    assert output.claim("WIR02").startswith("In 5 of 5 trained tensors")


def test_wir01_terms_that_are_not_the_loss() -> None:
    output, _ = ask(schedules, TellsHalf)
    assert output.fired == {"WIR01"}
    assert output.severity("WIR01") == "warn"


def test_wir10_a_stray_of_a_wire_with_a_schedule_of_its_own() -> None:
    output, _ = ask(schedules, Stray)
    assert output.fired == {"WIR10"}
    assert output.claim("WIR10").endswith("in no state: tensor of shape 3.")


def test_random_numbers_leave_it_open() -> None:
    output, untold = ask(schedules, Random)
    assert output.findings == ()
    assert "draws random numbers in eval mode" in untold


def test_a_wire_without_a_schedule_is_asked_nothing() -> None:
    output, untold = ask(schedules)
    assert (output.findings, untold) == ((), "")


def test_the_shipped_wire_s_schedule_differentiates_its_loss() -> None:
    bench = rigs.bench(train=TrainSpec(dtype="float32", resident="sequential"))
    output, untold = ask(schedules, wiring.factory(bench), bench)
    assert (output.fired, untold) == (set(), "")
    assert output.severity("WIR02") == "ok"


def test_the_probe_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "factory", lambda _bench: LosesA)
    assert benches.run(WIRE_USE, rigs.bench()).severity("WIR02") == "block"
