"""GGUF through transformers, without its waits: the library parses the whole file several times over, item by item.

With `zoo` the sole importer of transformers. Everything the library computes stays the library's: the reader it is
handed gives the same fields, read faster, and the map of names is its own, asked once and not once per submodule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wirecheck.class_fit import Fit, Misshapen, dims

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader
    from transformers import PretrainedConfig, PreTrainedModel

    from wirecheck.snapshot import Snapshot


@contextmanager
def swift(*, with_lists: bool) -> Iterator[None]:
    """Within it transformers reads GGUF files quickly and without its progress bar.

    `with_lists` False leaves the items of long lists out (their number stays): only a tokenizer reads them.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as library

    replaced: dict[str, Any] = {
        "tqdm": lambda items, **_: items,
        "get_gguf_hf_weights_map": partial(_whole_map, library.get_gguf_hf_weights_map),
    }
    replaced_at = [(vars(library), replaced), (vars(gguf), {"GGUFReader": cache(partial(_reader(), with_lists))})]
    held = [(names, {name: names[name] for name in stand_ins}) for names, stand_ins in replaced_at]
    for names, stand_ins in replaced_at:
        names.update(stand_ins)
    try:
        yield
    finally:
        for names, own in held:
            names.update(own)


@cache
def _reader() -> Callable[..., GGUFReader]:
    """GGUFReader, reading lists as wholes from a plain array: its own memory map makes an object per item, twice."""
    from gguf import GGUFReader, GGUFValueType

    class Swift(GGUFReader):
        """The same fields as GGUFReader's."""

        def __init__(self, with_lists: bool, path: Any) -> None:
            self._with_lists = with_lists
            super().__init__(path)

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != GGUFValueType.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
            item, number, first = GGUFValueType(int(kind[0])), int(count[0]), int(orig_offs) + 12
            if item == GGUFValueType.ARRAY or not number:
                return super()._get_field_parts(orig_offs, raw_type)
            if item == GGUFValueType.STRING:
                parts, end = self._texts(first, number)
                where = range(3, 3 + 2 * number, 2) if self._with_lists else [3] * number
            else:
                values = self._get(first, self.gguf_scalar_to_np[item], number)
                parts, end = np.split(values, number) if self._with_lists else [values[:1]], first + values.nbytes
                where = range(2, 2 + len(parts))
            return end - int(orig_offs), [kind, count, *parts], list(where), [GGUFValueType.ARRAY, item]

        def _texts(self, offset: int, number: int) -> tuple[list[Any], int]:
            """(length, bytes) of each text, or of the first alone; and the byte after the last."""
            parts: list[Any] = []
            for _ in range(number):
                length = self._get(offset, np.uint64)
                begin, end = offset + 8, offset + 8 + int(length[0])
                if self._with_lists or not parts:
                    parts += [length, self.data[begin:end]]
                offset = end
            return parts, offset

    return Swift


def fit(snapshot: Snapshot, model: PreTrainedModel, config: PretrainedConfig) -> Fit:
    """Names and sizes of a GGUF file against a skeleton of the class. ValueError where the library has no map."""
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    expected = frozenset(model.state_dict())
    kind = str(config.model_type)
    processor = TENSOR_PROCESSORS.get(kind, TensorProcessor)(config=config.to_dict())  # type: ignore[no-untyped-call]
    names = _whole_map(get_gguf_hf_weights_map, model, processor)
    given = {names[name]: entry for name, entry in snapshot.tensors.items() if name in names}
    missing = {name for name in expected if name not in given}
    model.tie_weights(missing_keys=missing, recompute_mapping=False)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    bad = [
        Misshapen(name, dims(entry.shape), dims(shapes[name]))
        for name, entry in given.items()
        if name in expected and sorted(entry.shape) != sorted(shapes[name])
    ]
    return Fit(
        type(model).__name__,
        len(expected),
        tuple(sorted(missing)),
        tuple(sorted(name for name in snapshot.tensors if name not in names)),
        tuple(sorted(bad, key=lambda m: m.name)),
        shapes_how="sizes compared, not their order: GGUF may store a tensor transposed",
    )


def _whole_map(library: Callable[..., dict[str, str]], model: PreTrainedModel, processor: Any) -> dict[str, str]:
    """llama.cpp's tensor names -> the class's, by the library's own map.

    The library asks every submodule in turn, which takes 12 s for 30 layers; the model and the part without its head
    (Bloom's names start there) give the same.
    """
    config, prefix = model.config, model.base_model_prefix
    text: Any = config.get_text_config(decoder=True)
    names: dict[str, str] = {}
    for module, path in ((getattr(model, prefix, model), f"{prefix}."), (model, "")):
        view = _Childless(module, text)
        names |= library(view, processor, str(text.model_type), int(text.num_hidden_layers), qual_name=path)
    return names


class _Childless:
    """A module as the library's GGUF map sees it, without the children it would ask one by one."""

    def __init__(self, module: torch.nn.Module, config: PretrainedConfig) -> None:
        self.config = config
        self._names = tuple(module.state_dict())

    def state_dict(self) -> tuple[str, ...]:
        """The names alone: the map reads nothing else."""
        return self._names

    def named_children(self) -> tuple[()]:
        """None."""
        return ()
