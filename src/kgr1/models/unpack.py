"""GGUF files unpacked to safetensors, once.

transformers reads GGUF files, but keeps the weights packed, which cannot be trained or saved, and reading takes minutes
for a large vocabulary. The weights are therefore written as float32 to the cache folder, with the tokenizer and the
chat template, and loaded from there: four bytes a parameter, whatever the file has.

Chat template, the first that is there: a file beside it with the same name and the ending ``.jinja``; the one in the
file; the known one for the markers in the vocabulary (ChatML, Gemma). Files of base models often come without one and
have the markers all the same. A turn of the assistant ends with the marker that the template writes, too, because
many files only name the end of a text.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kgr1.errors import ModelError
from kgr1.models.gguf import GgufHeader, read_header

CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% set system = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}"
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ (system if loop.index0 == (1 if system else 0) else '') + message['content'] + '<end_of_turn>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

KNOWN_TEMPLATES = {
    ("<|im_start|>", "<|im_end|>"): CHATML_TEMPLATE,
    ("<start_of_turn>", "<end_of_turn>"): GEMMA_TEMPLATE,
}
"""Templates by the markers that must be tokens of the vocabulary."""

END_MARKERS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|end_of_turn|>")
"""What ends a message in the templates of widespread models."""


def chat_template(file: Path, header: GgufHeader) -> str:
    """The chat template for a GGUF file; raises :class:`ModelError` if none is known."""
    beside = file.with_suffix(".jinja")
    if beside.is_file():
        try:
            return beside.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"Cannot read the chat template in {beside}; it must be a text in UTF-8.") from error
    if header.template is not None:
        return header.template
    vocabulary = frozenset(header.tokens)
    for markers, template in KNOWN_TEMPLATES.items():
        if vocabulary.issuperset(markers):
            return template
    raise ModelError(
        f"{file} has no chat template, so it is probably not an instruction-tuned model; use one that is, "
        f"or write a template to {beside}."
    )


def unpacked_folder(file: Path, models: Path) -> Path:
    """Where in the folder ``models`` a GGUF file is unpacked to, named after its content and chat template."""
    beside = file.with_suffix(".jinja")
    try:
        with file.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256")
        if beside.is_file():
            digest.update(beside.read_bytes())
    except OSError as error:
        raise ModelError(f"Cannot read {error.filename}: {error.strerror}.") from error
    name = re.sub(r"[^\w.-]", "-", file.stem)[:60]
    return models / f"{name}-{digest.hexdigest()[:16]}"


def unpack_gguf(file: Path, target: Path, *, template: str | None = None) -> Path:
    """Unpack a GGUF file to safetensors in ``target``, atomically; about 4 bytes a parameter.

    ``template`` replaces the chat template. Raises :class:`ModelError` if the file is damaged, of an architecture that
    transformers cannot read, or incomplete, or if the disk is full; nothing half-written stays behind. The packages
    torch, transformers and gguf must be there.
    """
    header = read_header(file)
    chosen = chat_template(file, header) if template is None else template
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".unpack-", dir=target.parent))
    except OSError as error:
        raise ModelError(f"Cannot write converted weights to {target.parent}: {error.strerror}.") from error
    try:
        model, tokenizer = _read(file, header)
        tokenizer.chat_template = chosen
        _set_ends(model, tokenizer, header, chosen)
        model.save_pretrained(str(work))
        tokenizer.save_pretrained(str(work))
        for written in work.iterdir():
            with written.open("rb") as stream:
                os.fsync(stream.fileno())
        os.replace(work, target)
    except ModelError:
        raise
    except Exception as error:  # writers of weights raise types of their own
        if (target / "config.json").is_file():  # another process finished first
            return target
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(f"Cannot unpack the weights of {file} to {target}: {reason}.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _read(file: Path, header: GgufHeader) -> tuple[Any, Any]:
    """Model (float32) and tokenizer, complete."""
    import torch
    import transformers
    from transformers.utils.quantization_config import GgufConfig

    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    except Exception as error:  # a file of a kind that is not known there raises many unrelated types
        raise ModelError(
            f"transformers {transformers.__version__} cannot read {file}, which holds a model of the architecture "
            f"'{header.architecture}': {first_line(error).rstrip('.')}. Pass a folder with the model's safetensors, or "
            "serve the file (llama-server, Ollama) and pass the server's address."
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers fills them with random numbers
        raise ModelError(f"{file} is incomplete: {len(missing)} weights are missing, among them {missing[0]}.")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _set_ends(model: Any, tokenizer: Any, header: GgufHeader, template: str) -> None:
    """Let a reply end with the end of a message, too, in the configuration that is saved."""
    markers = {marker for marker in END_MARKERS if marker in template}
    ends = {index for index, token in enumerate(header.tokens) if token in markers}
    ends |= {header.metadata[key] for key in _END_KEYS if key in header.metadata}
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    if ends:
        model.generation_config.eos_token_id = sorted(ends)


_END_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
