"""Models for the commands: what must be installed, where they run, and a quiet way to load them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kgr1.cli.bars import busy
from kgr1.cli.console import warn
from kgr1.cli.failures import debugging
from kgr1.cli.quiet import hide_loading_bars
from kgr1.cli.sources import is_url
from kgr1.errors import MissingExtraError

if TYPE_CHECKING:
    from kgr1.agent.policy import Policy
    from kgr1.config import EndpointSettings
    from kgr1.models.client import ModelClient

SAMPLING = ("torch", "transformers")
TRAINING = (*SAMPLING, "accelerate", "peft", "tensorboard")
REINFORCEMENT = (*TRAINING, "trl", "datasets")
SLOW = 2.0
"""How many times as long as float32 a number type may take without a word."""

_SAMPLE_BYTES = 1 << 20


def check_installed(modules: tuple[str, ...]) -> None:
    """Raise :class:`kgr1.errors.MissingExtraError` unless all are installed; takes no time, so it can come first."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(
                f"This command needs {module}, which is not installed; run: pip install 'kgr1[train]'.", module=module
            )


def require(modules: tuple[str, ...]) -> None:
    """Import all of these, which takes seconds, and keep them quiet."""
    from kgr1.models.weights import require_training_extra

    with busy("Loading libraries"):
        for module in modules:
            require_training_extra(module)
    hide_loading_bars()


def check_model(name: str) -> None:
    """Raise :class:`kgr1.errors.ModelError` if there is no such model; a hub model is fetched on the way."""
    from kgr1.models.weights import load_tokenizer

    with busy(f"Looking for {name}"):
        load_tokenizer(name)


def portable_name(name: str) -> str:
    """A model name for records and adapters: local paths in full, so that they work from anywhere."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def fingerprint(name: str) -> str:
    """A hash that tells apart what was saved under one local path at different times; empty for names on the hub.

    Sizes, beginnings and ends of the weight files: training changes all of a file, and large ones take long to read.
    """
    from kgr1.models.pretrained import RANKER_FILE, policy_folder

    path = policy_folder(name)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if all(file.name == RANKER_FILE for file in files):
        files += sorted(path.glob("*.gguf"))
    if not files:
        return ""
    digest = hashlib.blake2b(digest_size=10)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def load_policy(name: str, *, max_rows: int, endpoint: EndpointSettings | None = None, dtype: str = "auto") -> Policy:
    """The agent on a model, see :func:`load_client`."""
    return load_client(name, max_rows=max_rows, endpoint=endpoint, dtype=dtype).policy()


def load_client(
    name: str, *, max_rows: int, endpoint: EndpointSettings | None = None, dtype: str = "auto"
) -> ModelClient:
    """A model ready for use: in this process, on the GPU if there is one, or behind an address.

    ``dtype`` is the number type in this process; ``auto`` is bfloat16 on a GPU and float32 elsewhere.

    An address is that of an OpenAI-compatible server, with the name of the model behind ``#`` if it has several.
    """
    if is_url(name):
        return _connect(name, endpoint)
    require(SAMPLING)
    import torch

    from kgr1.models.local import LocalClient

    device, dtype = placement(dtype)
    mind_numbers(dtype, "sampling.dtype")
    with busy(f"Loading {name}"), torch.no_grad():
        return LocalClient.load(portable_name(name), dtype=dtype, device=device, max_rows=max_rows)


def _connect(address: str, endpoint: EndpointSettings | None) -> ModelClient:
    from kgr1.models.openai import OpenAIClient

    url, _, model = address.partition("#")
    client = OpenAIClient(url, model, endpoint)
    with busy(f"Asking {url} for its models"):
        asyncio.run(client.connect())
    return client


def check_sampling(*names: str | None) -> None:
    """:func:`check_installed` for the models of these names; those behind an address need nothing."""
    if any(name is not None and not is_url(name) for name in names):
        check_installed(SAMPLING)


def describe(name: str, client: ModelClient | None = None, *, dtype: str = "auto") -> dict[str, str]:
    """What a run records about a model; of one behind an address, what the server calls it.

    The address may be another one when the run goes on: servers come back elsewhere.
    """
    from kgr1.evaluation.run import ADDRESS

    if is_url(name):
        address, _, model = (client.name if client is not None else name).partition("#")
        return {"name": model, ADDRESS: address}
    return {"name": portable_name(name), "dtype": placement(dtype)[1], "weights": fingerprint(name)}


def placement(dtype: str = "auto") -> tuple[str, str]:
    """Device and number type for sampling."""
    import torch

    device, usual = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    return device, usual if dtype == "auto" else dtype


def mind_numbers(dtype: str, setting: str) -> None:
    """Warn of bfloat16, asked for by ``setting``, on a processor that emulates it."""
    from kgr1.models.numbers import bfloat16_cost

    if dtype == "bfloat16" and placement()[0] == "cpu" and (cost := bfloat16_cost()) > SLOW:
        warn(
            f"This processor takes {cost:.0f} times as long with bfloat16 as with float32; "
            f"--set {setting}=float32 is faster here."
        )


@contextlib.contextmanager
def no_stdout() -> Iterator[None]:
    """Keep what training libraries print to stdout away from the results."""
    if debugging():
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()):
        yield
