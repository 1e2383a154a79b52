"""Two vocabularies side by side: the bytes each token stands for, whatever the tokenizer's way of writing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BYTE_TOKEN = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")
_SPACE_MARK = "\u2581"
"""sentencepiece writes a space so."""
_BYTE_SPACE = "\u0120"
"""Byte-level BPE writes a space so."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two vocabularies share."""

    size_a: int
    size_b: int
    shared: int
    """Tokens of A that stand for the same text as some token of B."""
    same_id: int
    """Shared tokens with one id in both."""


def overlap(
    a: Mapping[str, int],
    b: Mapping[str, int],
    *,
    spelt: tuple[Mapping[bytes, int], Mapping[bytes, int]] | None = None,
) -> Overlap:
    """The overlap of two vocabularies as `get_vocab()` gives them; rows without a token are in neither.

    `spelt`: both as `normalise` has them, where they are known.
    """
    texts_a, texts_b = spelt or (normalise(a), normalise(b))
    shared = len(texts_a.keys() & texts_b.keys())
    return Overlap(size_a=len(a), size_b=len(b), shared=shared, same_id=len(texts_a.items() & texts_b.items()))


def fingerprints(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    """(num_texts,) uint64, ascending: a hash of what each token stands for, as `normalise` has it, so that vocabularies
    compare in no time.

    Of two vocabularies of 250,000 tokens some two hashes of different texts are alike once in 3 * 10^8 pairs.
    """
    import numpy as np

    joined = b"".join(blake2b(text, digest_size=8).digest() for text in texts)
    return np.unique(np.frombuffer(joined, dtype="<u8"))


def shared(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    """Texts that are in both, by their fingerprints: `overlap(...).shared`."""
    import numpy as np

    return int(np.intersect1d(a, b, assume_unique=True).size)


def normalise(vocabulary: Mapping[str, int]) -> dict[bytes, int]:
    """What each token stands for as bytes -> its id, the lowest where two tokens stand for the same."""
    byte_level = sum(token.startswith(_BYTE_SPACE) for token in vocabulary)
    marked = sum(token.startswith(_SPACE_MARK) for token in vocabulary)
    as_bytes = _from_byte_level if byte_level > marked else _from_marks
    texts: dict[bytes, int] = {}
    for token, number in sorted(vocabulary.items(), key=itemgetter(1), reverse=True):
        texts[as_bytes(token)] = number
    return texts


def _from_marks(token: str) -> bytes:
    byte = _BYTE_TOKEN.match(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE_MARK, " ").encode("utf-8", "surrogatepass")


def _from_byte_level(token: str) -> bytes:
    try:
        return token.translate(_LATIN).encode("latin-1")
    except UnicodeEncodeError:  # a character outside the alphabet: a special token, written as text
        return token.encode("utf-8", "surrogatepass")


def _bytes_by_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others take characters from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTE_OF = _bytes_by_character()
_LATIN = dict.fromkeys(range(256), 65535) | {ord(character): byte for character, byte in BYTE_OF.items()}
"""For `str.translate`: the alphabet to the character of its byte's number; whatever else is below 256, out of range."""
