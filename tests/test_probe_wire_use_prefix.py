"""The soft tokens that a wire shows against those it hands the models (WIR01)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.wire_cases import LeftPadded, TinyWire, ask
from wirecheck.probes.wire_use_prefix import shows_its_own
from wirecheck.wires.contract import Batch
from wirecheck.wires.own import _lacking


class Showing(TinyWire):
    """Its loss rests on soft tokens made by another method than the one that shows them."""

    def loss(self, batch: Batch) -> Any:
        made = self.handed(batch)
        return {side: self.side_loss(side, self.sequence(side, batch, made[side])) for side in self.models}

    def handed(self, batch: Batch) -> dict[str, Tensor]:
        """The soft tokens of the loss."""
        return TinyWire.prefix(self, batch)


class Casting(TinyWire):
    """Its loss runs under an autocast, and what it shows does not."""

    def loss(self, batch: Batch) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().loss(batch)


class OnlyB(Showing):
    """Shows one model's."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {"b": self.handed(batch)["b"]}


class Uncalibrated(Showing):
    """Shows them before they are brought to scale."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: 3 * x_BMD for side, x_BMD in self.handed(batch).items()}


class Drawing(Showing):
    """Draws its latent also in eval mode, after other random numbers."""

    def handed(self, batch: Batch) -> dict[str, Tensor]:
        torch.randn(3)
        return self.prefix(batch)

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x_BMD + 0.1 * torch.randn_like(x_BMD) for side, x_BMD in super().prefix(batch).items()}


@pytest.mark.parametrize("kind", [TinyWire, LeftPadded, Casting])
def test_wir01_a_prefix_that_is_handed(kind: type[TinyWire]) -> None:
    output, untold = ask(shows_its_own, kind)
    assert ([f.severity for f in output.of("WIR01")], untold) == (["ok", "ok"], "")


def test_wir01_a_prefix_of_one_model() -> None:
    output, _ = ask(shows_its_own, OnlyB)
    assert [f.claim for f in output.findings] == ["The soft tokens that `prefix` gives for B are those it is handed."]


def test_wir01_a_prefix_that_is_not_handed() -> None:
    output, _ = ask(shows_its_own, Uncalibrated)
    assert [(f.severity, f.claim) for f in output.of("WIR01")] == [
        ("warn", f"The soft tokens that `prefix` gives for {name} are not among the embeddings that {name} is handed.")
        for name in "AB"
    ]


def test_wir01_a_prefix_that_is_drawn_cannot_be_told() -> None:
    output, _ = ask(shows_its_own, Drawing)
    assert [f.severity for f in output.of("WIR01")] == ["note", "note"]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "TypeError"),
        ({"B": torch.zeros(3, 4, 64)}, "'B' named"),
        ({"b": [1.0]}, "b is a list"),
        ({"b": torch.zeros(4, 64)}, "b is [4, 64] float32, for 3 rows of soft tokens of width 64"),
        ({"b": torch.zeros(1, 4, 64)}, "b is [1, 4, 64] float32, for 3 rows"),
        ({"b": torch.zeros(3, 4, 48)}, "of width 64"),
    ],
)
def test_wir01_a_prefix_that_fails_or_is_of_another_form(made: Any, words: str) -> None:
    class Forming(Showing):
        def prefix(self, _batch: Batch) -> Any:
            return made

    output, untold = ask(shows_its_own, Forming)
    (found,) = output.findings
    assert (found.code, found.severity, untold) == ("WIR01", "warn", "")
    assert words in str(found.evidence[0].observed)


def test_wir01_optional_members_that_cannot_be_called() -> None:
    wire = type("Wire", (), {"module": torch.nn.Linear(1, 1), "loss": len, "uncalibrated": 3})()
    assert _lacking(wire) == ["its `uncalibrated` cannot be called"]
