"""Which GPU `device_map="auto"` puts each part of a model on: the library's own inference, told of GPUs not here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.zoo import quiet, told

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def device_map(model: PreTrainedModel, room: Mapping[int, int]) -> dict[str, int]:
    """Module or parameter -> GPU, as `from_pretrained(device_map="auto")` finds it with `room` bytes free on each.

    CannotRun where a part would be left to the CPU or the disk, or the library fails on the class.
    """
    from transformers.integrations.accelerate import _get_device_map

    try:
        with quiet(), _no_warning_of_absent_gpus():
            found = _get_device_map(model, "auto", dict(room), None)
    except Exception as error:  # the library may raise anything on a class it was not written for
        raise CannotRun(f"transformers finds no device_map for {type(model).__name__}: {told(error)}") from error
    left = [name or "the whole model" for name, where in found.items() if not isinstance(where, int)]
    if left:
        beside = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise CannotRun(f'device_map="auto" leaves {left[0]}{beside} to the CPU or the disk')
    return {name: int(where) for name, where in found.items()}


@contextmanager
def _no_warning_of_absent_gpus() -> Iterator[None]:
    logger = logging.getLogger("accelerate.utils.modeling")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
