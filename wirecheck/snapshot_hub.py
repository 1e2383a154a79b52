"""The files of one commit on the hub: metadata into the hub's own cache, checked; headers of the weights by range.

With `snapshot_hub_calls` the sole importer of huggingface_hub. Weights themselves are never downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import HfApi, constants, get_session, hf_hub_download, hf_hub_url, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]  # documented

from wirecheck.errors import CouldNotCheck, HubUnreachable, ModelNotFound, OfflineNotCached
from wirecheck.safetensors_header import HeaderError, header_end, is_lfs_pointer
from wirecheck.snapshot_apart import checkpoint_apart, weights_apart
from wirecheck.snapshot_folder import (
    COMMIT,
    fences_of,
    is_metadata,
    list_files,
    max_bytes,
    read_weights,
)
from wirecheck.snapshot_hub_calls import AnswerCutShort, ask, together
from wirecheck.snapshot_hub_guard import at_most
from wirecheck.weight_files import (
    DIGEST,
    Checkpoint,
    Listed,
    WeightFile,
    digest_like,
    from_header,
    is_regular,
    lfs_pointer,
    read_weight_file,
    spelt_outside,
)

T = TypeVar("T")

TIMEOUT_S = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
"""Without a byte for this long, a request is given up (and tried again)."""
MAX_METADATA_FILES = 200
"""A repository that lists more is not a model's."""
MAX_SHARDS = 5000
"""Files whose headers are read: the largest models have some hundreds."""
DEADLINE_S = 60.0
_SLOWEST_BYTES_PER_S = 50_000
"""A file is given the deadline plus its size at this speed."""
_FIRST_BYTES = 64 * 1024
"""One request reads most headers: real ones have 0.6 to 22 kB."""
_HEADERS_AT_ONCE = 16
"""Headers held at a time, each up to the format's own limit."""
_SETTLED = ("config.json", "tokenizer_config.json")
"""Files of which an offline run must know that they are there, or that there are none."""


@dataclass(frozen=True)
class HubContent:
    """What one commit of one repository holds: the parts of a Snapshot that come from the hub."""

    commit: str
    folder: Path
    """The commit's folder in the hub's cache."""
    files: tuple[str, ...]
    weights: tuple[WeightFile, ...]
    listed: tuple[Listed, ...] = ()
    """As the hub lists them; nothing where only the cache was asked."""


@dataclass(frozen=True)
class Repository:
    """One repository at one revision, on one endpoint, with one cache."""

    name: str
    revision: str | None
    endpoint: str
    cache: Path

    @property
    def storage(self) -> Path:
        """Its folder in the cache."""
        return self.cache / f"models--{self.name.replace('/', '--')}"

    def folder(self, commit: str) -> Path:
        """The commit's folder in the cache."""
        return self.storage / "snapshots" / commit

    def ask(self, call: Callable[[], T], what: str, size: int = 0) -> T:
        """See `snapshot_hub_calls.ask`."""
        deadline_s = DEADLINE_S + size / _SLOWEST_BYTES_PER_S
        page = f"{without_password(self.endpoint)}/{self.name}"
        return ask(call, repo=self.name, what=what, deadline_s=deadline_s, page=page)

    @property
    def download(self) -> str:
        """The command that fetches everything."""
        return f"hf download {self.name}" + (f" --revision {self.revision}" if self.revision else "")


def without_password(endpoint: str) -> str:
    """An address as it may be printed."""
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def repository_of(
    name: str, revision: str | None, *, endpoint: str | None = None, cache_dir: Path | None = None
) -> Repository:
    """A repository on the hub, with the cache, that huggingface_hub's own variables name where none is given."""
    endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
    return Repository(name, revision, endpoint, Path(cache_dir or constants.HF_HUB_CACHE))


def fetch(
    name: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> HubContent:
    """One commit's metadata in the cache and its weight headers. Raises CouldNotCheck's children.

    Offline (also by HF_HUB_OFFLINE) only the cache is read. The other defaults are huggingface_hub's own: HF_ENDPOINT,
    HF_HOME, HF_TOKEN.
    """
    repository = repository_of(name, revision, endpoint=endpoint, cache_dir=cache_dir)
    if offline or constants.HF_HUB_OFFLINE:
        return _from_cache(repository)
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    commit, listing = list_files_of(repository)
    wanted = [listed for listed in listing.values() if is_metadata(listed.name)]
    if not wanted:
        raise ModelNotFound(f"{name} holds no file of a model", next_step="name a repository that has a config.json")
    if len(wanted) > MAX_METADATA_FILES:
        raise CouldNotCheck(
            f"{name} lists {len(wanted)} metadata files, more than the {MAX_METADATA_FILES} that are read"
        )
    # config.json last: its presence in the cache then says that the others are there, too.
    wanted.sort(key=lambda listed: (listed.name == "config.json", listed.name))
    together([partial(_download, repository, commit, listed) for listed in wanted if listed.name != "config.json"])
    if wanted[-1].name == "config.json":
        _download(repository, commit, wanted[-1])
    _remember(repository, commit, listing)
    weights = _weights(repository, commit, listing)
    return HubContent(commit, repository.folder(commit), tuple(listing), weights, tuple(listing.values()))


def list_files_of(repository: Repository) -> tuple[str, dict[str, Listed]]:
    """The commit that the revision stands for, and its files."""
    api = HfApi(endpoint=repository.endpoint)

    def call() -> tuple[str, dict[str, Listed]]:
        info = api.model_info(repository.name, revision=repository.revision, files_metadata=True, timeout=TIMEOUT_S)
        if not isinstance(info.sha, str) or not COMMIT.match(info.sha):
            raise ValueError("the answer names no commit")
        return info.sha, {f.rfilename: _listed(f) for f in sorted(info.siblings or (), key=lambda f: f.rfilename)}

    return repository.ask(call, "the list of its files")


def _listed(sibling: Any) -> Listed:
    """One file of the listing. ValueError where its size or digest is none, whatever the hub's client takes."""
    lfs = sibling.lfs
    size, digest = (sibling.size, sibling.blob_id) if lfs is None else (lfs["size"], lfs["sha256"])
    if size is not None and (type(size) is not int or size < 0):
        raise ValueError("the size of a file is no number of bytes")
    if digest is not None and (not isinstance(digest, str) or not DIGEST.fullmatch(digest)):
        raise ValueError("the digest of a file is none")
    return Listed(sibling.rfilename, size, digest)


def _download(repository: Repository, commit: str, listed: Listed) -> None:
    """One metadata file into the cache, its bytes compared with the listed digest; a bad copy is fetched once more."""
    if listed.size is not None and listed.size > max_bytes(listed.name):
        raise CouldNotCheck(
            f"{repository.name}: {listed.name} has {listed.size} bytes, more than the {max_bytes(listed.name)} read"
        )
    for force in (False, True):
        call = partial(
            hf_hub_download,
            repository.name,
            listed.name,
            revision=commit,
            endpoint=repository.endpoint,
            cache_dir=repository.cache,
            force_download=force,
            etag_timeout=TIMEOUT_S,
            tqdm_class=at_most(max_bytes(listed.name) if listed.size is None else listed.size),
        )
        try:
            path = Path(repository.ask(call, listed.name, listed.size or 0))
        except ModelNotFound:
            # The client notes a 404 as "this commit has no such file", and later readers would believe it.
            (repository.storage / ".no_exist" / commit / listed.name).unlink(missing_ok=True)
            raise
        if listed.digest is None or digest_like(path, listed.digest) == listed.digest:
            return
        blob = blob_of(path)
        path.unlink(missing_ok=True)  # else the client leaves the link where it leads, whatever it downloads
    blob.unlink(missing_ok=True)
    raise HubUnreachable(
        f"{repository.name}: the bytes of {listed.name} are not those the hub lists ({listed.digest})",
        next_step="try again; a proxy or mirror in between may serve an altered copy",
    )


def blob_of(path: Path) -> Path:
    """The cache's own name for a file's bytes, which is what the hub calls them: where the file's link leads.

    Not where that leads in turn: a blob that came by Xet is itself a link, to a name that Xet gives.
    """
    return path.parent / path.readlink() if path.is_symlink() else path


def _remember(repository: Repository, commit: str, listing: dict[str, Listed]) -> None:
    """What an offline run asks of the cache, in the client's own form: which files there are not, and the branch."""
    for name in _SETTLED:
        if name not in listing:
            with suppress(OSError):
                note = repository.storage / ".no_exist" / commit / name
                note.parent.mkdir(parents=True, exist_ok=True)
                note.touch()
    revision = repository.revision or constants.DEFAULT_REVISION
    if revision == commit:
        return
    if spelt_outside(revision):
        return  # no branch of git is spelt so, whatever the hub says of it
    ref = repository.storage / "refs" / revision
    aside = ref.with_name(f"{ref.name}.{os.getpid()}")
    try:
        ref.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(commit, encoding="utf-8")
        aside.replace(ref)
    except OSError:
        aside.unlink(missing_ok=True)  # a cache that cannot be written costs only a later offline run


def _weights(repository: Repository, commit: str, listing: dict[str, Listed]) -> tuple[WeightFile, ...]:
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


def _from_cache(repository: Repository) -> HubContent:
    """Offline: what the cache holds, if that is all that is needed."""
    commit = _cached_commit(repository)
    folder = repository.folder(commit)
    if not folder.is_dir():
        raise OfflineNotCached(f"offline, and {repository.name} is not in the cache", next_step=repository.download)
    held = list_files(folder)
    files = _cached_listing(repository, commit) or held
    lacking = [name for name in files if is_metadata(name) and name not in held]
    if files is held:
        lacking += [name for name in _SETTLED if not _settled(repository, commit, name)]
    fences = fences_of(repository.storage)
    weights = weights_apart(lambda: read_weights(folder, files, fences=fences), "model.safetensors")
    lacking += [file.name for file in weights if file.problem == "missing"]
    if not weights and files is held:
        lacking.append("model.safetensors")
    if lacking:
        raise OfflineNotCached(
            f"offline, and the cache lacks {', '.join(lacking)} of {repository.name}", next_step=repository.download
        )
    for name in filter(is_metadata, held):
        blob = blob_of(folder / name).name
        if DIGEST.match(blob) and digest_like(folder / name, blob) != blob:
            raise HubUnreachable(
                f"{repository.name}: the cached {name} is damaged", next_step=f"{repository.download} --force-download"
            )
    return HubContent(commit, folder, files, weights)


def _cached_commit(repository: Repository) -> str:
    revision = repository.revision or constants.DEFAULT_REVISION
    if COMMIT.match(revision):
        return revision
    try:
        ref = repository.storage / "refs" / revision
        commit = "" if spelt_outside(revision) else ref.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    if not COMMIT.match(commit):
        raise OfflineNotCached(
            f"offline, and {repository.name} is not in the cache at {revision}", next_step=repository.download
        )
    return commit


def _settled(repository: Repository, commit: str, name: str) -> bool:
    """Whether the cache holds the file, or the client's note that the commit has none of that name."""
    return is_regular(repository.folder(commit) / name) or (repository.storage / ".no_exist" / commit / name).exists()


def _cached_listing(repository: Repository, commit: str) -> tuple[str, ...] | None:
    """The commit's files, where a whole `hf download` left its list (clients that keep one)."""
    if not hasattr(huggingface_hub, "get_cached_repo_tree"):
        return None
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        tree = huggingface_hub.get_cached_repo_tree(repository.name, revision=commit, cache_dir=repository.cache)
    except CachedRepoTreeNotFoundError:
        return None
    return tuple(sorted(file.path for file in tree))


def hub_cache() -> Path:
    """The folder of the hub's cache on this machine, by huggingface_hub's own rules; it may not exist yet."""
    return Path(constants.HF_HUB_CACHE)


def cached_folder(name: str, commit: str) -> Path:
    """Where the cache keeps, or would keep, the files of one commit."""
    return repository_of(name, commit).folder(commit)


def token_present() -> bool:
    """Whether huggingface_hub would send a token. The token itself is not returned."""
    return huggingface_hub.get_token() is not None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE keeps huggingface_hub from the network."""
    return bool(constants.HF_HUB_OFFLINE)
