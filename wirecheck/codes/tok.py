"""The TOK family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

TOK: tuple[Code, ...] = (
    Code(
        code="TOK01",
        name="tokenizer-unloadable",
        family="TOK",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The tokenizer is missing or cannot be built from the model's files.",
        remedy=(
            "Fetch the tokenizer files (`hf download ORG/NAME --include 'tokenizer*' 'special_tokens_map.json'`), "
            "and install what the error names, often `sentencepiece` or `tiktoken`."
        ),
        reference=None,
    ),
    Code(
        code="TOK02",
        name="token-beyond-embedding",
        family="TOK",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The tokenizer can produce an id for which the embedding has no row.",
        remedy=(
            "Resize the embedding (`model.resize_token_embeddings(len(tokenizer))`) and train the new rows, or "
            "remove the added tokens."
        ),
        reference="transformers#26714",
    ),
    Code(
        code="TOK03",
        name="no-eos",
        family="TOK",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="No end-of-sequence token is defined anywhere, so nothing can stop generation.",
        remedy=(
            "Set `eos_token` in tokenizer_config.json and `eos_token_id` in generation_config.json to the token "
            "that ended texts in training."
        ),
        reference=None,
    ),
    Code(
        code="TOK04",
        name="no-bos",
        family="TOK",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The tokenizer has no begin-of-sequence token.",
        remedy="Let the anchor start without one; do not fall back on another id for it.",
        reference=None,
    ),
    Code(
        code="TOK05",
        name="no-pad",
        family="TOK",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The tokenizer has no padding token.",
        remedy=(
            'Set one that text never contains and that has an embedding row: `tokenizer.pad_token = "<the token '
            'the finding names>"`; mask padded positions.'
        ),
        reference=None,
    ),
    Code(
        code="TOK06",
        name="pad-is-eos",
        family="TOK",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence=(
            "The padding token is the end-of-sequence token, so masking labels where `ids == pad` drops every real "
            "end as well."
        ),
        remedy="Mask labels by `attention_mask`, not by the pad id, or set another `pad_token`.",
        reference="llm-course#33, trl#1623",
    ),
    Code(
        code="TOK07",
        name="bos-count-wrong",
        family="TOK",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="Plain encoding does not begin with exactly the one begin-of-sequence token that the model has.",
        remedy=(
            "Encode with `add_special_tokens=False` and put the token in front yourself, or correct `add_bos_token` "
            "in tokenizer_config.json."
        ),
        reference=None,
    ),
    Code(
        code="TOK08",
        name="special-token-splits",
        family="TOK",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A declared special token does not encode to its one id but is split into several.",
        remedy=(
            "Register it as special: `tokenizer.add_special_tokens({...})`, save the tokenizer, and check that the "
            "id has a trained row."
        ),
        reference=None,
    ),
    Code(
        code="TOK09",
        name="round-trip-lossy",
        family="TOK",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="Decoding what was encoded does not give the text back.",
        remedy=(
            "Decode with `clean_up_tokenization_spaces=False`; where the loss remains, compare answers after the "
            "same round trip on both sides."
        ),
        reference=None,
    ),
    Code(
        code="TOK10",
        name="special-id-collision",
        family="TOK",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="Two special roles, or two strings, share one id.",
        remedy=(
            "Give each role its own token in tokenizer_config.json, and never build a mask or a stop set from the "
            "shared id."
        ),
        reference=None,
    ),
)
