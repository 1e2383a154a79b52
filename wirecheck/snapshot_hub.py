"""The files of one commit on the hub: metadata into the hub's own cache, checked; headers of the weights by range.

With `snapshot_hub_calls` the sole importer of huggingface_hub. Weights themselves are never downloaded.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # documented

from wirecheck.errors import CouldNotCheck, HubUnreachable, ModelNotFound, OfflineNotCached
from wirecheck.snapshot_apart import weights_apart
from wirecheck.snapshot_folder import (
    COMMIT,
    fences_of,
    is_metadata,
    list_files,
    max_bytes,
    read_weights,
)
from wirecheck.snapshot_hub_calls import together
from wirecheck.snapshot_hub_guard import at_most
from wirecheck.snapshot_hub_headers import weights_of
from wirecheck.snapshot_hub_repository import TIMEOUT_S, Repository
from wirecheck.weight_files import (
    DIGEST,
    Listed,
    WeightFile,
    digest_like,
    is_regular,
    spelt_outside,
)

MAX_METADATA_FILES = 200
"""A repository that lists more is not a model's."""
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
    weights = weights_of(repository, commit, listing)
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
