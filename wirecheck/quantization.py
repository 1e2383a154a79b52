"""What a checkpoint's quantization means for a gradient that has to pass through it. Torch-free.

The table is read off `is_trainable` and the kernels of transformers 5.23's quantizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wirecheck.geometry import lookup, shown
from wirecheck.safetensors_header import TensorEntry

Backward = Literal["lost", "depends", "kept"]

BACKWARD: Mapping[str, tuple[Backward, str]] = {
    "fp8": ("lost", "its fp8 kernels are made for inference"),
    "mxfp8": ("lost", "its fp8 kernels are made for inference"),
    "mxfp4": ("lost", "its 4-bit kernels have no backward"),
    "nvfp4": ("lost", "its 4-bit kernels have no backward"),
    "fbgemm_fp8": ("lost", "its fp8 kernels have no backward"),
    "modelopt": ("lost", "its kernels are made for inference"),
    "quark": ("lost", "transformers does not hold it trainable"),
    "higgs": ("lost", "transformers does not hold it trainable"),
    "spqr": ("lost", "transformers does not hold it trainable"),
    "vptq": ("lost", "transformers does not hold it trainable"),
    "metal": ("lost", "transformers does not hold it trainable"),
    "auto-round": ("lost", "transformers does not hold it trainable"),
    "gptq": ("depends", "only gptqmodel's trainable backends have a backward; exllama and marlin have none"),
    "awq": ("depends", "only gptqmodel's trainable backends have a backward; exllama and marlin have none"),
    "compressed-tensors": ("depends", "compressed kernels are inference-only, decompressed weights are not"),
    "fp_quant": ("depends", "it trains only where master weights were stored"),
    "fouroversix": ("depends", "it trains only where master weights were kept"),
    "bitnet": ("depends", "it trains only with online quantization"),
    "torchao": ("depends", "weight-only kinds have a backward, kinds that quantize activations have none"),
    "aqlm": ("depends", "its package has a backward from 1.0.2 on"),
    "bitsandbytes": ("kept", "its layers dequantize in the backward"),
    "hqq": ("kept", "its layers dequantize in the backward"),
    "eetq": ("kept", "its layers have a backward for their input"),
    "quanto": ("kept", "its layers dequantize in the backward"),
    "sinq": ("kept", "transformers holds it trainable"),
    "gguf": ("kept", "it is dequantized while loading"),
}
"""quant_method -> (what becomes of the gradient towards earlier layers, why)."""


_NARROW, _PACKED_NARROW = ("F8", "F6", "F4"), ("F6", "F4")
"""Floats of 8 bits or less; those of less than a byte are never plain numbers."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a checkpoint is quantized, and what becomes of the gradient."""

    method: str
    key: str
    """Dotted key in config.json."""
    backward: Backward
    why: str


def read_quantization(config: Mapping[str, Any], nested: str | None) -> Quantization | None:
    """The quantization that config.json declares, or None. Never raises on hostile values."""
    for prefix in ("", f"{nested}.") if nested else ("",):
        for name in ("quantization_config", "compression_config"):
            declared = lookup(config, prefix + name)
            if declared is not None:
                return _judge(declared, prefix + name)
    return None


def narrow_matrices(tensors: Mapping[str, TensorEntry]) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
    """Matrices in floats of 8 bits or less, by name: those that need a scale to be read, and those that have none.

    A scale is a tensor of the same module with `scale` in the last part of its name (`weight_scale_inv`).
    """
    scaled = {module for module, _, last in (name.rpartition(".") for name in tensors) if "scale" in last}
    narrow = [
        tensors[name]
        for name in sorted(tensors)
        if tensors[name].dtype.startswith(_NARROW) and len(tensors[name].shape) > 1
        if "scale" not in name.rpartition(".")[2]
    ]
    codes = [t for t in narrow if t.name.rpartition(".")[0] in scaled or t.dtype.startswith(_PACKED_NARROW)]
    return tuple(codes), tuple(t for t in narrow if t not in codes)


def _judge(declared: Any, key: str) -> Quantization:
    if not isinstance(declared, Mapping):
        return Quantization(shown(declared), key, "depends", "it is not an object, so its kind is unknown")
    method = declared.get("quant_method")
    if method is None and (declared.get("load_in_4bit") or declared.get("load_in_8bit")):
        method = "bitsandbytes"
    name = method.removesuffix("_4bit").removesuffix("_8bit") if isinstance(method, str) else shown(method)
    if declared.get("dequantize") is True:
        return Quantization(shown(name)[1:-1], key, "kept", "config.json asks for it to be dequantized while loading")
    backward, why = BACKWARD.get(name, ("depends", "wirecheck does not know this method"))
    if name == "bitsandbytes":
        bits = 4 if declared.get("load_in_4bit") else 8
        return Quantization(f"bitsandbytes {bits}-bit", key, backward, why)
    if name == "compressed-tensors" and '"float"' in shown(declared.get("config_groups"), limit=100_000):
        return Quantization("compressed-tensors fp8", key, "lost", "its fp8 kernels are made for inference")
    return Quantization(shown(name)[1:-1], key, backward, why)
