"""Question sets from the Hugging Face hub: the real client against a hub on this machine, and what can go wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hub_stand_in import Hub, serve

from kgr1.datasets.plain import load_questions
from kgr1.datasets.published import hub as published_hub
from kgr1.datasets.published.hub import LIST, fetch, is_known, sha256
from kgr1.datasets.published.registry import CARDS, card
from kgr1.errors import DatasetError, MissingExtraError

WEB = card("webquestions")
COMMIT = "0e473cb" + "0" * 33


def packed(answer: str) -> bytes:
    stream = io.BytesIO()
    page = "http://www.freebase.com/view/en/jamaica"
    pl.DataFrame([{"url": page, "question": f"what is {answer}?", "answers": [answer]}]).write_parquet(stream)
    return stream.getvalue()


FILES = {
    "data/train-00000-of-00001.parquet": packed("red"),
    "data/test-00000-of-00001.parquet": packed("blue"),
    "README.md": b"not wanted",
}


class RevisionNotFoundError(Exception):
    """Called as the client calls its own."""


class Client:
    """Stands for the module huggingface_hub, with the same answers as the server."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.calls: list[str] = []

    def HfApi(self) -> Client:  # noqa: N802 - its name there
        return self

    def dataset_info(self, repository: str, *, revision: str, files_metadata: bool) -> Any:
        self.calls.append(revision)
        if repository != self.hub.repository:
            raise OSError("404 Client Error")
        if self.hub.files_of(revision) is None:
            raise RevisionNotFoundError(f"404 Client Error: {revision}")
        listing: Any = self.hub.listing(revision)
        return SimpleNamespace(sha=listing["sha"], siblings=[SimpleNamespace(**each) for each in listing["siblings"]])

    def hf_hub_download(self, repository: str, name: str, *, repo_type: str, revision: str, local_dir: str) -> str:
        assert (repository, repo_type, len(revision)) == (self.hub.repository, "dataset", 40)
        self.calls.append(name)
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((self.hub.files_of(revision) or {})[name])
        return str(path)

    def list_repo_commits(self, repository: str, *, repo_type: str) -> list[Any]:
        assert (repository, repo_type) == (self.hub.repository, "dataset")
        self.calls.append("history")
        if not self.hub.history:
            raise OSError("404 Client Error")
        return [SimpleNamespace(commit_id=each["id"]) for each in self.hub.commits()]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    assert WEB.hub is not None
    made = Client(Hub(WEB.hub.repository, COMMIT, dict(FILES)))
    monkeypatch.setattr(published_hub, "_client", lambda: made)
    return made


def test_every_hub_source_is_pinned_to_a_commit() -> None:
    sources = [each.hub for each in CARDS if each.hub is not None]
    assert len(sources) == 6
    for source in sources:
        assert source.repository.count("/") == 1
        assert len(source.commit) in (7, 40)
        assert set(source.commit) <= set("0123456789abcdef")
        assert source.files


def convert_by_process(
    folder: Path, url: str, out: str, source: str, *more: str, cache: str = "cache"
) -> subprocess.CompletedProcess[str]:
    """``kgr1 data convert webquestions`` with the real client against a hub of our own."""
    env = os.environ | {"HF_ENDPOINT": url, "KGR1_CACHE": str(folder / cache), "HF_HOME": str(folder)}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "COLUMNS": "200"}
    words = ["data", "convert", "webquestions", source, str(folder / out), *more]
    command = [sys.executable, "-m", "kgr1.cli.main", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_real_client_on_a_hub_of_our_own(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    assert WEB.hub is not None
    with serve(Hub(WEB.hub.repository, COMMIT, dict(FILES))) as hub:
        done = convert_by_process(tmp_path, hub.url, "out", "hub")
    assert done.returncode == 0, done.stderr
    assert f"stanfordnlp/web_questions at commit {COMMIT[:7]}" in done.stderr
    questions = load_questions(tmp_path / "out")
    assert [(q.split, q.answers[0].label, q.topics) for q in questions] == [
        ("test", "blue", ("jamaica",)),
        ("train", "red", ("jamaica",)),
    ]
    assert not any("README" in request for request in hub.requests)
    (folder,) = (tmp_path / "cache" / "datasets" / "stanfordnlp--web_questions").iterdir()
    assert folder.name == COMMIT
    listed = json.loads((folder / LIST).read_text())
    for file in listed["files"]:
        assert file["sha256"] == sha256(folder / file["path"])
    record = json.loads((tmp_path / "out" / "source.json").read_text())
    assert (record["repository"], record["commit"]) == (WEB.hub.repository, COMMIT)
    # Now the hub is gone, and the cache is enough.
    done = convert_by_process(tmp_path, hub.url, "out", "hub", "--force")
    assert done.returncode == 0, done.stderr


def test_a_second_call_needs_no_network(client: Client, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    folder, fetched = fetch(WEB, tmp_path, on_progress=lambda *progress: told.append(progress))
    assert client.calls[0] == "main"
    assert [number for number, _, _ in told] == [0, 1]
    assert sorted(file.path for file in fetched.files) == sorted(FILES)[1:]
    assert not any(path.name.startswith(".fetch") for path in folder.parent.iterdir())
    client.calls.clear()
    assert fetch(WEB, tmp_path) == (folder, fetched)
    assert client.calls == []


@pytest.mark.parametrize(
    ("damage", "reason"), [("cut", "was cut off"), ("change", "has changed"), ("gone", "is missing")]
)
def test_a_damaged_cache_is_noticed(client: Client, tmp_path: Path, damage: str, reason: str) -> None:
    folder, _ = fetch(WEB, tmp_path)
    path = folder / "data" / "test-00000-of-00001.parquet"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if damage == "cut" else content[:-1] + b"?")
    with pytest.raises(DatasetError, match=f"{path.name} {reason} since it was downloaded; remove the folder"):
        fetch(WEB, tmp_path)


def test_a_damaged_download_is_noticed_and_leaves_nothing(client: Client, tmp_path: Path) -> None:
    client.hub.stated["data/test-00000-of-00001.parquet"] = "0" * 64
    with pytest.raises(
        DatasetError, match=r"arrived damaged: its SHA-256 is [0-9a-f]{12}\.\.\., and the hub states 0{12}"
    ):
        fetch(WEB, tmp_path)
    assert list((tmp_path / "stanfordnlp--web_questions").iterdir()) == []


def test_an_interrupted_download_leaves_nothing(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "hf_hub_download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(WEB, tmp_path)
    assert list((tmp_path / "stanfordnlp--web_questions").iterdir()) == []
    assert fetch(WEB, tmp_path)[0].is_dir()


MOVED = "f" * 40
NEWER = {name: packed("green") for name in FILES if name.endswith(".parquet")}


def test_a_repository_that_moved_on_still_gives_the_known_files(client: Client, tmp_path: Path) -> None:
    """The card has seven digits of the commit; the history has all of them."""
    client.hub.commit, client.hub.files, client.hub.older = MOVED, NEWER, {COMMIT: FILES, "a" * 40: {}}
    folder, fetched = fetch(WEB, tmp_path)
    assert client.calls[:3] == ["main", "history", COMMIT]
    assert folder.name == fetched.commit == COMMIT
    assert is_known(WEB, fetched)
    assert {file.path: file.sha256 for file in fetched.files} == {
        name: hashlib.sha256(content).hexdigest() for name, content in FILES.items() if name.startswith("data/")
    }
    client.calls.clear()
    assert fetch(WEB, tmp_path)[0] == folder
    assert client.calls == []


@pytest.mark.parametrize("why", ["no such commit", "two such commits", "no history"])
def test_a_commit_that_is_gone_is_replaced_by_the_newest(client: Client, tmp_path: Path, why: str) -> None:
    client.hub.commit, client.hub.files, client.hub.history = MOVED, NEWER, why != "no history"
    client.hub.older = {COMMIT: FILES, COMMIT[:-1] + "1": FILES} if why == "two such commits" else {"a" * 40: {}}
    folder, fetched = fetch(WEB, tmp_path)
    assert folder.name == fetched.commit == MOVED
    assert not is_known(WEB, fetched)
    client.calls.clear()
    assert fetch(WEB, tmp_path) == (folder, fetched)
    assert client.calls == ["main", "history"]  # nothing was downloaded again
    client.calls.clear()
    assert fetch(WEB, tmp_path, revision=MOVED) == (folder, fetched)
    assert client.calls == []


def test_a_full_commit_that_is_gone_is_replaced_by_the_newest(client: Client, tmp_path: Path) -> None:
    source = card("multitq").hub
    assert source is not None
    client.hub = Hub(source.repository, MOVED, {f"{name}.json": b"[]" for name in ("train", "dev", "test")})
    _, fetched = fetch(card("multitq"), tmp_path)
    assert client.calls[:2] == [source.commit, "main"]
    assert fetched.commit == MOVED
    assert not is_known(card("multitq"), fetched)
    with pytest.raises(DatasetError, match="did not deliver"):  # what a user named is never replaced
        fetch(card("multitq"), tmp_path, revision="b" * 40)


def test_a_moved_repository_on_the_command_line(tmp_path: Path) -> None:
    """By the real client, which takes no short hash."""
    pytest.importorskip("huggingface_hub")
    assert WEB.hub is not None
    older = {COMMIT: {name: content for name, content in FILES.items() if name.startswith("data/")}}
    with serve(Hub(WEB.hub.repository, MOVED, NEWER, older=older)) as hub:
        done = convert_by_process(tmp_path, hub.url, "one", "hub")
        assert done.returncode == 0, done.stderr
        assert "not checked" not in done.stderr
        assert f"at commit {COMMIT[:7]}" in done.stderr
        assert {q.answers[0].label for q in load_questions(tmp_path / "one")} == {"blue", "red"}
        hub.older.clear()
        for source, told in (("hub", True), (f"hub@{MOVED}", False)):
            # Another cache: the first one has the files by now.
            done = convert_by_process(tmp_path, hub.url, f"two-{told}", source, cache=f"other-{told}")
            assert done.returncode == 0, done.stderr
            said = " ".join(done.stderr.split())
            assert (f"did not offer commit 0e473cb of {WEB.hub.repository}" in said) is told
            assert (f"hub@{MOVED}" in said) is told
            assert json.loads((tmp_path / f"two-{told}" / "source.json").read_text())["commit"] == MOVED


def test_a_full_commit_is_asked_for_by_itself(client: Client, tmp_path: Path) -> None:
    source = card("multitq").hub
    assert source is not None
    client.hub = Hub(source.repository, source.commit, {f"{name}.json": b"[]" for name in ("train", "dev", "test")})
    fetch(card("multitq"), tmp_path)
    assert client.calls[0] == source.commit


def test_only_the_files_of_a_split(client: Client, tmp_path: Path) -> None:
    folder, fetched = fetch(WEB, tmp_path, split="test")
    assert [file.path for file in fetched.files] == ["data/test-00000-of-00001.parquet"]
    client.calls.clear()
    assert fetch(WEB, tmp_path, split="test")[0] == folder
    assert client.calls == []
    whole, _ = fetch(WEB, tmp_path)
    assert whole != folder
    assert fetch(WEB, tmp_path, split="train")[0] == whole  # all files are there by now
    with pytest.raises(DatasetError, match=r"has no file data/\*\.parquet of split dev"):
        fetch(WEB, tmp_path / "other", split="dev")


def test_files_that_are_not_there(client: Client, tmp_path: Path) -> None:
    client.hub.files = {"README.md": b""}
    with pytest.raises(DatasetError, match=r"has no file data/\*\.parquet"):
        fetch(WEB, tmp_path)


def test_a_file_outside_of_the_folder_is_refused(client: Client, tmp_path: Path) -> None:
    client.hub.files = {"data/../../evil.parquet": b"x"}
    with pytest.raises(DatasetError, match="names a file outside of its folder"):
        fetch(WEB, tmp_path)
    assert list(tmp_path.rglob("evil.parquet")) == []


def test_a_hub_that_does_not_answer(client: Client, tmp_path: Path) -> None:
    client.hub.repository = "another/one"
    with pytest.raises(
        DatasetError, match=r"did not deliver stanfordnlp/web_questions \(OSError: 404 .* name a folder"
    ):
        fetch(WEB, tmp_path)


def test_without_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kgr1\[data\]'"):
        fetch(WEB, tmp_path)


def test_a_set_that_is_not_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"metaqa is not on the hub; get it from https://github\.com/yuyuz/MetaQA"):
        fetch(card("metaqa"), tmp_path)
