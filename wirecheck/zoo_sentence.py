"""A frozen sentence encoder from a local folder: sizes from its files alone, token features through transformers.

With the other `zoo` modules an importer of transformers, and only inside functions. Nothing is fetched, and no code of
the folder is run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit, one_line
from wirecheck.safetensors_header import HeaderError, header_end, parse_header
from wirecheck.zoo_fences import no_pickles, no_tokenizer_class

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HOW_TO_GIVE = 'give its folder: `sentence_encoder = "path/to/all-MiniLM-L6-v2"` under [wire] of wirecheck.toml'
_LENGTH_FILES = (("sentence_bert_config.json", "max_seq_length"), ("config.json", "max_position_embeddings"))
_FLOATS = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A frozen text model in eval mode, float32, and the tokenizer it was trained with."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    width: int
    """E: width of a token's features."""
    max_tokens: int
    """Tokens it reads, special ones included; the rest of a source is cut."""

    def features(self, sources: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """-> features_BTE float32; mask_BT bool, True on a token. Neither asks for a gradient."""
        import torch

        from wirecheck import zoo

        limits: dict[str, Any] = {"padding": True, "truncation": True, "max_length": self.max_tokens}
        with zoo.quiet(), torch.no_grad():
            given = self.tokenizer(list(sources), return_tensors="pt", **limits).to(self.model.device)
            features: torch.Tensor = self.model(**given).last_hidden_state
        return features.float(), given["attention_mask"].bool()


def load(folder: str | None) -> SentenceEncoder:
    """The encoder in that folder. CannotRun where none is named, or the folder holds none that loads."""
    from wirecheck import zoo

    place, library = _place(folder), zoo.transformers_library()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    wrong = no_tokenizer_class(place)
    if wrong is not None:
        raise CannotRun(f"the sentence encoder {place.name} cannot be loaded: {wrong}")
    try:
        with zoo.quiet(), no_pickles():
            tokenizer = library.AutoTokenizer.from_pretrained(place, **options)
            model = library.AutoModel.from_pretrained(place, use_safetensors=True, dtype="float32", **options)
    except Exception as error:  # files of strangers: whatever their reader raises, it is they who cannot be loaded
        why = machine_limit(error) or f"{type(error).__name__}: {one_line(error)}"
        raise CannotRun(f"the sentence encoder {place.name} cannot be loaded: {why}") from error
    model.requires_grad_(requires_grad=False)
    model.eval()
    lengths = [_number(place / file, key) for file, key in _LENGTH_FILES]
    max_tokens = min(length for length in (*lengths, tokenizer.model_max_length) if length)
    return SentenceEncoder(model, tokenizer, int(model.config.hidden_size), max_tokens)


def width(folder: str | None) -> int:
    """E, as its config.json declares it; loads no torch. CannotRun where none is named or declared."""
    place = _place(folder)
    found = _number(place / "config.json", "hidden_size")
    if not found:
        raise CannotRun(f"config.json of the sentence encoder {place.name} declares no hidden_size")
    return found


def num_parameters(folder: str | None) -> int:
    """Scalars of its weights, counted in the safetensors header; loads no torch. CannotRun where there is none."""
    place = _place(folder)
    try:
        with (place / "model.safetensors").open("rb") as file:
            head = file.read(8)
            head += file.read(header_end(head) - len(head))
            tensors, _ = parse_header(head, file_size=None)
    except (OSError, HeaderError) as error:
        raise CannotRun(f"the sentence encoder {place.name} has no readable model.safetensors") from error
    return sum(tensor.num_elements for tensor in tensors if tensor.dtype in _FLOATS)


def _place(folder: str | None) -> Path:
    if folder is None:
        raise CannotRun(f"the wire sentence-query reads sources with a frozen sentence encoder: {HOW_TO_GIVE}")
    place = Path(folder).expanduser()
    if not (place / "config.json").is_file():
        raise CannotRun(f"{place.name} holds no sentence encoder (no config.json): {HOW_TO_GIVE}")
    return place


def _number(file: Path, key: str) -> int | None:
    """A positive whole number of a JSON file's object; None where it is not there."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    value = held.get(key) if isinstance(held, dict) else None
    return value if isinstance(value, int) and value > 0 else None
