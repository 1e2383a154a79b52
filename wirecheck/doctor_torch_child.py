"""Run in a process of its own: what torch says of itself and of this machine, as one line of JSON, the last on stdout.

A torch that cannot be imported, that hangs or that ends its process does so here. It imports nothing of wirecheck.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

ALLOCATOR_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
HARMLESS = "expandable_segments:False"
"""The default, set where the user sets nothing: whether torch then tells it shows whether it reads that name."""


def told() -> dict[str, Any]:
    """Everything that doctor_torch.Told holds."""
    if not any(os.environ.get(name) for name in ALLOCATOR_NAMES):
        os.environ[ALLOCATOR_NAMES[0]] = HARMLESS
    import torch

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = {"version": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip}
        found |= _devices() | _allocator()
    return found | {"warnings": [str(one.message).strip().splitlines()[0] for one in heard if str(one.message).strip()]}


def _devices() -> dict[str, Any]:
    """The accelerators, and whether each of them adds two numbers."""
    import torch

    names: list[str] = []
    failed = None
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    if kind is not None:
        try:
            names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if kind == "cuda" else []
            for place in [f"{kind}:{n}" for n in range(len(names))] or [kind]:
                if (torch.ones(2, device=place) + 1).sum().item() != 4:  # noqa: PLR2004
                    failed = f"1 + 1 is not 2 on {place}"
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            failed = _words(error)
    return {"kind": kind, "devices": names, "failed": failed}


def _allocator() -> dict[str, Any]:
    """The setting as torch read it from the environment, and whether it knows an option when it sees one."""
    import torch

    read = getattr(torch._C, "_accelerator_getAllocatorSettings", None)
    give = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
    if read is None or give is None:
        return {"observable": False, "setting": None, "refused": None, "knows_options": False}
    try:
        setting = read()
    except Exception as error:  # noqa: BLE001 - the parser's own
        return {"observable": True, "setting": None, "refused": _words(error), "knows_options": False}
    try:
        give("no_option_of_this_name:1")
        knows = False
    except Exception:  # noqa: BLE001
        knows = True
    return {"observable": True, "setting": setting, "refused": None, "knows_options": knows}


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:300]}"


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(told()) + "\n")
