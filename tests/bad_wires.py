"""Wires with one planted fault each, made from the sound tiny one; and factories that do what no factory should."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny_wires import TinyWire
from wirecheck.wires.contract import Batch, Settings, WiredModel

FOR_EVER = 600.0


# --- wires that run, and are wrong -------------------------------------------------------------------------------


class ShiftedTwice(TinyWire):
    """Labels already shifted, for a model that shifts them."""

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        inputs = super().sequence(side, batch, prefix_BMD)
        labels_BS = inputs["labels"]
        inputs["labels"] = torch.cat((labels_BS[:, 1:], torch.full_like(labels_BS[:, :1], -100)), dim=1)
        return inputs


class Thawed(TinyWire):
    """Nothing is frozen."""

    def freeze(self) -> None:
        pass


class Deaf(TinyWire):
    """The prefix is made without the source."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return super().prefix(batch._replace(sources=tuple("x" * 40 for _ in batch.sources)))


class Forgetful(TinyWire):
    """A tensor that decides the output is drawn at the start and not saved."""

    def __init__(self, a: WiredModel, b: WiredModel, settings: Settings) -> None:
        super().__init__(a, b, settings)
        generator = torch.Generator().manual_seed(settings.seed)
        self.turn_ZZ = torch.randn(2 * [settings.wire.latent_width], generator=generator) / 8
        latent = self.net.latent
        self.net.latent = lambda sources: latent(sources) @ self.turn_ZZ  # type: ignore[method-assign]


class Stray(TinyWire):
    """A tensor is trained that is in no module."""

    def __init__(self, a: WiredModel, b: WiredModel, settings: Settings) -> None:
        super().__init__(a, b, settings)
        self.gain = nn.Parameter(torch.tensor(1.0))

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: prefix_BMD * self.gain for side, prefix_BMD in super().prefix(batch).items()}


class MixedDtypes(TinyWire):
    """The prefix stays float32 whatever the model is in."""

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        inputs = super().sequence(side, batch, prefix_BMD)
        M = prefix_BMD.shape[1]
        inputs["inputs_embeds"] = torch.cat((prefix_BMD, inputs["inputs_embeds"][:, M:].float()), dim=1)
        return inputs


# --- wires that do not return ------------------------------------------------------------------------------------


class Doing(TinyWire):
    """Does something before its loss."""

    act: Callable[[], Any]

    def loss(self, batch: Batch) -> Any:
        self.act()
        return super().loss(batch)


def _doing(act: Callable[[], Any]) -> type[TinyWire]:
    return type("Doing", (Doing,), {"act": staticmethod(act)})


def _fail() -> None:
    raise ZeroDivisionError("no tokens in this row")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _descend() -> None:
    _descend()


def _chatter() -> None:
    for _ in range(300):
        sys.stdout.write("x" * 10_000 + "\n")
        os.write(2, b"y" * 10_000)
    os.system("echo from a shell; echo and its errors >&2")


def _print_for_ever() -> None:
    while True:
        sys.stdout.write("again and again\n")


raising, exiting, leaving = _doing(_fail), _doing(partial(sys.exit, 3)), _doing(partial(os._exit, 7))
hanging, interrupting, descending = _doing(partial(time.sleep, FOR_EVER)), _doing(_interrupt), _doing(_descend)
killed, broken = (_doing(partial(lambda n: os.kill(os.getpid(), n), n)) for n in (signal.SIGKILL, signal.SIGSEGV))
chattering, drowning = _doing(_chatter), _doing(_print_for_ever)


# --- factories ---------------------------------------------------------------------------------------------------


def refusing(a: WiredModel, b: WiredModel, settings: Settings) -> TinyWire:
    """Raises."""
    raise LookupError("no checkpoint of the encoder")


def nothing(a: WiredModel, b: WiredModel, settings: Settings) -> None:
    """Forgets its return."""


def dictionary(a: WiredModel, b: WiredModel, settings: Settings) -> dict[str, Any]:
    """Returns parts and no wire."""
    return {"module": nn.Linear(2, 2), "loss": len}


def hollow(a: WiredModel, b: WiredModel, settings: Settings) -> Any:
    """Returns a wire whose module is none."""
    wire = TinyWire(a, b, settings)
    return type("Hollow", (), {"module": [wire.net], "loss": wire.loss})()


def alone(a: WiredModel) -> None:
    """Takes too few arguments."""


class Wordy(TinyWire):
    """Its loss is a text."""

    def loss(self, batch: Batch) -> Any:
        return "0.7"


SOUND, NUMBER = TinyWire, 3
