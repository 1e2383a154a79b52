"""Which layers of a model transformers hands to bitsandbytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def layers_to_quantize(model: PreTrainedModel, skip: Sequence[str] | None) -> list[str]:
    """Names of the linear layers that would be replaced, by the library's own rules.

    `skip`: names to leave as they are; None leaves the head, what is tied and the last module. Experts that are kept in
    one tensor of three dimensions are no linear layers, and stay as they are.
    """
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept_wide = list(getattr(model, "_keep_in_fp32_modules", None) or [])
    left = HfQuantizer.get_modules_to_not_convert(model, None if skip is None else list(skip), kept_wide)
    return [
        name
        for name, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D)) and should_convert_module(name, left)
    ]
