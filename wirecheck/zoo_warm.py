"""What nearly every probe imports, imported once in the process that is forked, and not in every child.

Of transformers almost nothing is loaded by `import transformers`; a child that has to import one model's class pays two
seconds of processor time for it. Only the library's own modules are imported here: nothing of a repository is read.

Ctrl-C waits until that is done: inside torch's import, C++ that calls Python aborts the process by it, and callbacks of
the import drop it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from wirecheck.interrupts import undisturbed
from wirecheck.zoo import build, load_ghosts, quiet, transformers_library


@cache
@undisturbed
def import_libraries() -> None:
    """torch, and of transformers what every probe beyond the files needs.

    A confined child may write no byte code: without that, packages that came without any would be compiled each time.
    """
    # Whether CUDA is there is then asked of its driver's library alone: CUDA itself does not survive a fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch  # noqa: F401 - for the children, as the next line
    from transformers.models.auto import modeling_auto, tokenization_auto  # noqa: F401

    transformers_library()


@cache
@undisturbed
def import_class(model_type: str) -> None:
    """The library's class of that type, where it has one and can import it here: else the probe says so."""
    library = transformers_library()
    with quiet(), suppress(Exception):
        library.AutoModelForCausalLM._model_mapping[type(library.AutoConfig.for_model(model_type))]


@undisturbed
def warm_up(model_types: Iterable[str]) -> None:
    """Import the library's classes of those types, and whatever building, filling and encoding needs."""
    import torch

    import_libraries()
    library = transformers_library()
    sizes = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 8, "num_hidden_layers": 1}
    with quiet():
        small = build(library.LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2), device="meta")
        tensors = {name: torch.empty(held.shape, device="meta") for name, held in small.state_dict().items()}
        load_ghosts(small, tensors, torch.float32)
    for kind in sorted(set(model_types)):
        import_class(kind)
