"""A stranger's tokenizer, tried before anything is read off it: it may load, and fail at the first word it is given.

The library under it is Rust's; its panics are no `Exception` in Python, and would end the whole check.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORDS = "Hello, world! 1,234 déjà vu 你好 안녕 🙂\n\tx = {}"
"""Letters of several scripts, figures, signs, white space."""
_MOST_TOKENS = 4096
"""Of those words: a tokenizer by bytes makes some eighty of them, and whoever makes more makes them of every text."""
_MOST_LETTERS = 65_536
"""Of those tokens decoded."""
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_AT_WORK = ("_encode_plus", "_decode")
"""Methods of transformers' tokenizers through which all encoding and decoding goes."""


class LibraryPanic(RuntimeError):
    """A library of Rust's panicked: as an error that whoever catches errors does catch."""


@contextmanager
def panics_told() -> Iterator[None]:
    """Turns a panic into LibraryPanic; others pass."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ != "PanicException":
            raise
        raise LibraryPanic(f"the tokenizer library panicked: {error}") from error


def tried(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, whose panics are errors from now on. Raises whatever it raises at its first words."""
    for name in _AT_WORK:
        setattr(tokenizer, name, _telling(getattr(tokenizer, name)))
    with panics_told():
        for special in (False, True):
            ids = tokenizer(_WORDS, add_special_tokens=special)["input_ids"]
            if len(ids) > _MOST_TOKENS:
                raise ValueError(f"it makes {len(ids)} tokens of {len(_WORDS)} characters, which no tokenizer does")
            letters = len(tokenizer.decode(ids))
            if letters > _MOST_LETTERS:
                raise ValueError(f"it makes {letters} characters of {len(ids)} tokens, which no tokenizer does")
        for role in _ROLES:
            getattr(tokenizer, f"{role}_token_id", None)
    return tokenizer


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def told(*args: Any, **options: Any) -> Any:
        with panics_told():
            return method(*args, **options)

    return told
