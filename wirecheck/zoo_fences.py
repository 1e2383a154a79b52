"""What of a folder must not be given to transformers, though the library would take it.

With the other `zoo` modules an importer of transformers, and only inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wirecheck.snapshot_folder import JsonUnreadable, read_json

if TYPE_CHECKING:
    from pathlib import Path

_NAMED_IN = ("tokenizer_config.json", "config.json")
_SHOWN_NAME = 60


class PickleRefused(RuntimeError):
    """Something asked for a pickle to be read, which is never done here."""


@contextmanager
def no_pickles() -> Iterator[None]:
    """Within it `torch.load` refuses, with `weights_only` too: its own unpickler reads a stranger's program.

    The files chosen here are safetensors; this holds what the library would choose by itself (an adapter, the weights
    of a class that a tokenizer's config names).
    """
    import torch

    def refuse(*_given: Any, **_named: Any) -> Any:
        raise PickleRefused("a pickled file was asked for, and is never unpickled here")

    library = vars(torch)
    own = library["load"]
    library["load"] = refuse
    try:
        yield
    finally:
        library["load"] = own


def no_tokenizer_class(folder: Path) -> str | None:
    """Why AutoTokenizer must not read that folder: a file names as tokenizer a class of transformers that is none.

    The library looks the name up among all it exports and calls `from_pretrained` of what it finds: a model's class
    would load the weights, and would ask on the terminal whether to trust the repository's code. None where no file
    does. Read from the folder itself, which is what the library does for a GGUF file too.
    """
    for file in _NAMED_IN:
        try:
            named = read_json(folder / file).get("tokenizer_class")
        except JsonUnreadable:
            continue  # whoever reads that file for its own sake says so
        if isinstance(named, str) and not _is_tokenizer(named):
            return f"{file} names {named[:_SHOWN_NAME]} as its tokenizer, which transformers has as something else"
    return None


def _is_tokenizer(name: str) -> bool:
    """Whether the library's class of that name is a tokenizer; also where it has none, or stands in for one."""
    import transformers

    for spelt in (name, name.removesuffix("Fast")):
        found = getattr(transformers, spelt, None)
        if found is None:
            continue
        stands_in = type(found).__name__ == "DummyObject"  # of a class whose package is not installed: it only raises
        return stands_in or (isinstance(found, type) and issubclass(found, transformers.PreTrainedTokenizerBase))
    return True
