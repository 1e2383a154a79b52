"""From a snapshot to what transformers makes of it: config, tokenizer, twin, skeleton, real model, fit of the files.

With `zoo_gguf` the sole importer of transformers, and only inside functions: to import this module loads neither it
nor torch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from wirecheck import zoo_gguf
from wirecheck.class_fit import Fit, Misshapen, dims, packed
from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit, one_line
from wirecheck.model_types import architectures_by_type, causal_model_types, known_model_types
from wirecheck.readiness import EXPERT_KEYS, LAYER_KEYS, absurd_size, require_memory, require_weights
from wirecheck.shrink import shrink

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from wirecheck.snapshot import Snapshot

__all__ = [
    "Fit",
    "Misshapen",
    "Twin",
    "Unloadable",
    "WeightsRefused",
    "Withheld",
    "architectures_by_type",
    "causal_model_types",
    "fit",
    "known_model_types",
    "load_config",
    "load_tokenizer",
    "load_weights",
    "quiet",
    "skeleton",
    "text_config",
    "twin",
]

LOADING, UNPACKING = 1.1, 2.2
"""Memory a load takes at its peak, in sizes of the model; an unpacked GGUF stands beside the model it goes into."""
TWIN_BYTES = 1_500_000_000
"""A twin above this is not made."""
NOISE = 0.1
"""Deviation given to the twin's biases, norms and gates, which start constant."""
_ASKS_FOR_TRUST = "trust_remote_code=True"
"""What transformers' refusal to run a repository's code tells the user to pass."""
MOST_PARTS = 1_000_000
"""Layers times experts a config may name before it is taken for hostile."""


class Unloadable(CannotRun, ValueError):
    """transformers makes nothing of these files: one line that says why.

    A `CannotRun` too: a probe that merely needed the config is skipped with this reason; the probe whose question it
    is catches it and says so.
    """


class Withheld(Unloadable):
    """The files were not given to transformers, or not fully: nothing is said of whether they are sound."""


class WeightsRefused(Unloadable):
    """Real weights, whole and on this disk, that transformers does not load although the memory is there."""


@dataclass(frozen=True)
class Twin:
    """The model's own class, tiny and random, with what it has in common with the model and what it has not."""

    model: PreTrainedModel
    kept: tuple[str, ...]
    changed: tuple[str, ...]


# --- loading -----------------------------------------------------------------------------------------------------


@cache
def _transformers() -> ModuleType:
    """The library, quiet: its advice goes to stderr, where wirecheck writes its own progress."""
    import transformers

    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """No Python warning from library code inside: files and classes we only observe may warn about anything."""
    _transformers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_config(snapshot: Snapshot, *, trust_remote_code: bool) -> PretrainedConfig:
    """The config as transformers' class reads it. Raises Unloadable."""
    config: PretrainedConfig = _load("AutoConfig", snapshot, trust_remote_code=trust_remote_code)
    # A config may ask for a kernel: one this machine lacks, or code of a third repository. The library's own choice
    # computes the same.
    base = _transformers().PretrainedConfig  # a class without a nested config keeps a stray one as a plain dict
    for part in (config, config.get_text_config() if hasattr(config, "text_config") else config):
        if not isinstance(part, base):
            continue
        if part._attn_implementation not in ("eager", "sdpa"):
            part._attn_implementation = None
        part._experts_implementation = None
    return config


def load_tokenizer(snapshot: Snapshot, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer as `AutoTokenizer` makes it from the snapshot's files. Raises Unloadable."""
    tokenizer: PreTrainedTokenizerBase = _load("AutoTokenizer", snapshot, trust_remote_code=trust_remote_code)
    return tokenizer


def _load(auto: str, snapshot: Snapshot, *, trust_remote_code: bool, trusted: bool = False, **given: Any) -> Any:
    """What that Auto class makes of the files. Raises Unloadable.

    The repository's code is not preferred to a native class, as the library would with trust: it is run where the
    library finds none and asks for trust (`trusted`, the second call).
    """
    options = dict(given)
    absurd = absurd_size(snapshot)
    if absurd is not None:
        raise Withheld(absurd)
    folder = snapshot.folder
    reading: AbstractContextManager[None] = nullcontext()
    if snapshot.ref.kind == "gguf":
        assert snapshot.ref.path is not None
        _transformers()
        folder, options["gguf_file"] = snapshot.ref.path.parent, snapshot.ref.path.name
        reading = zoo_gguf.swift(with_lists=auto == "AutoTokenizer")
    # `False`, never None: None makes transformers ask on stdin.
    options |= {"local_files_only": True, "trust_remote_code": trusted}
    try:
        with quiet(), reading:
            return getattr(_transformers(), auto).from_pretrained(folder, **options)
    except Exception as error:  # files of strangers: whatever their reader raises, it is they who cannot be loaded
        if not trusted and _ASKS_FOR_TRUST in str(error):
            if trust_remote_code:
                return _load(auto, snapshot, trust_remote_code=True, trusted=True, **given)
            name = snapshot.ref.name
            raise Withheld(
                f"{name} needs custom code of its repository, not executed without --trust-remote-code"
            ) from error
        raise Unloadable(_one_line(error, snapshot.ref.name, folder)) from error


def _one_line(error: BaseException, name: str = "", folder: Path | None = None) -> str:
    """Type and first line of an error, and the second where the first ends with a colon, without this machine's paths:
    `name` stands for `folder`.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    for path in (folder.absolute(), folder.resolve(), folder) if folder is not None else ():
        text = text.replace(str(path), name) if str(path) != "." else text
    return f"{type(error).__name__}: {text[:300]}"


# --- models ------------------------------------------------------------------------------------------------------


def skeleton(config: PretrainedConfig) -> PreTrainedModel:
    """The class `AutoModelForCausalLM` chooses, at full shape on the meta device. Raises CannotRun."""
    text = text_config(config)
    layers, experts = (max((_size(text, key) for key in keys), default=0) for keys in (LAYER_KEYS, EXPERT_KEYS))
    if max(layers, 1) * max(experts, 1) > MOST_PARTS:
        raise CannotRun(f"the config asks for {layers} layers of {experts} experts, which no model has")
    return _build(config, device="meta")


def twin(config: PretrainedConfig, *, seed: int) -> Twin:
    """The same class, tiny, random by `seed`, float32, frozen, in eval mode. Raises CannotRun.

    torch's own random state is the same before and after.
    """
    import torch

    text = text_config(config)
    whole = config if _is_wrapped(config, text) else text
    try:
        small = shrink(text.to_dict())
        fields = small.fields if whole is text else _around(whole, text, small.fields)
        with quiet():
            tiny = type(whole).from_dict(fields)
    except Exception as error:  # a config class may refuse a size with any error
        raise CannotRun(f"no twin of {type(whole).__name__} can be made: {_one_line(error)}") from error
    hollow = _build(tiny, device="meta")
    needed = sum(tensor.numel() * tensor.itemsize for tensor in (*hollow.parameters(), *hollow.buffers()))
    if needed > TWIN_BYTES:
        raise CannotRun(f"the twin of {type(whole).__name__} would still take {needed} bytes")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _build(tiny, device="cpu")
    _spread(model, seed)
    plain = ("quantization_config left out",) if _quantization(config) else ()
    return Twin(_still(model), small.kept, small.changed + plain)


def _is_wrapped(config: PretrainedConfig, text: PretrainedConfig) -> bool:
    """Whether the class that runs is not the text model's own, but one around it."""
    classes = _transformers().AutoModelForCausalLM._model_mapping
    return text is not config and classes.get(type(config), None) is not classes.get(type(text), None)


def _around(config: PretrainedConfig, text: PretrainedConfig, small_text: dict[str, Any]) -> dict[str, Any]:
    """The fields of a wrapper's config, with its text config made small already and the others' made small here."""
    fields: dict[str, Any] = config.to_dict()
    fields.pop("quantization_config", None)
    for key, value in fields.items():
        if getattr(config, key, None) is text:
            fields[key] = small_text
        elif key.endswith("_config") and isinstance(value, dict):
            fields[key] = shrink(value).fields
    return fields


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part that describes the language model: the config itself, or the one nested in it."""
    auto = _transformers().AutoModelForCausalLM
    try:
        nested = config.get_text_config(decoder=True)
    except ValueError:  # several candidates: the library says that asking is ambiguous
        return config
    return nested if type(nested) in auto._model_mapping else config


def _size(config: PretrainedConfig, key: str) -> int:
    value = getattr(config, key, None)
    return value if isinstance(value, int) else 0


def _build(config: PretrainedConfig, *, device: str) -> PreTrainedModel:
    import torch

    # A config class that came with the repository was loaded with the user's trust; a native one needs none.
    trusted = not type(config).__module__.startswith("transformers.")
    try:
        with quiet(), torch.device(device):
            auto = _transformers().AutoModelForCausalLM
            model: PreTrainedModel = auto.from_config(config, dtype=torch.float32, trust_remote_code=trusted)
    except Exception as error:  # a class may raise anything on a config it was not written for
        raise CannotRun(f"no model can be built from {type(config).__name__}: {_one_line(error)}") from error
    return model


def _spread(model: PreTrainedModel, seed: int) -> None:
    """Give linear and embedding weights a deviation of fan_in^-1/2, and every constant vector some noise.

    The library's 0.02 is meant for wide layers: at the twin's width attention would be flat and logits near zero. A
    bias, gate or scale that starts at zero closes the path behind it, and what goes wrong there would not show.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    spread: set[int] = set()
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        transposed = type(module).__name__ == "Conv1D"  # GPT-2's linear layer holds (in, out)
        is_matrix = isinstance(module, nn.Linear | nn.Embedding) or transposed
        if is_matrix and id(weight) not in spread:
            spread.add(id(weight))
            weight.data.normal_(0.0, weight.shape[0 if transposed else 1] ** -0.5, generator=generator)
    for vector in model.parameters():
        if id(vector) not in spread and vector.is_floating_point() and bool((vector == vector.flatten()[0]).all()):
            vector.data.add_(torch.empty_like(vector).normal_(0.0, NOISE, generator=generator))


# --- real weights ------------------------------------------------------------------------------------------------


def load_weights(snapshot: Snapshot, *, dtype: str, trust_remote_code: bool) -> PreTrainedModel:
    """The real weights in `dtype` on the CPU, frozen, in eval mode.

    Raises CannotRun with what this machine lacks, WeightsRefused where it lacks nothing.
    """
    import torch

    require_weights(snapshot)
    if snapshot.has("adapter_config.json") and find_spec("peft"):
        raise CannotRun("adapter_config.json would have peft lay an adapter over the weights: move it away")
    target = getattr(torch, dtype)
    held_bytes = sum(tensor.num_elements for tensor in snapshot.tensors.values()) * target.itemsize
    is_gguf = snapshot.ref.kind == "gguf"
    require_memory(int(held_bytes * (UNPACKING if is_gguf else LOADING)), dtype)
    options: dict[str, Any] = {"dtype": target, "use_safetensors": True}
    if is_gguf:
        options = {"dtype": target, "quantization_config": _transformers().GgufConfig(dequantize=True)}
    options["config"] = load_config(snapshot, trust_remote_code=trust_remote_code)
    try:
        model = _load("AutoModelForCausalLM", snapshot, trust_remote_code=trust_remote_code, **options)
    except Withheld:
        raise
    except Unloadable as error:
        cause = error.__cause__ or error
        limit = machine_limit(cause)
        if limit is None and _quantization(options["config"]):
            limit = f"whether quantized weights load depends on the machine: {one_line(error)}"
        if limit is not None:
            raise CannotRun(limit) from error
        raise WeightsRefused(one_line(error)) from error
    return _still(model)


def _still(model: PreTrainedModel) -> PreTrainedModel:
    """Frozen, in eval mode."""
    model.requires_grad_(requires_grad=False)
    model.eval()  # type: ignore[no-untyped-call]
    return model


# --- the fit of the files to the class ---------------------------------------------------------------------------


def fit(snapshot: Snapshot, config: PretrainedConfig) -> Fit:
    """Names and shapes on file against the class, through the library's own loading code; no data is read.

    Every tensor on file is stood for by a meta tensor of its shape, and those are loaded. Raises CannotRun.
    """
    model = skeleton(config)
    expected = len(model.state_dict())
    class_name = type(model).__name__
    if snapshot.ref.kind == "gguf":
        try:
            with quiet():
                return zoo_gguf.fit(snapshot, model, text_config(config))
        except (NotImplementedError, ValueError) as error:
            raise CannotRun(f"the GGUF names of {class_name} cannot be translated: {_one_line(error)}") from error
    try:
        with quiet():
            info = _load_ghosts(model, {name: entry.shape for name, entry in snapshot.tensors.items()})
    except Exception as error:  # the library's loader met names it was not written for
        raise CannotRun(f"{class_name} cannot take these tensors: {_one_line(error)}") from error
    broken = {
        name: Misshapen(name, "parts that cannot be joined", _shape(model, name)) for name in info.conversion_errors
    }
    bad = [Misshapen(name, dims(seen), dims(wanted)) for name, seen, wanted in info.mismatched_keys]
    missing = {name for name in info.missing_keys if name not in broken}
    result = Fit(
        class_name,
        expected,
        tuple(sorted(missing)),
        tuple(sorted(info.unexpected_keys)),
        tuple(sorted((*bad, *broken.values()), key=lambda m: m.name)),
    )
    modules = {name for name, _ in model.named_modules()}
    return packed(result, snapshot.tensors, modules) if _quantization(config) else result


def _quantization(config: PretrainedConfig) -> Any:
    """What the config, or the text config in it, says of quantization; None where nothing."""
    parts = (config, text_config(config))
    return next((held for part in parts if (held := getattr(part, "quantization_config", None))), None)


def _load_ghosts(model: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> Any:
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.modeling_utils import LoadStateDictConfig

    ghosts = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    # Typed as one kind of conversion by the loader, as their common base by the function that lists them.
    conversions: Any = get_model_conversion_mapping(model)
    settings = LoadStateDictConfig(device_map={"": "meta"}, dtype=torch.float32, weight_mapping=conversions)
    info, _ = type(model)._load_pretrained_model(model, ghosts, None, settings)
    model.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(info)
    return info


def _shape(model: PreTrainedModel, name: str) -> str:
    held = model.state_dict().get(name)
    return "unknown" if held is None else dims(held.shape)
