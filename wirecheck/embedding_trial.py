"""What a causal model does with `inputs_embeds`, measured: no judgement here, and nothing but torch.

B rows, T positions, D width, V vocabulary.
"""
# ruff: noqa: N803, N806, N815  # shape-suffixed tensor names

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Any, cast

from wirecheck.limits import within_means

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ROWS, POSITIONS = 2, 12
SLACK = 8
"""Rounding steps of the dtype, at the size of the largest logit, that two ways of the same sum may differ by."""
SAME = 0.01
"""Relative difference below which two sizes are one: classes round their factors to bfloat16."""
_BLOCK_ROWS = 16384

REFUSALS = (
    *(ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError),
    *(KeyError, IndexError, AssertionError),
)
"""What a forward raises that does not take its input; anything else is a crash."""


@dataclass
class Trial:
    """One model, and token ids spread over its whole vocabulary to try it with."""

    model: PreTrainedModel
    seed: int
    quiet: Callable[[], AbstractContextManager[None]]
    """Entered around every forward, so that the class's advice stays off the screen."""
    ids_BT: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Draw the ids."""
        ids_BT = some_ids(self._num_words(), special_ids(self.model.config), self.seed)
        self.ids_BT = ids_BT.to(self.table_VD.device)

    def _num_words(self) -> int:
        """Rows of the table that the head has too: Mllama's table ends with rows of its images, which no logit has."""
        model: Any = self.model
        head = getattr(model.get_output_embeddings(), "weight", None)
        rows = self.table_VD.shape[0]
        return rows if head is None else min(rows, head.shape[0])

    @property
    def table_VD(self) -> torch.Tensor:  # noqa: N802  # shape-suffixed
        """The embedding's weight."""
        return cast("torch.Tensor", self._embedding.weight).detach()

    @property
    def _embedding(self) -> torch.nn.Module:
        return self.model.get_input_embeddings()

    def logits(self, **inputs: torch.Tensor) -> torch.Tensor:
        """BTV, of a forward without a cache; inputs are cloned, since some classes change their caller's tensor.

        CannotRun where it is this machine that cannot; otherwise raises as the class does.
        """
        with within_means(), self.quiet():
            out = self.model(**{name: tensor.clone() for name, tensor in inputs.items()}, use_cache=False)
        return cast("torch.Tensor", out.logits)

    def embed(self) -> torch.Tensor:
        """BTD: what the class's own embedding module makes of the ids."""
        return cast("torch.Tensor", self._embedding(self.ids_BT.clone())).detach()

    def nudged(self, embeds_BTD: torch.Tensor) -> torch.Tensor:
        """BTD: the last position's vectors moved by noise of their own size, so that no row of the table is left."""
        import torch

        generator = torch.Generator().manual_seed(self.seed + 1)
        noise_BD = torch.randn(embeds_BTD[:, -1].shape, generator=generator).to(embeds_BTD)
        moved_BTD = embeds_BTD.clone()
        moved_BTD[:, -1] += noise_BD * rms(embeds_BTD)
        return moved_BTD

    def id_leak(self) -> float:
        """How far the logits move when the ids change and the embedding module's output is held fixed."""
        outputs: list[torch.Tensor] = []

        def hold(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            outputs.append(output)
            return outputs[0].clone()

        handle = self._embedding.register_forward_hook(hold)
        try:
            first_BTV = self.logits(input_ids=self.ids_BT)
            other_BTV = self.logits(input_ids=self.ids_BT.flip(0, 1))
        finally:
            handle.remove()
        return gap(first_BTV, other_BTV)

    def gradient(self, embeds_BTD: torch.Tensor) -> torch.Tensor | None:
        """BTD: of the next-token loss with respect to the embeds; None where none comes. Raises as `logits` does."""
        import torch
        from torch.nn.functional import cross_entropy

        leaf_BTD = embeds_BTD.clone().requires_grad_()
        with torch.enable_grad():
            scores_NV = self.logits(inputs_embeds=leaf_BTD)[:, :-1].flatten(0, 1).float()
            loss = cross_entropy(scores_NV, self.ids_BT[:, 1:].flatten())
            with within_means(), self.quiet():
                loss.backward()  # type: ignore[no-untyped-call]
        return leaf_BTD.grad

    def module_factor(self) -> float | None:
        """c, to four digits, where embed(ids) = c * weight[ids]; None where there is no such c."""
        given, rows = self.embed().float(), self.table_VD[self.ids_BT].float()
        if given.shape != rows.shape:
            return None
        factor = float((given * rows).sum() / (rows * rows).sum())
        fits = rms(given - factor * rows) <= SAME * rms(given)  # false where anything is NaN
        return float(f"{factor:.4g}") if fits else None

    def first_block_rms(self, embeds_BTD: torch.Tensor) -> float | None:
        """RMS of the hidden state the first layer is given; None where the class has no list of layers.

        It is the first list of the class that runs on text: a wrapper's vision tower stands before its layers.
        """
        import torch

        firsts = [m[0] for m in self.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 0]
        received: dict[torch.nn.Module, float] = {}

        def look(module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            tensors = (t for t in (*inputs, *named.values()) if isinstance(t, torch.Tensor))
            state = next((t for t in tensors if t.is_floating_point()), None)
            if state is not None:
                received.setdefault(module, rms(state))

        handles = [first.register_forward_pre_hook(look, with_kwargs=True) for first in firsts]
        try:
            self.logits(inputs_embeds=embeds_BTD)
        finally:
            for handle in handles:
                handle.remove()
        return next((received[first] for first in firsts if first in received), None)

    def table_rms(self) -> float:
        """RMS over all rows, summed in float32 a block at a time: the table may be gigabytes of bfloat16."""
        table_VD = self.table_VD
        starts = range(0, len(table_VD), _BLOCK_ROWS)
        total = sum((float(table_VD[s : s + _BLOCK_ROWS].float().square().sum()) for s in starts), start=0.0)
        return sqrt(total / table_VD.numel())


def some_ids(rows: int, avoided: set[int], seed: int) -> torch.Tensor:
    """BT ids, one from each of B*T equal stretches of the vocabulary, shuffled by `seed`; none to be avoided."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    wanted = ROWS * POSITIONS
    stretch = max(1, rows // wanted)
    starts = torch.arange(wanted) * stretch % rows
    ids = (starts + torch.randint(stretch, (wanted,), generator=generator)) % rows
    ids = ids[torch.randperm(wanted, generator=generator)]
    instead = next((i for i in range(rows // 2, rows) if i not in avoided), 0)
    ids[torch.isin(ids, torch.tensor(sorted(avoided), dtype=ids.dtype))] = instead
    return ids.view(ROWS, POSITIONS)


def special_ids(config: Any) -> set[int]:
    """The padding, BOS and EOS ids a config declares."""
    values = (getattr(config, f"{role}_token_id", None) for role in ("pad", "bos", "eos"))
    return {i for v in values for i in (v if isinstance(v, list | tuple) else [v]) if isinstance(i, int)}


def rms(tensor: torch.Tensor) -> float:
    """Root of the mean square, in float32."""
    return float(tensor.detach().float().square().mean().sqrt())


def gap(left: torch.Tensor, right: torch.Tensor) -> float:
    """Largest absolute difference, in float32; NaN where either holds one."""
    return float((left.float() - right.float()).abs().max()) if left.numel() else 0.0


def rounding_step(logits: torch.Tensor) -> float:
    """The spacing of the dtype at the largest logit."""
    import torch

    return torch.finfo(logits.dtype).eps * float(logits.float().abs().max())


def tolerance(logits: torch.Tensor) -> float:
    """What rounding alone may make of logits of this size and dtype: `SLACK` steps."""
    return SLACK * rounding_step(logits)
