"""What a causal model makes of `inputs_embeds` once it is used: generation, the cache, the caller's own tensors.

Observations on a `Trial`, no judgement. B rows, T positions, N new tokens, D width, V vocabulary.
"""
# ruff: noqa: N803, N806, N815  # shape-suffixed tensor names

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from wirecheck.embedding_trial import Trial, gap
from wirecheck.limits import within_means

if TYPE_CHECKING:
    import torch

NEW_TOKENS = 3
"""Asked of `generate`: at two, the cache has been read once; at three, what was written by hand is read too."""
CONTINUED = 4
"""Positions at the end of the row that are read through the cache."""
REORDERED = 256
"""Rounding steps of the dtype, at the size of the largest logit, that another order of the same sums may cost: a cache,
a state carried step by step and padding all sum in another order than one plain forward."""
CACHES = ("past_key_values", "cache_params", "state", "mems", "past_buckets_states")
"""Names a class's output gives its cache, and its forward takes it back by."""

Way = Literal["mask and positions", "mask", "neither"]
"""What a hand-written decoding loop passes beside the next ids: the mask of all positions, their numbers."""


def reordered(logits: torch.Tensor) -> float:
    """What another order of the same sums may make of logits of this size and dtype: `REORDERED` rounding steps."""
    import torch

    return REORDERED * torch.finfo(logits.dtype).eps * float(logits.float().abs().max())


# --- generation --------------------------------------------------------------------------------------------------


def generate(trial: Trial, embeds_BTD: torch.Tensor, *, with_mask: bool) -> torch.Tensor:
    """BN int64: what `model.generate` returns for embeds, greedy, `NEW_TOKENS` asked, nothing stopping it early.

    Raises as the class does; CannotRun where it is this machine that cannot.
    """
    import torch

    mask = {"attention_mask": torch.ones_like(embeds_BTD[..., 0], dtype=torch.long)} if with_mask else {}
    with torch.no_grad(), within_means(), trial.quiet(), _plain_generation(trial) as plain:
        model: Any = trial.model
        new_BN = model.generate(inputs_embeds=embeds_BTD.clone(), generation_config=plain, **mask)
    return cast("torch.Tensor", new_BN)


@contextmanager
def _plain_generation(trial: Trial) -> Iterator[Any]:
    """The model's generation config replaced by a bare greedy one: no stop token, penalty or forced token."""
    model: Any = trial.model
    held = model.generation_config
    model.generation_config = type(held)(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, use_cache=True)
    try:
        yield model.generation_config
    finally:
        model.generation_config = held


def shortfall(trial: Trial, embeds_BTD: torch.Tensor, new_BN: torch.Tensor) -> tuple[float, float]:
    """By how much the worst of the new tokens misses the largest logit, and what reordered sums may make of it.

    One uncached forward over the embeds and the new tokens' own: in a causal model its logits are those of a greedy
    loop of full forwards, as long as the tokens are that loop's.
    """
    import torch

    embedding = trial.model.get_input_embeddings()
    with torch.no_grad():
        whole_BSD = torch.cat((embeds_BTD, embedding(new_BN[:, :-1]).to(embeds_BTD)), dim=1)
        logits_BNV = trial.logits(inputs_embeds=whole_BSD)[:, embeds_BTD.shape[1] - 1 :].float()
    chosen_BN = logits_BNV.gather(-1, new_BN[..., None])[..., 0]
    return float((logits_BNV.amax(-1) - chosen_BN).max()), reordered(logits_BNV)


# --- the cache ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cached:
    """The last `CONTINUED` positions read through the cache, the prefix by embeds."""

    trial: Trial
    embeds_BTD: torch.Tensor
    full_BTV: torch.Tensor
    """Logits of the plain forward over all positions."""

    @property
    def prefix(self) -> int:
        """Positions given by embeds."""
        return self.embeds_BTD.shape[1] - CONTINUED

    def keeps(self) -> str | None:
        """The name of the cache that the class returns after embeds; None where it returns none."""
        found = self._filled("mask and positions")
        return None if found is None else found[0]

    def gap(self, way: Way, *, at_once: bool = False, short_mask: bool = False) -> float:
        """Largest difference from the plain forward, the positions read one by one, or all `at_once`.

        `short_mask`: a mask of the new positions alone, the trap of hand-written loops. Raises as the class does.
        """
        import torch

        found = self._filled(way)
        if found is None:
            raise ValueError("no cache comes back")
        name, cache = found
        size, total = CONTINUED if at_once else 1, self.embeds_BTD.shape[1]
        read: list[torch.Tensor] = []
        for start in range(self.prefix, total, size):
            first = start if short_mask else 0
            out = self._forward(
                {"input_ids": self.trial.ids_BT[:, start : start + size].clone(), name: cache},
                self._beside(way, first, start, start + size),
            )
            cache = getattr(out, name)
            read.append(out.logits)
        return gap(torch.cat(read, dim=1), self.full_BTV[:, self.prefix :])

    def _filled(self, way: Way) -> tuple[str, Any] | None:
        beside = self._beside(way, 0, 0, self.prefix)
        out = self._forward({"inputs_embeds": self.embeds_BTD[:, : self.prefix].clone()}, beside)
        return next(((name, held) for name in CACHES if (held := getattr(out, name, None)) is not None), None)

    def _forward(self, inputs: dict[str, Any], beside: dict[str, torch.Tensor]) -> Any:
        import torch

        with torch.no_grad(), within_means(), self.trial.quiet():
            return self.trial.model(**inputs, **beside, use_cache=True)

    def _beside(self, way: Way, first: int, start: int, end: int) -> dict[str, torch.Tensor]:
        """The mask of positions `first` to `end`, and the numbers of those from `start`, where the way has them."""
        import torch

        mask_BT = torch.ones_like(self.embeds_BTD[:, first:end, 0], dtype=torch.long)
        numbers_BT = mask_BT.new_tensor(range(start, end)).repeat(len(mask_BT), 1)
        mask, numbers = {"attention_mask": mask_BT}, {"position_ids": numbers_BT}
        return (mask if "mask" in way else {}) | (numbers if "positions" in way else {})


# --- the caller's tensors ----------------------------------------------------------------------------------------


def changed_inputs(trial: Trial, embeds_BTD: torch.Tensor) -> tuple[tuple[str, ...], float]:
    """Names of the tensors that a forward changes in its caller's hands, and how far a second forward with the same
    tensors then is from the first. Raises as the class does.
    """
    import torch

    given = {
        "inputs_embeds": embeds_BTD.clone(),
        "attention_mask": torch.ones_like(embeds_BTD[..., 0], dtype=torch.long),
    }
    before = {name: tensor.clone() for name, tensor in given.items()}
    with torch.no_grad(), within_means(), trial.quiet():
        first = trial.model(**given, use_cache=False).logits.clone()
        names = tuple(name for name, tensor in given.items() if not torch.equal(tensor, before[name]))
        moved = gap(first, trial.model(**given, use_cache=False).logits) if names else 0.0
    return names, moved
