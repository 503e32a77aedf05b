"""Files of a question set from the Hugging Face hub, kept in a cache and checked against their hashes.

A card names repository, files and commit, so that everybody reads the same bytes. The cache holds a folder for each
commit with the files and ``files.json``: the size and SHA-256 of each. The folder appears whole or not at all, and
whoever opens it later compares every file with the list. Once a commit is in the cache no network is needed.

The hub takes a commit by its whole hash only. Where a card has the first digits of it, the whole one is looked up in
the history of the repository. A commit that the hub no longer has is replaced by the newest one, and
:func:`is_known` tells.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from kgr1.datasets.published.card import Card, Hub
from kgr1.datasets.published.format import split_of
from kgr1.datasets.whole import whole_file
from kgr1.errors import DatasetError, MissingExtraError
from kgr1.types import Record

LIST = "files.json"
_BLOCK = 1 << 20
_WHOLE = 40  # digits of a whole commit hash
_NO_SUCH_REVISION = "RevisionNotFoundError"  # of the client, which is not imported here

Progress = Callable[[int, int, str], None]
"""Told how many files are done, how many there are, and which one is next."""


class FetchedFile(Record):
    """One file of the cache."""

    path: str  # relative, with forward slashes
    bytes: int
    sha256: str


class Fetched(Record):
    """What ``files.json`` holds: where the files came from, and what they were."""

    repository: str
    commit: str
    files: tuple[FetchedFile, ...]


def fetch(
    card: Card,
    cache: Path,
    *,
    revision: str | None = None,
    split: str | None = None,
    on_progress: Progress | None = None,
) -> tuple[Path, Fetched]:
    """The folder with the hub's files of a set, downloaded if it is not in ``cache`` yet, and the list of its files.

    ``split`` leaves out files whose names say another one; ``revision`` takes another commit, branch or tag than the
    one that the card names. If the hub no longer has the commit of the card, the files are those of its newest one;
    see :func:`is_known`. Raises :class:`DatasetError` if the set is not on the hub, the hub cannot be reached, its
    files do not have the hash that it states, and if a file of the cache has changed; :class:`MissingExtraError`
    without the client.
    """
    if card.hub is None:
        raise DatasetError(f"{card.name} is not on the hub; get it from {card.homepage} and name the folder.")
    hub = card.hub
    wanted = revision or hub.commit
    place = cache / hub.repository.replace("/", "--")
    return _kept(place, wanted, split) or _download(hub, place, revision, split, on_progress)


def is_known(card: Card, fetched: Fetched) -> bool:
    """True if files are of the very commit that the card names, which is the one that kgr1 was tried with."""
    return card.hub is not None and fetched.commit.startswith(card.hub.commit)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises :class:`DatasetError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror or error}.", path=str(path)) from error
    return digest.hexdigest()


def _is_commit(text: str) -> bool:
    return len(text) >= 7 and all(digit in "0123456789abcdef" for digit in text)


def _folder_name(commit: str, split: str | None) -> str:
    return f"{commit}-{split}" if split else commit


def _kept(place: Path, wanted: str, split: str | None) -> tuple[Path, Fetched] | None:
    """The folder of a commit in the cache, all its files checked; None if it is not there."""
    for folder in sorted(place.glob(f"{wanted}*")) if _is_commit(wanted) else []:
        kept = _read_list(folder)
        if kept is not None and folder.name in (kept.commit, _folder_name(kept.commit, split)):
            _check(folder, kept)
            return folder, kept
    return None


def _wanted(name: str, hub: Hub, split: str | None) -> bool:
    if split is not None and split_of(Path(name)) not in ("", split):
        return False
    return any(fnmatchcase(name, pattern) for pattern in hub.files)


def _read_list(folder: Path) -> Fetched | None:
    """The list of a folder; None where there is none, as an interrupted download leaves it."""
    try:
        return Fetched.model_validate_json((folder / LIST).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _check(folder: Path, kept: Fetched) -> None:
    for file in kept.files:
        path = folder / file.path
        size = path.stat().st_size if path.is_file() else None
        if size == file.bytes and sha256(path) == file.sha256:
            continue
        found = "is missing" if size is None else "was cut off" if size < file.bytes else "has changed"
        raise DatasetError(
            f"{path} {found} since it was downloaded; remove the folder {folder} to get it again.", path=str(path)
        )


def _download(
    hub: Hub, place: Path, revision: str | None, split: str | None, on_progress: Progress | None
) -> tuple[Path, Fetched]:
    client = _client()
    info = _info(client.HfApi(), hub, revision)
    commit = str(info.sha or "")
    if not _is_commit(commit):
        raise DatasetError(
            f"The hub does not say at which commit {hub.repository} is; try again.", repository=hub.repository
        )
    kept = _kept(place, commit, split)
    if kept is not None:
        return kept
    stated = {
        sibling.rfilename: _stated_hash(sibling)
        for sibling in info.siblings or ()
        if _wanted(sibling.rfilename, hub, split)
    }
    if not stated:
        missing = f"{' or '.join(hub.files)}{f' of split {split}' if split else ''}"
        raise DatasetError(f"{hub.repository} at commit {commit[:7]} has no file {missing}.", commit=commit)
    work = _workplace(place)
    try:
        files = [
            _get(client, hub, commit, name, stated[name], work, on_progress, (number, len(stated)))
            for number, name in enumerate(sorted(stated))
        ]
        fetched = Fetched(repository=hub.repository, commit=commit, files=tuple(files))
        shutil.rmtree(work / ".cache", ignore_errors=True)  # what the client keeps beside its downloads
        with whole_file(work / LIST, "the list of files") as stream:
            stream.write(fetched.model_dump_json(indent=2).encode() + b"\n")
        target = place / _folder_name(commit, split)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(work, target)
    except OSError as error:
        raise DatasetError(f"Cannot write to {place}: {error.strerror or error}.", path=str(place)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target, fetched


def _info(api: Any, hub: Hub, revision: str | None) -> Any:
    """What the hub says of the revision that was asked for, else of the commit of the card, or else of the newest."""
    whole = hub.commit if len(hub.commit) == _WHOLE else None
    try:
        info = api.dataset_info(hub.repository, revision=revision or whole or hub.revision, files_metadata=True)
        if revision is None and not str(info.sha).startswith(hub.commit):  # the repository has moved on
            known = _whole_commit(api, hub)
            info = info if known is None else api.dataset_info(hub.repository, revision=known, files_metadata=True)
    except Exception as error:  # the client raises many unrelated types for "not there" and "not reachable"
        if revision is None and whole is not None and type(error).__name__ == _NO_SUCH_REVISION:
            return _info(api, hub, hub.revision)
        raise _unreachable(hub, error) from error
    return info


def _whole_commit(api: Any, hub: Hub) -> str | None:
    """The whole hash of a commit of which the card has the first digits; None if no history tells it."""
    try:
        commits = [str(each.commit_id) for each in api.list_repo_commits(hub.repository, repo_type="dataset")]
    except Exception:  # not every mirror of the hub has a history, and files of another commit are told
        return None
    found = [commit for commit in commits if commit.startswith(hub.commit)]
    return found[0] if len(found) == 1 else None


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError(
            "Downloads from the Hugging Face hub need its client; install it with: pip install 'kgr1[data]'"
        ) from error
    return huggingface_hub


def _workplace(place: Path) -> Path:
    try:
        place.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".fetch-", dir=place))
    except OSError as error:
        raise DatasetError(f"Cannot write to {place}: {error.strerror or error}.", path=str(place)) from error


def _stated_hash(sibling: Any) -> str | None:
    """The SHA-256 that the hub states for a large file."""
    lfs = getattr(sibling, "lfs", None)
    value = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    return str(value) if value else None


def _get(
    client: Any,
    hub: Hub,
    commit: str,
    name: str,
    stated: str | None,
    work: Path,
    on_progress: Progress | None,
    count: tuple[int, int],
) -> FetchedFile:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DatasetError(f"{hub.repository} names a file outside of its folder: {name}.", repository=hub.repository)
    if on_progress is not None:
        on_progress(*count, name)
    try:
        client.hf_hub_download(hub.repository, name, repo_type="dataset", revision=commit, local_dir=str(work))
    except Exception as error:  # see above
        raise _unreachable(hub, error) from error
    found = sha256(work / name)
    if stated is not None and found != stated:
        raise DatasetError(
            f"{name} of {hub.repository} arrived damaged: its SHA-256 is {found[:12]}..., and the hub states "
            f"{stated[:12]}...; try again.",
            repository=hub.repository,
        )
    return FetchedFile(path=name, bytes=(work / name).stat().st_size, sha256=found)


def _unreachable(hub: Hub, error: Exception) -> DatasetError:
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    return DatasetError(
        f"The Hugging Face hub did not deliver {hub.repository} ({type(error).__name__}: {reason}). Check the network "
        "(HF_HUB_OFFLINE forbids it), or name a folder with its files.",
        repository=hub.repository,
    )
