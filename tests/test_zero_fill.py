"""WGT14 on minus zeros, and WGT02 on bytes too many: what the corpus of planted faults showed to be missed."""

from __future__ import annotations

import json

import pytest

from tests.shards import TINY, WIDTHS, raw, shard, table, write_model
from tests.test_probe_weights import LARGE, _fires, _holds
from wirecheck.schema import Severity
from wirecheck.snapshot import parse_ref, take


@pytest.mark.parametrize("begin", range(4), ids=lambda n: f"header longer by {n}")
def test_wgt14_minus_zero_is_zero(tmp_path, begin):
    """What was multiplied by zero is zero, with the sign it had."""
    folder = write_model(tmp_path)
    header, size = table(LARGE)
    content = bytearray(raw(json.dumps(header).encode() + b" " * begin, b"\0" * size))
    (folder / "model.safetensors").write_bytes(content)
    tensor = take(parse_ref(str(folder))).tensors["model.layers.0.mlp.up_proj.weight"]
    width = WIDTHS[tensor.dtype]
    signs = range(tensor.begin + width - 1, tensor.end, 3 * width)
    for at in signs:
        content[at] = 0x80
    (folder / "model.safetensors").write_bytes(content)
    _fires(folder, "WGT14", Severity.WARN)
    content[signs[-1] - 1] = 0x80  # a number, though a small one
    (folder / "model.safetensors").write_bytes(content)
    _holds(folder, "WGT14")


def test_wgt02_bytes_too_many(tmp_path):
    folder = write_model(tmp_path)
    (folder / "model.safetensors").write_bytes(shard(TINY) + b"\0" * 16)
    _fires(folder, "WGT02", Severity.BLOCK, "the file holds 16 more")
