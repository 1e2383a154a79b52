"""The TPL family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

TPL: tuple[Code, ...] = (
    Code(
        code="TPL01",
        name="no-template",
        family="TPL",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The model has no chat template.",
        remedy=(
            "Take the instruct checkpoint, set `tokenizer.chat_template`, or wire the model as a base model with "
            "plain-text prompts."
        ),
        reference=None,
    ),
    Code(
        code="TPL02",
        name="template-fails",
        family="TPL",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The chat template does not render a plain exchange of user and assistant turns.",
        remedy=(
            "Correct the line of the template that the error names, or take chat_template.jinja from the "
            "publisher's current commit."
        ),
        reference=None,
    ),
    Code(
        code="TPL03",
        name="system-role-refused",
        family="TPL",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The chat template raises when the first turn is a system turn.",
        remedy="Put the system text at the head of the first user turn for this model.",
        reference="guidellm#67",
    ),
    Code(
        code="TPL04",
        name="system-role-lost",
        family="TPL",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The chat template accepts a system turn and renders nothing of its text.",
        remedy="Put the system text at the head of the first user turn for this model.",
        reference=None,
    ),
    Code(
        code="TPL05",
        name="double-bos",
        family="TPL",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="Rendering a chat and then encoding it with defaults puts two begin-of-sequence tokens in front.",
        remedy="Encode rendered chats with `add_special_tokens=False`.",
        reference="DeepSeek-R1#151",
    ),
    Code(
        code="TPL06",
        name="two-paths-differ",
        family="TPL",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence=(
            "`apply_chat_template(tokenize=True)` and encoding the rendered text without special tokens give "
            "different ids."
        ),
        remedy="Use one path everywhere, best `apply_chat_template(tokenize=True, return_dict=True)`.",
        reference="transformers#37686",
    ),
    Code(
        code="TPL07",
        name="not-prefix-preserving",
        family="TPL",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="Adding a turn to a chat changes how the earlier turns are rendered.",
        remedy="Render the whole chat anew for every step; do not cache or concatenate rendered prefixes.",
        reference=None,
    ),
    Code(
        code="TPL08",
        name="turn-end-does-not-stop",
        family="TPL",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The token that closes the assistant's turn is in no set that generation stops at.",
        remedy=(
            "Add its id to the stop set: `model.generate(eos_token_id=[..., ID])`, or to `eos_token_id` in "
            "generation_config.json."
        ),
        reference=None,
    ),
    Code(
        code="TPL09",
        name="template-hostile",
        family="TPL",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The chat template tries to leave its sandbox, or runs past its bound of time or output.",
        remedy="Do not render it outside a sandbox; replace it with a template you have read.",
        reference=None,
    ),
    Code(
        code="TPL10",
        name="template-reads-clock",
        family="TPL",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The rendered prompt changes with the date, so results do not repeat from one day to the next.",
        remedy='Pass a fixed date to the template, such as `apply_chat_template(..., date_string="26 Jul 2024")`.',
        reference=None,
    ),
)
