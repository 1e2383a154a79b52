"""What is imported once, in the process that every mutant is forked from."""

from __future__ import annotations

import importlib

LIBRARIES = ("jsonschema", "junitparser", "markdown_it", "numpy", "pydantic", "rich", "typer", "yaml")
TENSORS = (
    *("jinja2", "regex", "safetensors.torch", "tokenizers", "torch", "torch._dynamo", "torch.distributed.tensor"),
    *("torch.fx.experimental.symbolic_shapes", "transformers", "transformers.convert_slow_tokenizer"),
    *("transformers.generation.configuration_utils", "transformers.image_transforms", "transformers.video_utils"),
    *("transformers.modeling_utils", "transformers.models.auto.modeling_auto"),
    *("transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama"),
)
"""What the tests and the package import that takes long, and is not mutated."""


def prepare(*, tensors: bool) -> None:
    """Import what is slow and not mutated; `tensors`: torch and transformers too, which make every fork slower."""
    for library in (*LIBRARIES, *(TENSORS if tensors else ())):
        importlib.import_module(library)
