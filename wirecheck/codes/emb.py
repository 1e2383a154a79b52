"""The EMB family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

EMB: tuple[Code, ...] = (
    Code(
        code="EMB01",
        name="embeds-refused",
        family="EMB",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="The model's forward raises when it is given `inputs_embeds` in place of ids.",
        remedy=(
            "Choose a model whose forward accepts `inputs_embeds`, or a transformers release where it does (`pip "
            "install -U transformers`)."
        ),
        reference=None,
    ),
    Code(
        code="EMB02",
        name="embeds-differ-from-ids",
        family="EMB",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="Feeding the embeddings of some ids does not give the logits that the ids themselves give.",
        remedy=(
            "Feed what `model.get_input_embeddings()(ids)` returns, and apply to soft tokens the scale or offset "
            "that the finding names."
        ),
        reference=None,
    ),
    Code(
        code="EMB03",
        name="embeds-ignored",
        family="EMB",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="Changing the embeddings leaves the logits as they were: the model does not read them.",
        remedy="Pass `inputs_embeds` without `input_ids`, and choose a model class that uses them.",
        reference=None,
    ),
    Code(
        code="EMB04",
        name="embeds-generate-fails",
        family="EMB",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="Generation from embeddings raises, or returns another number of new tokens than was asked for.",
        remedy=(
            "Decode by an explicit loop over forward calls with `past_key_values`, and pass an `attention_mask` "
            "with `inputs_embeds`."
        ),
        reference=None,
    ),
    Code(
        code="EMB05",
        name="no-gradient-to-embeds",
        family="EMB",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="With every parameter frozen, no gradient, or a non-finite one, comes back to the embeddings.",
        remedy=(
            "Remove `no_grad` or `detach` on the way, choose kernels with a backward "
            '(`attn_implementation="eager"`), or run in a wider dtype.'
        ),
        reference=None,
    ),
    Code(
        code="EMB06",
        name="padding-changes-logits",
        family="EMB",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="The same row gives other logits when it is padded on the left.",
        remedy=(
            "Pass `position_ids` counted from the first real token beside the mask, or pad on the right in training."
        ),
        reference=None,
    ),
    Code(
        code="EMB07",
        name="checkpointing-changes-gradient",
        family="EMB",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="With gradient checkpointing on, the gradient to the embeddings is missing or another one.",
        remedy=(
            'Use `gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})` with '
            "`model.train()` and `use_cache=False`."
        ),
        reference="transformers#23170",
    ),
    Code(
        code="EMB08",
        name="cache-differs",
        family="EMB",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="Continuing from the cache gives other logits than the full forward.",
        remedy=(
            "Pass `position_ids` and the full `attention_mask` at every cached step, or decode with `use_cache=False`."
        ),
        reference=None,
    ),
    Code(
        code="EMB09",
        name="masked-row-not-finite",
        family="EMB",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="A fully padded row gives NaN in values or gradients, which then spoils the whole batch.",
        remedy="Drop empty rows before the forward, or leave at least one position of each row unmasked.",
        reference="pytorch#103749",
    ),
    Code(
        code="EMB10",
        name="embedding-scale",
        family="EMB",
        severity=Severity.NOTE,
        level=Level.SIMULATED,
        sentence="The embedding table, and what the first block receives, have a scale that soft tokens must match.",
        remedy="Calibrate soft tokens to the RMS of the table, after whatever scale the model applies itself.",
        reference="OpenTau#179",
    ),
    Code(
        code="EMB11",
        name="loss-near-chance",
        family="EMB",
        severity=Severity.WARN,
        level=Level.EXECUTED,
        sentence="On no plain text is the real model's loss below a quarter of chance: weights or config are wrong.",
        remedy=(
            "Generate a sentence with the model by itself; compare model_type, heads and head_dim in config.json with "
            "those the weights were trained with, and fetch both anew from one commit."
        ),
        reference=None,
    ),
    Code(
        code="EMB12",
        name="inputs-mutated",
        family="EMB",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="The forward changes its caller's tensors in place: a second forward is given other embeddings.",
        remedy="Pass a fresh tensor to every forward (`inputs_embeds=embeds.clone()`), and the mask likewise.",
        reference=None,
    ),
    Code(
        code="EMB13",
        name="better-read-otherwise",
        family="EMB",
        severity=Severity.WARN,
        level=Level.EXECUTED,
        sentence="The real model predicts plain text clearly better when its weights are read in another way.",
        remedy=(
            "Compare hidden_act, rope_parameters and model_type in config.json, and the order of the converted "
            "matrices, with the model's first source; fetch config and weights anew from one commit."
        ),
        reference=None,
    ),
)
