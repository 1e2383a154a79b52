"""Whether transformers' own quantizer for a checkpoint accepts this machine, its packages and its devices."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from wirecheck.zoo import quiet, told

_PIP = re.compile(r"`(pip install [^`]+)`|(pip install [\w\[\], .<>=-]*[\w\]])")


@dataclass(frozen=True)
class Answer:
    """What the quantizer says before it would load the weights."""

    refusal: str | None = None
    """Its error, in one line; None where it goes on."""
    install: str | None = None
    """The command that installs what it lacks, where its refusal names it."""
    wants_device: bool = False
    """Whether it refuses for want of a device, rather than of a package or a method it knows."""
    dequantizes: bool = False
    """Whether it goes on by reading plain numbers instead, for want of a device or a package."""


def accepts(declared: Mapping[str, Any]) -> Answer:
    """What transformers' quantizer for that `quantization_config` says of this machine. It loads torch."""
    try:
        with quiet(), _without_logs():
            from transformers.quantizers.auto import AutoHfQuantizer

            quantizer = AutoHfQuantizer.from_config(dict(declared), pre_quantized=True)
            before = getattr(quantizer.quantization_config, "dequantize", False)
            quantizer.validate_environment(device_map=None, weights_only=True)
            after = getattr(quantizer.quantization_config, "dequantize", False)
    except ModuleNotFoundError as error:
        return Answer(told(error), _install(str(error)) or (f"pip install {error.name}" if error.name else None))
    except Exception as error:  # noqa: BLE001 - the quantizer's, and its package's, own
        return Answer(told(error), _install(str(error)), isinstance(error, RuntimeError))
    return Answer(dequantizes=bool(after) and not before)


@contextmanager
def _without_logs() -> Iterator[None]:
    """A package may log what it lacks while it is imported."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _install(words: str) -> str | None:
    """The pip command in a sentence, safe to paste: `>` would be read by the shell."""
    found = _PIP.search(words)
    try:
        return shlex.join(shlex.split(found[1] or found[2])) if found else None
    except ValueError:  # a quote that is not closed
        return None
