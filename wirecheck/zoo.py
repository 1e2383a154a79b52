"""From a snapshot to what transformers makes of it: config, tokenizer, twin, skeleton, real model, fit of the files.

With `zoo_gguf` the sole importer of transformers, and only inside functions: to import this module loads neither it
nor torch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from wirecheck import zoo_gguf
from wirecheck.class_fit import Fit, Misshapen, dims, lacking, packed
from wirecheck.errors import CannotRun
from wirecheck.model_types import architectures_by_type, causal_model_types, known_model_types
from wirecheck.readiness import EXPERT_KEYS, LAYER_KEYS, absurd_size
from wirecheck.zoo_fences import no_pickles, no_tokenizer_class
from wirecheck.zoo_tokenizer import panics_told, tried

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from wirecheck.snapshot import Snapshot

__all__ = [
    "Fit",
    "Misshapen",
    "Unloadable",
    "Withheld",
    "architectures_by_type",
    "causal_model_types",
    "fit",
    "known_model_types",
    "load_config",
    "load_tokenizer",
    "quiet",
    "skeleton",
    "text_config",
]

_ASKS_FOR_TRUST = "trust_remote_code=True"
"""What transformers' refusal to run a repository's code tells the user to pass."""
PLAIN_ATTENTION = ("eager", "sdpa")
"""In torch, and of every class that has attention: the library falls back from the second to the first."""
MOST_PARTS = 1_000_000
"""Layers times experts a config may name before it is taken for hostile."""


class Unloadable(CannotRun, ValueError):
    """transformers makes nothing of these files: one line that says why.

    A `CannotRun` too: a probe that merely needed the config is skipped with this reason; the probe whose question it
    is catches it and says so.
    """


class Withheld(Unloadable):
    """The files were not given to transformers, or not fully: nothing is said of whether they are sound."""


# --- loading -----------------------------------------------------------------------------------------------------


@cache
def transformers_library() -> ModuleType:
    """The library, quiet: its advice goes to stderr, where wirecheck writes its own progress."""
    import transformers

    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """No Python warning from library code inside: files and classes we only observe may warn about anything."""
    transformers_library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_config(snapshot: Snapshot, *, trust_remote_code: bool) -> PretrainedConfig:
    """The config as transformers' class reads it. Raises Unloadable."""
    config: PretrainedConfig = load("AutoConfig", snapshot, trust_remote_code=trust_remote_code)
    # A config may ask for a kernel: one this machine lacks, or code of a third repository. The library's own choice
    # computes the same; what was asked for is looked at by `zoo_kernels`.
    for part in implementing_parts(config):
        if part._attn_implementation not in PLAIN_ATTENTION:
            part._attn_implementation = None
        part._experts_implementation = None
    return config


def implementing_parts(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """The config, and the language model's nested in it: those in which an implementation may be named."""
    base = transformers_library().PretrainedConfig  # a class without a nested config keeps a stray one as a plain dict
    for part in (config, config.get_text_config() if hasattr(config, "text_config") else config):
        if isinstance(part, base):
            yield part


def load_tokenizer(snapshot: Snapshot, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer as `AutoTokenizer` makes it from the snapshot's files. Raises Unloadable."""
    tokenizer: PreTrainedTokenizerBase = load("AutoTokenizer", snapshot, trust_remote_code=trust_remote_code)
    try:
        with quiet():
            return tried(tokenizer)
    except Exception as error:  # its files are a stranger's: whatever it raises, it cannot be used
        raise Unloadable(f"it fails at its first words: {told(error)}") from error


def load(auto: str, snapshot: Snapshot, *, trust_remote_code: bool, trusted: bool = False, **given: Any) -> Any:
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
        transformers_library()
        folder, options["gguf_file"] = snapshot.ref.path.parent, snapshot.ref.path.name
        reading = zoo_gguf.swift(with_lists=auto == "AutoTokenizer")
    if auto == "AutoTokenizer" and (wrong := no_tokenizer_class(folder)) is not None:
        raise Unloadable(wrong)
    # `False`, never None: None makes transformers ask on stdin.
    options |= {"local_files_only": True, "trust_remote_code": trusted}
    try:
        with quiet(), no_pickles(), reading, panics_told():
            return getattr(transformers_library(), auto).from_pretrained(folder, **options)
    except Exception as error:  # files of strangers: whatever their reader raises, it is they who cannot be loaded
        if not trusted and _ASKS_FOR_TRUST in str(error):
            if trust_remote_code:
                return load(auto, snapshot, trust_remote_code=True, trusted=True, **given)
            name = snapshot.ref.name
            raise Withheld(
                f"{name} needs custom code of its repository, not executed without --trust-remote-code"
            ) from error
        raise Unloadable(told(error, snapshot.ref.name, folder)) from error


def told(error: BaseException, name: str = "", folder: Path | None = None) -> str:
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
    return build(config, device="meta")


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part that describes the language model: the config itself, or the one nested in it."""
    auto = transformers_library().AutoModelForCausalLM
    try:
        nested = config.get_text_config(decoder=True)
    except ValueError:  # several candidates: the library says that asking is ambiguous
        return config
    if type(nested) in auto._model_mapping:
        return nested
    # A wrapper may be mapped to the class of its text part alone, which no config of its own is mapped to.
    chosen = auto._model_mapping.get(type(config), None)
    return nested if getattr(chosen, "config_class", None) is type(nested) else config


def positions(config: PretrainedConfig) -> int | None:
    """Positions the language model has, as its config says; None where it says nothing."""
    text = text_config(config)
    found = (getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len", "n_positions"))
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool)), None)


def _size(config: PretrainedConfig, key: str) -> int:
    value = getattr(config, key, None)
    return value if isinstance(value, int) else 0


def build(config: PretrainedConfig, *, device: str, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The class `AutoModelForCausalLM` chooses, as it initialises itself; float32 by default. Raises CannotRun."""
    import torch

    # A config class that came with the repository was loaded with the user's trust; a native one needs none.
    trusted = not type(config).__module__.startswith("transformers.")
    try:
        with quiet(), torch.device(device):
            auto = transformers_library().AutoModelForCausalLM
            model: PreTrainedModel = auto.from_config(config, dtype=dtype or torch.float32, trust_remote_code=trusted)
    except Exception as error:  # a class may raise anything on a config it was not written for
        raise CannotRun(f"no model can be built from {type(config).__name__}: {told(error)}") from error
    return model


def still(model: PreTrainedModel) -> PreTrainedModel:
    """Frozen, in eval mode."""
    model.requires_grad_(requires_grad=False)
    model.eval()  # type: ignore[no-untyped-call]
    return model


# --- the fit of the files to the class ---------------------------------------------------------------------------


def fit(snapshot: Snapshot, config: PretrainedConfig) -> Fit:
    """Names and shapes on file against the class, through the library's own loading code; no data is read.

    Every tensor on file is stood for by a meta tensor of its shape, and those are loaded. Raises CannotRun.
    """
    import torch

    model = skeleton(config)
    expected = len(model.state_dict())
    class_name = type(model).__name__
    if snapshot.ref.kind == "gguf":
        try:
            with quiet():
                return zoo_gguf.fit(snapshot, model, text_config(config))
        except (NotImplementedError, ValueError) as error:
            raise CannotRun(f"the GGUF names of {class_name} cannot be translated: {told(error)}") from error
    try:
        with quiet():
            ghosts = {name: torch.empty(entry.shape, device="meta") for name, entry in snapshot.tensors.items()}
            info = load_ghosts(model, ghosts, torch.float32)
    except Exception as error:  # the library's loader met names it was not written for
        raise CannotRun(f"{class_name} cannot take these tensors: {told(error)}") from error
    broken = {
        name: Misshapen(name, "parts that cannot be joined", _shape(model, name)) for name in info.conversion_errors
    }
    short = {
        name: words for name, *shapes in info.mismatched_keys if (words := lacking(name, snapshot.tensors, *shapes))
    }
    bad = [
        Misshapen(name, dims(seen), dims(wanted)) for name, seen, wanted in info.mismatched_keys if name not in short
    ]
    missing = {name for name in info.missing_keys if name not in broken} | set(short.values())
    result = Fit(
        class_name,
        expected,
        tuple(sorted(missing)),
        tuple(sorted(info.unexpected_keys)),
        tuple(sorted((*bad, *broken.values()), key=lambda m: m.name)),
    )
    modules = {name for name, _ in model.named_modules()}
    return packed(result, snapshot.tensors, modules) if quantization(config) else result


def quantization(config: PretrainedConfig) -> Any:
    """What the config, or the text config in it, says of quantization; None where nothing."""
    parts = (config, text_config(config))
    return next((held for part in parts if (held := getattr(part, "quantization_config", None))), None)


def load_ghosts(model: PreTrainedModel, ghosts: Mapping[str, torch.Tensor], dtype: torch.dtype) -> Any:
    """Give a model on the meta device stand-ins without data for its tensors on file, as transformers would load them.

    What of the model then shares a stand-in's storage would share the file's bytes. Returns the library's own account.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.modeling_utils import LoadStateDictConfig

    # Typed as one kind of conversion by the loader, as their common base by the function that lists them.
    conversions: Any = get_model_conversion_mapping(model)
    plan: Any = model._get_dtype_plan(dtype)
    settings = LoadStateDictConfig(device_map={"": "meta"}, dtype=dtype, dtype_plan=plan, weight_mapping=conversions)
    info, _ = type(model)._load_pretrained_model(model, dict(ghosts), None, settings)
    model.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(info)
    return info


def _shape(model: PreTrainedModel, name: str) -> str:
    held = model.state_dict().get(name)
    return "unknown" if held is None else dims(held.shape)
