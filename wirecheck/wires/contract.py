"""What a wire is to wirecheck: the one contract, for the wires it ships and for the user's own.

A wire is made by a factory from two frozen models; it owns one trainable module and turns a batch of texts into a loss.
Every check of a wire goes through these few names: nothing else of it is known.

    factory(a: WiredModel, b: WiredModel, settings: Settings) -> Wire
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable
from weakref import ReferenceType, ref

from torch import Tensor, nn

from wirecheck.schema import TrainSpec, WireSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SideName = Literal["a", "b"]
SIDES: tuple[SideName, ...] = ("a", "b")


class Batch(NamedTuple):
    """Texts of one step, row by row: what the wire reads, and what each model is to say."""

    sources: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class WiredModel:
    """One of the two models, as a factory is given it.

    `model` is what runs: the real weights, or a tiny random twin of the same class. As `from_pretrained` leaves it, it
    is in eval mode and every parameter asks for a gradient: to freeze it is the wire's part.
    """

    side: SideName
    name: str
    """The repository id, or the folder's name."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    num_layers: int
    """Layers of the real model; a twin has fewer (`model.config`)."""
    hidden_size: int
    """Width of the real model; a twin is narrower."""
    _own: Mapping[str, ReferenceType[nn.Parameter]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Notes which parameters the model has before a factory is given it."""
        object.__setattr__(self, "_own", {name: ref(p) for name, p in self.model.named_parameters()})

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Those the model had before a factory was given it, by their names then: what a wire adds is the wire's.

        A parameter that was taken out of the model and let go is not among them.
        """
        return {name: p for name, noted in self._own.items() if (p := noted()) is not None}

    @property
    def is_twin(self) -> bool:
        """Whether `model` is smaller than the model it stands for."""
        table = next(self.model.get_input_embeddings().parameters())
        return table.shape[-1] != self.hidden_size


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked of the wire and of the step."""

    wire: WireSpec
    train: TrainSpec
    seed: int
    """Every random number of a wire comes from here."""


class Wire(Protocol):
    """A wire between two frozen models."""

    @property
    def module(self) -> nn.Module:
        """Everything that is trained and saved, and nothing else: no parameter of a frozen model."""

    def loss(self, batch: Batch) -> Tensor | Mapping[str, Tensor]:
        """The loss of one step, scalar and differentiable; or its terms by name, which are summed."""


@runtime_checkable
class HasBackward(Protocol):
    """A wire with a schedule of its own, such as one model after the other."""

    def backward(self, batch: Batch) -> Mapping[str, Tensor]:
        """Forward and backward: gradients are left in `module`; the detached terms of the loss, by name."""


@runtime_checkable
class HasPrefix(Protocol):
    """A wire that can show the soft tokens it makes."""

    def prefix(self, batch: Batch) -> Mapping[SideName, Tensor]:
        """prefix_BMD of each model that gets one, before the cast to that model's dtype: what `loss` hands it."""


@runtime_checkable
class HasUncalibrated(Protocol):
    """A wire that can show its soft tokens before it brings them to the scale of a model's embeddings."""

    def uncalibrated(self, batch: Batch) -> Mapping[SideName, Tensor]:
        """x_BMD of each model that gets a prefix."""


@runtime_checkable
class Generates(Protocol):
    """A wire with a decoding loop of its own."""

    def generate(self, batch: Batch, max_new_tokens: int) -> Mapping[SideName, list[list[int]]]:
        """New token ids, greedy, row by row, for each model that answers; rows may end early at a stop token.

        Called with the models in eval mode, checkpointing off.
        """


Factory = Callable[[WiredModel, WiredModel, Settings], Wire]
