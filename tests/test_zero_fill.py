"""WGT14 where one byte decides, and on minus zeros; and WGT02 on bytes too many, which planted faults showed missed."""

from __future__ import annotations

import json

import pytest

from tests.shards import TINY, WIDTHS, Shapes, raw, shard, table, write_model
from tests.test_probe_weights import LARGE, _fires, _holds
from wirecheck.schema import Severity
from wirecheck.snapshot import parse_ref, take
from wirecheck.zero_fill import zero_filled


@pytest.mark.parametrize("at", [0, 4095, 4096, 300_000, -1])
def test_wgt14_one_byte_is_enough(tmp_path, at):
    snapshot = take(parse_ref(str(write_model(tmp_path))))
    folder = snapshot.folder
    content = bytearray(shard(LARGE, fill=b"\0"))
    (folder / "model.safetensors").write_bytes(content)
    tensor = take(snapshot.ref).tensors["model.layers.0.mlp.up_proj.weight"]
    content[tensor.begin + at if at >= 0 else tensor.end + at] = 1
    (folder / "model.safetensors").write_bytes(content)
    _holds(folder, "WGT14")


def test_wgt14_a_sparse_file_with_one_block_of_data(tmp_path):
    shapes: Shapes = {"model.a.weight": ("F32", (1024, 4096)), "model.b.weight": ("F32", (1024, 4096))}
    header, size = table(shapes)
    folder = write_model(tmp_path)
    with (folder / "model.safetensors").open("wb") as file:
        begin = file.write(raw(header))
        file.truncate(begin + size)
        file.seek(begin + size // 2 + 9_000_000)
        file.write(b"\1")
    snapshot = take(parse_ref(str(folder)))
    assert zero_filled(snapshot) == ("model.a.weight",)


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
