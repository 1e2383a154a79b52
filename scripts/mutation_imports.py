"""What the tests and the package import that takes long and is not mutated: once, before the forks."""

from __future__ import annotations

import compileall
import importlib

from mutants import ROOT

LIBRARIES = ("jsonschema", "junitparser", "markdown_it", "numpy", "pydantic", "rich", "typer", "yaml")
TENSORS = (
    *("jinja2", "regex", "safetensors.torch", "tokenizers", "torch", "transformers"),
    *("transformers.modeling_utils", "transformers.modeling_gguf_pytorch_utils", "transformers.processing_utils"),
    *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
    *("transformers.models.llama.configuration_llama", "transformers.tokenization_python"),
)
"""Of transformers what the first tokenizer loads lazily too: 960 modules, which every fork would import anew."""


def prepare(*, tensors: bool) -> None:
    """Import them; `tensors`: torch and transformers too, which make every fork slower.

    What is mutated and what tests it is compiled first: a fork writes no bytecode, and would do it anew each time.
    """
    for folder in ("wirecheck", "tests"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    for library in (*LIBRARIES, *(TENSORS if tensors else ())):
        importlib.import_module(library)
