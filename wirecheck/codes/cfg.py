"""The CFG family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

CFG: tuple[Code, ...] = (
    Code(
        code="CFG01",
        name="config-unreadable",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The model's config.json is missing, is not JSON, is not an object, or is nested past reason.",
        remedy=(
            "Fetch the file again (`hf download ORG/NAME config.json --force-download`) and check that it parses: "
            "`python -m json.tool config.json`."
        ),
        reference=None,
    ),
    Code(
        code="CFG02",
        name="architecture-unknown",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The installed transformers has no class for the model type that config.json names.",
        remedy=(
            "Install a transformers release that has the class (`pip install -U transformers`), or correct "
            "`model_type` in config.json."
        ),
        reference=None,
    ),
    Code(
        code="CFG03",
        name="not-a-causal-lm",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence=(
            "The checkpoint is not a decoder with a language-model head: it is an encoder, an encoder-decoder, or "
            "it carries another head."
        ),
        remedy=(
            "Use a checkpoint whose `architectures` ends in `ForCausalLM`, usually the base or instruct repository "
            "of the same family."
        ),
        reference=None,
    ),
    Code(
        code="CFG04",
        name="remote-code-required",
        family="CFG",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence=(
            "The class is not in the installed transformers and lives in Python files of the repository, which "
            "wirecheck does not execute unasked."
        ),
        remedy=(
            "Read those files, pin the commit (`ORG/NAME@COMMIT`), then run again with `--trust-remote-code`; until "
            "then nothing that runs the model is proven."
        ),
        reference=None,
    ),
    Code(
        code="CFG05",
        name="geometry-inconsistent",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The sizes that config.json declares contradict one another, or cannot be sizes at all.",
        remedy=(
            "Restore config.json from the publisher's commit, or set the value the evidence names to what the "
            "weights were trained with."
        ),
        reference=None,
    ),
    Code(
        code="CFG06",
        name="text-config-nested",
        family="CFG",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The sizes of the language model stand in a nested text config, as in multimodal wrappers.",
        remedy="Read sizes from the nested config (`config.get_text_config()`), never from the top level.",
        reference="vllm#14687",
    ),
    Code(
        code="CFG07",
        name="quantized-without-backward",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence=(
            "The checkpoint's linear layers are quantized in a form that hands no dependable gradient back to the "
            "layers before them."
        ),
        remedy=(
            "Use the unquantized checkpoint, or load this one dequantized (for example "
            "`quantization_config=FineGrainedFP8Config(dequantize=True)` or `Mxfp4Config(dequantize=True)`), or in "
            "4 bits with bitsandbytes, which does pass gradients."
        ),
        reference="transformers#46736",
    ),
    Code(
        code="CFG08",
        name="sequence-too-long",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="Latent, context and answer together take more positions than the model has.",
        remedy=(
            "Shorten the sequence with `--latent-length`, `--context` or `--answer`, or choose a model with a "
            "longer context."
        ),
        reference=None,
    ),
    Code(
        code="CFG09",
        name="stop-ids-disagree",
        family="CFG",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence=(
            "The end-of-sequence ids of config.json, generation_config.json and the tokenizer are not the same set."
        ),
        remedy=(
            "Pass the union to generation, `model.generate(eos_token_id=[...])`, or write it into `eos_token_id` of "
            "generation_config.json."
        ),
        reference="Qwen3#927",
    ),
    Code(
        code="CFG10",
        name="needs-token-ids",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="The model needs the token ids beside the embeddings, so soft tokens alone cannot drive it.",
        remedy=(
            "Choose a model without per-layer embeddings or hash routing, or give the wire a rule for the ids of "
            "its soft tokens."
        ),
        reference="transformers#45874",
    ),
    Code(
        code="CFG11",
        name="expectation-failed",
        family="CFG",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A fact that the user wrote down about the model is not what was found.",
        remedy=(
            "Correct the expectation in wirecheck.toml if the finding is right; otherwise check that the revision "
            "is the one you meant (`ORG/NAME@COMMIT`)."
        ),
        reference=None,
    ),
    Code(
        code="CFG12",
        name="dtype-differs",
        family="CFG",
        severity=Severity.NOTE,
        level=Level.DECLARED,
        sentence="The dtype the checkpoint was saved in is not the dtype of this run.",
        remedy="Pass the checkpoint's dtype with `--dtype`, or accept the cast.",
        reference=None,
    ),
    Code(
        code="CFG13",
        name="implementation-refused",
        family="CFG",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence=(
            "The config names an implementation of attention or of experts that does not load here, or that is code "
            "of another repository: a run that loads the model plainly ends there, or runs that code."
        ),
        remedy=(
            "Take the key out of config.json, or name another implementation where the model is loaded: "
            '`from_pretrained(..., attn_implementation="sdpa")`. wirecheck ran the library\'s own choice.'
        ),
        reference=None,
    ),
)
