"""The headers of a commit's weights: their bytes are asked of the hub by range, and read in a process of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented

from wirecheck.errors import CouldNotCheck, HubUnreachable
from wirecheck.safetensors_header import HeaderError, header_end, is_lfs_pointer
from wirecheck.snapshot_apart import checkpoint_apart, weights_apart
from wirecheck.snapshot_folder import fences_of
from wirecheck.snapshot_hub_calls import AnswerCutShort, together
from wirecheck.snapshot_hub_repository import TIMEOUT_S, Repository
from wirecheck.weight_files import (
    Checkpoint,
    Listed,
    WeightFile,
    from_header,
    is_regular,
    lfs_pointer,
    read_weight_file,
)

MAX_SHARDS = 5000
"""Files whose headers are read: the largest models have some hundreds."""
_FIRST_BYTES = 64 * 1024
"""One request reads most headers: real ones have 0.6 to 22 kB."""
_HEADERS_AT_ONCE = 16
"""Headers held at a time, each up to the format's own limit."""


def weights_of(repository: Repository, commit: str, listing: dict[str, Listed]) -> tuple[WeightFile, ...]:
    """Every weight file's header: its bytes are asked for here, and read in a process of their own."""
    found = checkpoint_apart(listing, repository.folder(commit))
    if len(found.names) > MAX_SHARDS:
        raise CouldNotCheck(
            f"{repository.name}: {found.index} names {len(found.names)} files, more than the {MAX_SHARDS} that are read"
        )
    weights = found.broken
    for first in range(0, len(found.names), _HEADERS_AT_ONCE):
        some = found.names[first : first + _HEADERS_AT_ONCE]
        come = together([partial(_weight, repository, commit, listing, name, found) for name in some])
        weights += weights_apart(partial(_read_all, come), some[0])
    return weights


def _read_all(come: Sequence[Callable[[], WeightFile]]) -> tuple[WeightFile, ...]:
    return tuple(read() for read in come)


def _weight(
    repository: Repository, commit: str, listing: dict[str, Listed], name: str, found: Checkpoint
) -> Callable[[], WeightFile]:
    """What reads one weight file's header: from the cache where it is there, else bytes that came by range."""
    format_ = found.format
    if name not in listing:
        detail = f"{found.index} names it, and the hub lacks it"
        return lambda: WeightFile(name, None, None, format_, problem="missing", detail=detail)
    folder, listed = repository.folder(commit), listing[name].size
    if is_regular(folder / name):
        return partial(read_weight_file, name, folder, found, fences=fences_of(repository.storage))
    if format_ == "pickle":
        return lambda: WeightFile(name, None, listed, format_)
    head, size = _head(repository, commit, name, listed)
    if is_lfs_pointer(head):
        return lambda: lfs_pointer(name, None, len(head) if size is None else size, format_)
    return partial(from_header, name, None, size, head)


def _head(repository: Repository, commit: str, name: str, size: int | None) -> tuple[bytes, int | None]:
    """The first bytes of a file, at least its whole header where it has one, and the file's size."""
    url = hf_hub_url(repository.name, name, revision=commit, endpoint=repository.endpoint)
    what = f"the header of {name}"
    head, total = repository.ask(lambda: _range(url, 0, _FIRST_BYTES, size), what)
    size = total if size is None else size
    if total is not None and total != size:
        raise HubUnreachable(f"{repository.name}: {name} is listed with {size} bytes and served with {total}")
    try:
        end = header_end(head, file_size=size)
    except HeaderError:
        return head, size  # whoever parses it says what is wrong
    if end > len(head):
        known, first = size, len(head)
        more, _ = repository.ask(lambda: _range(url, first, end, known), what, end)
        head += more
    return head, size


def _range(url: str, begin: int, end: int, size: int | None) -> tuple[bytes, int | None]:
    """Bytes [begin, end) of a file, fewer only where the file ends; and its size, where the answer tells it."""
    headers = {**build_hf_headers(), "Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
    received = bytearray()
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True) as response:
        hf_raise_for_status(response)
        partial_content = response.status_code == 206  # noqa: PLR2004  # else the whole file comes: skip to `begin`
        skip = 0 if partial_content else begin
        for chunk in response.iter_bytes():
            received += chunk
            if len(received) >= skip + end - begin:
                break
        told = response.headers.get("Content-Range", "").rpartition("/")[2]
    total = int(told) if partial_content and told.isdigit() else None
    found = bytes(received[skip : skip + end - begin])
    known = size if size is not None else total
    if known is not None and len(found) < min(end, known) - begin:
        raise AnswerCutShort(f"{len(found)} of {min(end, known) - begin} bytes came")
    return found, total
