"""Peak memory of one training step of the wire, by arithmetic on declared sizes: a formula, not a trace.

    B batch   S positions   H hidden   I intermediate   V vocabulary   N heads   G key-value heads   K head width
    c bytes of the run's dtype   T source bytes   Z latent width   M latent slots

A frozen linear layer saves nothing for its input's gradient, so what a layer keeps per token is what the other
operations need: N, G and K from attention with a flash kernel (q, k, v, out, and a float32 log-sum), three I-wide
tensors around the gate, and the float32 input of each RMSNorm. Checked against traces of six families in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from wirecheck.schema import Level, MemoryEstimate, MemoryPart, TrainSpec, WireSpec
from wirecheck.vram.moments import Terms, alone, joint
from wirecheck.wires import frozen_parameters

T = TypeVar("T")
DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
FLOAT32 = 4
ENCODER_LAYERS = 6
ENCODER_SAVED = 17
"""Z-wide float32 tensors a layer of the bytes encoder saves per byte: x, q, k, v, out twice, sum, norm, 4 + 4, sum."""
ADAPTER_SAVED_Z = 11
ADAPTER_SAVED_D = 6
"""Z- and H-wide float32 tensors an adapter saves per soft token."""
SCORE_BYTES = 8
"""Per attention score of eager attention with soft-capping: tanh in 16 bits, softmax in 32 and again in 16."""
KNOWN_MARGIN = 0.10
"""Covers kernels for padded masks (4 % over flash) and what no formula sees: workspaces, fragmentation."""
UNKNOWN_MARGIN = 0.30


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a family's layers do beyond the plain pre-norm, gated, flash-attention decoder."""

    norms: int = 2
    """RMSNorms of width H per layer."""
    qk_norm: bool = False
    """Whether queries and keys are normalised per head."""
    eager: bool = False
    """Whether attention keeps its S x S scores."""


TRAITS: Mapping[str, Traits] = {
    "llama": Traits(),
    "mistral": Traits(),
    "ministral": Traits(),
    "mixtral": Traits(),
    "qwen2": Traits(),
    "phi3": Traits(),
    "granite": Traits(),
    "smollm3": Traits(),
    "gemma": Traits(),
    "qwen3": Traits(qk_norm=True),
    "qwen3_moe": Traits(qk_norm=True),
    "olmo2": Traits(qk_norm=True),
    "gemma2": Traits(norms=4, eager=True),
    "gemma3_text": Traits(norms=4, qk_norm=True),
    "gemma3": Traits(norms=4, qk_norm=True),
}
"""Model type -> traits, for the families whose layers were compared with a trace or are the same code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShape:
    """The sizes of one frozen model that its memory depends on."""

    side: Literal["a", "b"]
    model_type: str
    weight_bytes: int
    """All weights in the run's dtype, a tied table once."""
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    experts_per_token: int = 0
    """Experts that each token visits; 0 for a dense model."""
    expert_size: int = 0
    capped_logits: bool = False
    """Whether the logits pass a tanh, which keeps another copy."""
    reservations: tuple[str, ...] = ()
    """Sentences on what was assumed about this model."""

    @property
    def traits(self) -> Traits:
        """The family's traits; those of a plain decoder where the family is not known."""
        return TRAITS.get(self.model_type, Traits())

    @property
    def margin(self) -> float:
        """Stated relative error of the formula for this model."""
        return KNOWN_MARGIN if self.model_type in TRAITS and not self.reservations else UNKNOWN_MARGIN


def layer_bytes(shape: MemoryShape, batch: int, length: int, dtype: str) -> int:
    """What one layer keeps for its backward: Llama-3.1-8B at 8 x 512 in bfloat16 keeps 544.5 MiB, as traced."""
    c, tokens = DTYPE_BYTES[dtype], batch * length
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    attention = (2 * queries + 2 * keys) * c + shape.num_heads * FLOAT32
    if shape.traits.qk_norm:
        attention += (queries + keys) * FLOAT32
    if shape.experts_per_token:
        feed_forward = shape.experts_per_token * (3 * shape.expert_size + shape.hidden_size) * c
    else:
        feed_forward = 3 * shape.intermediate_size * c
    norms = shape.traits.norms * shape.hidden_size * FLOAT32
    scores = batch * shape.num_heads * length**2 * SCORE_BYTES if shape.traits.eager else 0
    return tokens * (attention + feed_forward + norms) + scores


def loss_bytes(shape: MemoryShape, batch: int, length: int, dtype: str, *, float32_copies: int = 3) -> int:
    """Logits in the run's dtype beside float32 copies: three while the loss is differentiated, one while it waits."""
    c = DTYPE_BYTES[dtype]
    copies = c * (2 if shape.capped_logits else 1) + float32_copies * FLOAT32
    return batch * length * shape.vocab_size * copies


def embedding_bytes(shape: MemoryShape, batch: int, length: int, dtype: str) -> int:
    """The input embeddings in the run's dtype and the final norm's float32 input."""
    return batch * length * shape.hidden_size * (DTYPE_BYTES[dtype] + FLOAT32)


def wire_activation_bytes(shapes: Iterable[MemoryShape], wire: WireSpec, batch: int) -> int:
    """What the encoder and the adapters keep for their backward, float32, for sources of the full `max_bytes`."""
    encoder = ENCODER_LAYERS * ENCODER_SAVED * wire.latent_width * wire.max_bytes
    adapters = sum(ADAPTER_SAVED_Z * wire.latent_width + ADAPTER_SAVED_D * shape.hidden_size for shape in shapes)
    return batch * FLOAT32 * (encoder + wire.prefix_length * adapters)


def estimate(
    a: MemoryShape, b: MemoryShape | None, wire: WireSpec, train: TrainSpec, trainable_parameters: int
) -> MemoryEstimate:
    """The peak of one step, at the worst of its moments. `b` None: model A alone, with its own adapter."""
    shapes = (a,) if b is None else (a, b)
    moments = _moments([terms(shape, wire, train) for shape in shapes], train)
    worst = max(moments, key=lambda parts: sum(part.bytes for part in parts))
    return MemoryEstimate(
        level=Level.INSPECTED,
        method="formula",
        parts=tuple(part for part in worst if part.bytes) + shared_parts(shapes, wire, train, trainable_parameters),
        assumptions=_assumptions(shapes, wire, train),
        margin=margin(shapes, wire),
    )


def margin(shapes: Sequence[MemoryShape], wire: WireSpec) -> float:
    """Stated relative error of the estimate."""
    return max(UNKNOWN_MARGIN if is_rough(wire) else 0.0, *(shape.margin for shape in shapes))


def terms(shape: MemoryShape, wire: WireSpec, train: TrainSpec) -> Terms[MemoryPart]:
    """What one model adds to the moments of a step."""
    length, alive = train.sequence_length(wire), forwards(wire)
    return Terms(
        weights=(_weights(shape, train),),
        graph=_graph(shape, length, train, alive),
        rest=_waiting(shape, length, train, alive - 1),
        logits=(_loss(shape, length, train, 0),),
        waiting=(_loss(shape, length, train, 1),),
        backward=(_loss(shape, length, train, 3),),
        done=(_times(_loss(shape, length, train, 0), alive),),
        again=(_again(shape, length, train),),
    )


def sums(shape: MemoryShape, wire: WireSpec, train: TrainSpec) -> Terms[int]:
    """The same in bytes alone: made once of a model, and good for every pair of it."""
    return terms(shape, wire, train).summed(lambda part: part.bytes, sum)


def peak_bytes(of: Sequence[Terms[int]], train: TrainSpec) -> int:
    """What the models themselves take at the worst moment; `shared_parts` come on top."""
    return max(map(sum, _moments(of, train)))


def _moments(of: Sequence[Terms[T]], train: TrainSpec) -> list[tuple[T, ...]]:
    if len(of) == 1 or train.resident == "sequential":
        return [moment for one in of for moment in alone(one)]
    return joint(*of)


def shared_parts(
    shapes: Sequence[MemoryShape], wire: WireSpec, train: TrainSpec, trainable_parameters: int
) -> tuple[MemoryPart, ...]:
    """What is in memory at every moment: of the models it depends on their hidden sizes alone."""
    return _trainable_parts(trainable_parameters, train) + _wire_parts(shapes, wire, train)


def forwards(wire: WireSpec) -> int:
    """Forwards of one frozen model whose graphs wait for the same backward: one for the answer, K for each of the
    losses on its first K tokens.
    """
    return sum(1 if loss == "answer" else wire.first_k for loss in wire.losses)


def is_rough(wire: WireSpec) -> bool:
    """Whether the formula was never compared with a trace of this wire."""
    return wire.name != "bytes" or wire.losses != ("answer",)


def lower_bound_bytes(a: MemoryShape, b: MemoryShape | None, train: TrainSpec, trainable_parameters: int) -> int:
    """What no schedule can do without: weights, trained parameters, their gradients and the optimizer's states."""
    weights = [shape.weight_bytes for shape in (a, b) if shape is not None]
    held = max(weights) if train.resident == "sequential" else sum(weights)
    return held + sum(part.bytes for part in _trainable_parts(trainable_parameters, train))


def _trainable_parts(parameters: int, train: TrainSpec) -> tuple[MemoryPart, ...]:
    states = 2 if train.optimizer == "adamw" else 0
    parts = (
        MemoryPart(name="encoder and adapters", bytes=parameters * FLOAT32, how=f"{parameters:,} parameters x 4 bytes"),
        MemoryPart(name="gradients", bytes=parameters * FLOAT32, how=f"{parameters:,} parameters x 4 bytes"),
        MemoryPart(
            name="optimizer states",
            bytes=parameters * FLOAT32 * states,
            how=f"{train.optimizer}: {states} x {parameters:,} parameters x 4 bytes",
        ),
    )
    return tuple(part for part in parts if part.bytes)


def _wire_parts(shapes: Iterable[MemoryShape], wire: WireSpec, train: TrainSpec) -> tuple[MemoryPart, ...]:
    if wire.name == "sentence-query":
        held = frozen_parameters(wire)
        return (MemoryPart(name="sentence encoder", bytes=held * FLOAT32, how=f"{held:,} frozen parameters x 4 bytes"),)
    if wire.name != "bytes":
        return ()  # small beside the frozen models' graphs, and stated in the assumptions
    how = f"{ENCODER_LAYERS} layers x {ENCODER_SAVED} float32 tensors x {train.batch} sources of {wire.max_bytes} bytes"
    amount = wire_activation_bytes(shapes, wire, train.batch)
    return (MemoryPart(name="encoder and adapter activations", bytes=amount, how=how),)


def _weights(shape: MemoryShape, train: TrainSpec) -> MemoryPart:
    return MemoryPart(name=f"weights {shape.side}", bytes=shape.weight_bytes, how=f"every weight in {train.dtype}")


def _kept(shape: MemoryShape, length: int, train: TrainSpec) -> MemoryPart:
    """What all layers keep between forward and backward."""
    name = f"layer activations {shape.side}"
    if train.grad_checkpointing:
        one = train.batch * length * shape.hidden_size * DTYPE_BYTES[train.dtype]
        how = f"checkpointing: {shape.num_layers} hidden states of {one:,} bytes"
    else:
        one = layer_bytes(shape, train.batch, length, train.dtype)
        how = f"{shape.num_layers} layers x {one:,} bytes"
    return MemoryPart(name=name, bytes=shape.num_layers * one, how=how)


def _embeddings(shape: MemoryShape, length: int, train: TrainSpec) -> MemoryPart:
    amount = embedding_bytes(shape, train.batch, length, train.dtype)
    return MemoryPart(name=f"embeddings {shape.side}", bytes=amount, how="input embeddings and the final norm's input")


def _loss(shape: MemoryShape, length: int, train: TrainSpec, copies: int) -> MemoryPart:
    amount = loss_bytes(shape, train.batch, length, train.dtype, float32_copies=copies)
    how = f"{train.batch} x {length} x {shape.vocab_size:,} logits in {train.dtype}"
    if copies:
        how += f" and {copies} float32 {'copy' if copies == 1 else 'copies'}"
    return MemoryPart(name=f"logits and loss {shape.side}", bytes=amount, how=how)


def _again(shape: MemoryShape, length: int, train: TrainSpec) -> MemoryPart:
    amount = layer_bytes(shape, train.batch, length, train.dtype) if train.grad_checkpointing else 0
    return MemoryPart(name=f"recomputed layer {shape.side}", bytes=amount, how="checkpointing: one layer at a time")


def _times(part: MemoryPart, count: int) -> MemoryPart:
    """`count` of that part at once."""
    if count == 1:
        return part
    return MemoryPart(name=part.name, bytes=part.bytes * count, how=f"{count} forwards x ({part.how})")


def _graph(shape: MemoryShape, length: int, train: TrainSpec, alive: int) -> tuple[MemoryPart, ...]:
    return (_times(_kept(shape, length, train), alive), _times(_embeddings(shape, length, train), alive))


def _waiting(shape: MemoryShape, length: int, train: TrainSpec, alive: int) -> tuple[MemoryPart, ...]:
    """Losses that are not yet differentiated: `alive` of them."""
    if alive == 0:
        return ()
    part = _times(_loss(shape, length, train, 1), alive)
    return (MemoryPart(name=f"waiting losses {shape.side}", bytes=part.bytes, how=part.how),)


def _assumptions(shapes: Iterable[MemoryShape], wire: WireSpec, train: TrainSpec) -> tuple[str, ...]:
    sentences = [
        "This is a formula on declared sizes, not a trace and not a measurement.",
        "The frozen models' parameters require no gradient, and no key-value cache is kept.",
        "Attention runs in a flash kernel; rows padded unevenly take a kernel that repeats keys and values.",
        "The loss is taken over the logits of every position, and the caller keeps the logits.",
        "The CUDA context, library workspaces and the allocator's fragmentation are not counted.",
    ]
    if train.resident == "sequential":
        sentences.append("One model is on the GPU at a time; the figures are those of the larger one.")
    if wire.is_own:
        sentences.append("Of the user's own wire nothing is counted: neither what it trains nor what it keeps.")
    elif wire.name != "bytes":
        sentences.append(f"What the wire {wire.name} keeps for its backward is not counted.")
    if forwards(wire) > 1:
        sentences.append(f"{forwards(wire)} forwards of each model wait for one backward, each of the full length.")
    for shape in shapes:
        if shape.traits.eager:
            sentences.append(f"Model {shape.side} keeps its attention scores, as eager attention does.")
        if shape.model_type not in TRAITS:
            sentences.append(
                f"Layers of type {shape.model_type} (model {shape.side}) were never compared with a trace: they are "
                "taken for plain gated pre-norm layers, hence the wider margin."
            )
        sentences += [f"Model {shape.side}: {words}" for words in shape.reservations]
    return tuple(sentences)
