"""A model of full width with few layers: one of each kind, so that a trace of it sees what every layer allocates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.shrink_layers import layers_to_keep, num_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def make_thin(model: PreTrainedModel) -> None:
    """Drop the layers that are of a kind already there, from the model and from its config, which must be its own.

    Layers are kept as a twin keeps them: those that the config tells apart, and two at least. CannotRun where the
    model's list of layers is not found.
    """
    config = zoo.text_config(model.config)
    fields = config.to_dict()
    total, kept = num_layers(fields), layers_to_keep(fields)
    lists = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if _is_list(child, total)
    ]
    if not kept or len(lists) != 1:
        raise CannotRun(
            f"{len(lists)} lists of {total} layers in {type(model).__name__}: which are its layers is not known"
        )
    ((parent, name),) = lists
    layers = getattr(parent, name)
    setattr(parent, name, nn.ModuleList(layers[index] for index in kept))
    for key, value in fields.items():
        if isinstance(value, list) and len(value) == total:
            setattr(config, key, [value[index] for index in kept])
    config.num_hidden_layers = len(kept)


def _is_list(module: nn.Module, length: int) -> bool:
    return isinstance(module, nn.ModuleList) and len(module) == length
