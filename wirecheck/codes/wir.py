"""The WIR family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

WIR: tuple[Code, ...] = (
    Code(
        code="WIR01",
        name="wire-fails",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="The encoder, an adapter or a frozen model raises when the wire is run.",
        remedy=(
            "Read the shapes, dtypes and devices in the message; cast the prefix to the dtype and device of the "
            "model's embedding."
        ),
        reference=None,
    ),
    Code(
        code="WIR02",
        name="dead-parameters",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="Trainable tensors receive no gradient, or one that is exactly zero.",
        remedy=(
            "Connect the tensors named, or freeze and drop them from the optimizer; look for a `detach`, a "
            "`no_grad` or an unused branch."
        ),
        reference=None,
    ),
    Code(
        code="WIR03",
        name="loss-not-finite",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="The loss or a gradient is NaN or infinite.",
        remedy=(
            "Run in `--dtype bfloat16` or `float32`, calibrate the prefix to the embedding's RMS, and look for rows "
            "without a label."
        ),
        reference=None,
    ),
    Code(
        code="WIR04",
        name="frozen-gets-gradient",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="A parameter of a model that should be frozen holds a gradient.",
        remedy=(
            "Call `model.requires_grad_(False)` before the first forward, and give the optimizer the trainable "
            "parameters only."
        ),
        reference=None,
    ),
    Code(
        code="WIR05",
        name="does-not-learn",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="One batch is not overfitted in the steps given.",
        remedy=(
            "Raise the learning rate or the steps, and check labels and prefix scale first; a wire that cannot "
            "learn one batch learns no task."
        ),
        reference=None,
    ),
    Code(
        code="WIR06",
        name="labels-misaligned",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="The loss of the step is not the next-token loss computed independently: labels are misaligned.",
        remedy="Pass unshifted labels (the model shifts them), with -100 on latent and context positions.",
        reference=None,
    ),
    Code(
        code="WIR07",
        name="prefix-off-scale",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="The soft tokens' RMS is far from that of the model's embedding table.",
        remedy="Scale the prefix to the table's RMS, `prefix * (table_rms / prefix_rms)`, at every step.",
        reference=None,
    ),
    Code(
        code="WIR08",
        name="padding-changes-loss",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="Padding the batch further changes the loss.",
        remedy="Mask padded positions in attention and labels (-100), and pass explicit `position_ids`.",
        reference=None,
    ),
    Code(
        code="WIR09",
        name="batching-changes-loss",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="The loss of a batch is not the loss of its rows taken together.",
        remedy="Divide the summed loss by the number of labelled tokens, and mask padding in the encoder too.",
        reference=None,
    ),
    Code(
        code="WIR10",
        name="state-not-restored",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="An adapter that was saved and loaded again gives another output.",
        remedy=(
            "Save every trainable tensor and buffer (`state_dict()` of encoder and adapters, calibration included) "
            "and load with `strict=True`."
        ),
        reference=None,
    ),
    Code(
        code="WIR11",
        name="latent-ignores-source",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="Two different sources give the same latent: the encoder does not read its input.",
        remedy="Check the mask that is passed to the encoder and the gate of its pooler, which may be shut.",
        reference=None,
    ),
    Code(
        code="WIR12",
        name="prefix-generation-differs",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="Greedy generation from the prefix gives other tokens with the cache than without it.",
        remedy="Pass the full `attention_mask`, prefix included, and `position_ids` at every cached step.",
        reference=None,
    ),
    Code(
        code="WIR13",
        name="wire-does-not-fit",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A size of the wire does not fit the model: a layer it lacks, heads that do not divide a width.",
        remedy=("Give the size named in the claim; `wirecheck model` shows the layers, heads and widths of a model."),
        reference=None,
    ),
    Code(
        code="WIR14",
        name="anchor-malformed",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="The text before the answer begins with other than the one BOS, or ends the turn before the answer.",
        remedy=(
            "Render the anchor with `add_generation_prompt=True`, encode it with `add_special_tokens=False`, and put "
            "one BOS first."
        ),
        reference=None,
    ),
    Code(
        code="WIR15",
        name="boundary-retokenised",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="The answer's tokens are not those its text has when anchor and answer are encoded together.",
        remedy=(
            "End the anchor without a space and begin the answer with one; or take the answer's ids from the encoding "
            "of the whole."
        ),
        reference=None,
    ),
    Code(
        code="WIR16",
        name="source-truncated",
        family="WIR",
        severity=Severity.NOTE,
        level=Level.SIMULATED,
        sentence="The end of a long source does not reach the latent: the question, when it comes last, is lost.",
        remedy=("Put the question first, cut the source at its beginning, or raise the length the encoder reads."),
        reference=None,
    ),
    Code(
        code="WIR17",
        name="labels-not-the-answer",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="The tokens a model is trained to predict do not decode to the answer with that model's tokenizer.",
        remedy=("Encode each side's text with that side's own tokenizer."),
        reference=None,
    ),
    Code(
        code="WIR18",
        name="checkpointing-inactive",
        family="WIR",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="Gradient checkpointing was asked for, and no layer of the frozen model is run again in backward.",
        remedy=(
            "Put the model in train mode (with dropout at zero): transformers skips checkpointing in eval mode "
            "without a word."
        ),
        reference=None,
    ),
    Code(
        code="WIR19",
        name="text-of-another-tokenizer",
        family="WIR",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="A model is given token ids that the other model's tokenizer made: it reads another text.",
        remedy="Encode what each model reads with that model's own tokenizer, the sender's source included.",
        reference=None,
    ),
)
