"""The WGT family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

WGT: tuple[Code, ...] = (
    Code(
        code="WGT01",
        name="shard-missing",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A file of weights that the index names is not there, or the model has no weights at all.",
        remedy=(
            "Fetch what is missing: `hf download ORG/NAME --include '*.safetensors'`, or name the folder that holds "
            "the shards."
        ),
        reference=None,
    ),
    Code(
        code="WGT02",
        name="shard-truncated",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A shard's size is not what its own header promises: the file was cut short or has bytes too many.",
        remedy=(
            "Delete the shard and fetch it again: `hf download ORG/NAME SHARD --force-download`; check the free "
            "disk space first."
        ),
        reference="airllm#137",
    ),
    Code(
        code="WGT03",
        name="lfs-pointer",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A file of weights is a Git LFS pointer, some hundred bytes of text in place of the tensors.",
        remedy="Fetch the real file: `git lfs pull` in the clone, or `hf download ORG/NAME`.",
        reference="MFTCoder#20",
    ),
    Code(
        code="WGT04",
        name="header-malformed",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence=(
            "A safetensors header breaks the format: not JSON, offsets that overlap or leave gaps, duplicate names, "
            "or a length past the limit."
        ),
        remedy=(
            "Do not load the file; fetch it again from the publisher, or write it anew with "
            "`safetensors.torch.save_file`."
        ),
        reference=None,
    ),
    Code(
        code="WGT05",
        name="tensor-missing",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence=(
            "A tensor that the class expects is in no file, and no tie provides it, so it would be random after "
            "loading."
        ),
        remedy=(
            "Use a complete checkpoint, or set `tie_word_embeddings` as it was in training when the missing tensor "
            "is the head."
        ),
        reference="transformers#34759, transformers#38870",
    ),
    Code(
        code="WGT06",
        name="tensor-unexpected",
        family="WGT",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The files hold tensors that the class does not read.",
        remedy=(
            "Check that `architectures` names the class the weights were saved from; buffers of older releases can "
            "stay."
        ),
        reference=None,
    ),
    Code(
        code="WGT07",
        name="tensor-shape-differs",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A tensor's shape on file is not the shape that the config implies.",
        remedy="Take config.json and weights from one commit, and correct the size the evidence names.",
        reference=None,
    ),
    Code(
        code="WGT08",
        name="vocab-rows-differ",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="The embedding or the head has another number of rows than the config's vocabulary size.",
        remedy=(
            "Set `vocab_size` to the rows on file, or resize and save: `model.resize_token_embeddings(N); "
            "model.save_pretrained(DIR)`."
        ),
        reference="mergekit#489",
    ),
    Code(
        code="WGT09",
        name="padding-rows",
        family="WGT",
        severity=Severity.NOTE,
        level=Level.INSPECTED,
        sentence="The embedding has rows past the last token of the tokenizer: padding that no text reaches.",
        remedy="Mask those logits (`logits[..., num_tokens:] = -inf`) before sampling or distilling.",
        reference="llm-foundry#590",
    ),
    Code(
        code="WGT10",
        name="pickle-only",
        family="WGT",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The weights come only as pickle files, which can execute code when loaded and are not opened here.",
        remedy=(
            "Convert them once in a sandbox: `torch.load(FILE, weights_only=True)`, then "
            "`safetensors.torch.save_file`, or use a revision with safetensors."
        ),
        reference=None,
    ),
    Code(
        code="WGT11",
        name="non-finite-weights",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.EXECUTED,
        sentence="A tensor of the real weights holds NaN or infinity.",
        remedy=(
            "Fetch the shard again; if the publisher's bytes are the same, use another checkpoint or a wider dtype "
            "(`--dtype bfloat16`)."
        ),
        reference=None,
    ),
    Code(
        code="WGT12",
        name="dtype-mixed",
        family="WGT",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="The weights are stored in several dtypes.",
        remedy=(
            "Load with one explicit dtype, `from_pretrained(..., dtype=torch.bfloat16)`, so that no float32 island "
            "meets bfloat16 activations."
        ),
        reference=None,
    ),
    Code(
        code="WGT13",
        name="weights-digest-differs",
        family="WGT",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence="A file is not the bytes that were pinned, or one is there that was not.",
        remedy="Fetch the pinned commit again (`ORG/NAME@COMMIT`); only when the change is meant, pin the new digest.",
        reference=None,
    ),
    Code(
        code="WGT14",
        name="zero-filled",
        family="WGT",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="Large tensors are all zeros: a placeholder or a hole in the file, not trained weights.",
        remedy=(
            "Fetch the real shards (`hf download ORG/NAME`) before anything is claimed about the numbers; until "
            "then the executed rung stays unproven."
        ),
        reference=None,
    ),
)
