"""What nearly every probe imports, imported once in the process that is forked, and not in every child.

Of transformers almost nothing is loaded by `import transformers`; a child that has to import one model's class pays two
seconds of processor time for it. Only the library's own modules are imported here: nothing of a repository is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from wirecheck.zoo import build, load_ghosts, quiet, transformers_library


def warm_up(model_types: Iterable[str]) -> None:
    """Import the library's classes of those types, and whatever building, filling and encoding needs."""
    import torch
    from transformers.models.auto import tokenization_auto  # noqa: F401 - is there in every child

    library = transformers_library()
    auto = library.AutoModelForCausalLM
    sizes = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 8, "num_hidden_layers": 1}
    with quiet():
        small = build(library.LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2), device="meta")
        tensors = {name: torch.empty(held.shape, device="meta") for name, held in small.state_dict().items()}
        load_ghosts(small, tensors, torch.float32)
        for kind in sorted(set(model_types)):
            with suppress(Exception):  # a type the library does not have, or cannot import here: the probe says so
                auto._model_mapping[type(library.AutoConfig.for_model(kind))]
