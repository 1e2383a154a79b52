"""From the first bytes of a safetensors file to the table of its tensors. Pure: bytes in, table or error out."""

from __future__ import annotations

from dataclasses import dataclass


class HeaderMalformed(ValueError):
    """The header is not what the safetensors format allows; the message says where."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as its file declares it."""

    name: str
    dtype: str
    """safetensors' own name: F32, BF16, F16, F8_E4M3, I8, …; for GGUF ggml's (Q4_K, …)."""
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the start of the file."""
    end: int
    """One past the last byte."""

    @property
    def num_bytes(self) -> int:
        """Size on file."""
        return self.end - self.begin

    @property
    def num_elements(self) -> int:
        """Product of the shape; 1 for a scalar."""
        product = 1
        for size in self.shape:
            product *= size
        return product
