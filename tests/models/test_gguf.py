"""GGUF files as models: a tiny one written here, everything that can be wrong with one, and a real one."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

from jinja2 import Environment  # noqa: E402

from engine_parts import TEXTS  # noqa: E402
from kgr1.errors import MissingExtraError, ModelError  # noqa: E402
from kgr1.models import unpack, weights  # noqa: E402
from kgr1.models.gguf import find_gguf, read_header  # noqa: E402
from kgr1.models.tokens import encode_prompt  # noqa: E402
from kgr1.models.unpack import CHATML_TEMPLATE, GEMMA_TEMPLATE, chat_template  # noqa: E402
from kgr1.models.weights import load_model, load_tokenizer  # noqa: E402
from tiny import CONTEXT, HEADS, HIDDEN, LAYERS  # noqa: E402

CACHE = os.environ.get("KGR1_CACHE", "")
IDS = torch.arange(3, 40)[None]
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attn_output",
    "self_attn.": "attn_",
    "mlp.": "ffn_",
    "_proj": "",
    "model.layers.": "blk.",
}
"""From the names of transformers to those of llama.cpp, replaced in this order."""


def write_gguf(
    path: Path, source: Path, *, template: str | None = CHATML_TEMPLATE, architecture: str = "llama", skip: str = "-"
) -> Path:
    """Write the tiny model in ``source`` as a GGUF file in float32, as llama.cpp's converter lays it out."""
    loaded = load_model(str(source))
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(loaded.model.config.rms_norm_eps)
    tokenizer = loaded.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if index in special else 1 for index in range(len(tokens))])
    writer.add_token_merges(merges_of(tokenizer))
    writer.add_eos_token_id(tokenizer.pad_token_id)  # many files only name the end of a text, not that of a message
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if template is not None:
        writer.add_chat_template(template)
    for name, tensor in loaded.model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        for old, new in NAMES.items():
            name = name.replace(old, new)
        if skip in name:
            continue
        values = tensor.numpy()
        if name.endswith(("attn_q.weight", "attn_k.weight")):  # llama.cpp pairs neighbouring dimensions
            values = values.reshape(HEADS, 2, HIDDEN // HEADS // 2, HIDDEN).swapaxes(1, 2).reshape(HIDDEN, HIDDEN)
        writer.add_tensor(name, values.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def merges_of(tokenizer: Any) -> list[str]:
    import json

    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [" ".join(merge) if isinstance(merge, list) else merge for merge in merges]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def tiny_file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_model)


@pytest.fixture
def copy(tiny_file: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    folder.mkdir()
    (folder / "Tiny model.gguf").write_bytes(tiny_file.read_bytes())
    return folder / "Tiny model.gguf"


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_a_gguf_file_is_the_model_it_was_made_of(tiny_file: Path, tiny_model: Path, own_cache: Path) -> None:
    loaded, source = load_model(str(tiny_file)), load_model(str(tiny_model))
    assert torch.allclose(logits(loaded.model), logits(source.model), atol=1e-5)
    assert loaded.model.dtype is torch.float32
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.name == loaded.base == loaded.model.name_or_path == str(tiny_file)
    assert loaded.tokenizer.chat_template == CHATML_TEMPLATE
    for text in TEXTS:
        assert encode_prompt(loaded.tokenizer, text) == encode_prompt(source.tokenizer, text)
        assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text
    (folder,) = own_cache.iterdir()
    assert folder.name.startswith("tiny-")


def test_a_reply_ends_with_the_message_too(tiny_file: Path) -> None:
    from kgr1.agent.prompt import STOP_STRINGS
    from kgr1.models.engine import Engine

    loaded = load_model(str(tiny_file))
    engine = Engine(loaded.model, loaded.tokenizer, stops=STOP_STRINGS, max_rows=1, max_context=64)
    ends = {loaded.tokenizer.convert_ids_to_tokens(index) for index in engine.end_ids}
    assert ends == {"<|im_end|>", "<|pad|>"}


def test_it_is_unpacked_once_and_again_when_it_changes(
    copy: Path, tiny_model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_tokenizer(str(copy))
    with monkeypatch.context() as patch:
        patch.setattr(weights, "unpack_gguf", lambda *_: pytest.fail("it was unpacked before"))
        load_model(str(copy))
        load_model(str(copy.parent))  # the folder that holds it
        elsewhere = copy.rename(copy.with_name("Tiny model.GGUF"))
        load_model(str(elsewhere))
    assert len(list(own_cache.iterdir())) == 1
    elsewhere.with_suffix(".jinja").write_text("{{ messages[0]['content'] }}!")
    assert load_tokenizer(str(elsewhere)).chat_template == "{{ messages[0]['content'] }}!"
    assert len(list(own_cache.iterdir())) == 2


def test_an_adapter_on_a_gguf_file(tiny_file: Path, tmp_path: Path) -> None:
    from peft import get_peft_model

    from kgr1.grpo.policy import lora_config, save_policy

    loaded = load_model(str(tiny_file))
    save_policy(get_peft_model(loaded.model, lora_config(4)), loaded.tokenizer, tmp_path / "adapter")
    again = load_model(str(tmp_path / "adapter"))
    assert again.base == str(tiny_file)
    assert torch.equal(logits(again.model), logits(load_model(str(tiny_file)).model))


def test_where_a_path_leads(copy: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert find_gguf(copy) == find_gguf(copy.parent) == copy
    assert find_gguf(tmp_path / "nothing") is None
    assert find_gguf(tiny_model) is None
    (copy.parent / "config.json").write_text("{}")
    assert find_gguf(copy.parent) is None  # a saved model
    (copy.parent / "config.json").unlink()
    assert find_gguf(copy.rename(tmp_path / "no-ending")) == tmp_path / "no-ending"  # the content decides
    (tmp_path / "notes.txt").write_text("GGU")
    assert find_gguf(tmp_path / "notes.txt") is None


def test_the_header(tiny_file: Path, tiny_model: Path) -> None:
    header = read_header(tiny_file)
    tokenizer = load_tokenizer(str(tiny_model))
    assert (header.architecture, header.template) == ("llama", CHATML_TEMPLATE)
    assert header.metadata["llama.rope.freq_base"] == 10000.0
    assert header.tokens == tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    assert header.tensors == 2 + 9 * LAYERS
    assert header.end == tiny_file.stat().st_size


DAMAGE = {
    "cut off in its tensors": (lambda data: data[:-1], r"cut off: it has [\d,]+ bytes, and .* tells of [\d,]+"),
    "half of it": (lambda data: data[: len(data) // 2], "cut off"),
    "cut off in its header": (lambda data: data[:5000], "header of .* is damaged or cut off"),
    "only the magic": (lambda data: data[:4], "header of .* is damaged or cut off"),
    "empty": (lambda data: b"", "not a GGUF file"),
    "a page of HTML": (lambda data: b"<!doctype html>" + data[15:], "not a GGUF file"),
    "version 1": (lambda data: data[:4] + b"\1\0\0\0" + data[8:], "version 1; versions 2 and 3"),
    "a huge count": (lambda data: data[:16] + b"\xff" * 8 + data[24:], "header of .* is damaged"),
    "a huge length": (lambda data: data[:24] + b"\xff" * 8 + data[32:], "header of .* is damaged"),
    "no architecture": (
        lambda data: data.replace(b"general.architecture", b"general.archi-ecture", 1),
        "header of .* is damaged",
    ),
    "an unknown architecture": (lambda data: data.replace(b"llama", b"lalma"), "architecture 'lalma'.*safetensors"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_sentence(copy: Path, own_cache: Path, damage: Any, words: str) -> None:
    copy.write_bytes(damage(copy.read_bytes()))
    for name in (copy, copy.parent):
        with pytest.raises(ModelError, match=words) as caught:
            load_model(str(name))
        assert str(copy) in caught.value.message
        assert "\n" not in caught.value.message
    assert not own_cache.exists() or list(own_cache.iterdir()) == []


def test_weights_that_are_missing_are_not_made_up(tiny_model: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "part.gguf", tiny_model, skip="blk.1.ffn_up")
    with pytest.raises(ModelError, match=r"part\.gguf is incomplete: 1 weights are missing.*up_proj"):
        load_model(str(tmp_path / "part.gguf"))


def test_several_files_and_none(copy: Path) -> None:
    (copy.parent / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"holds 2 GGUF files \(Tiny model\.gguf, other\.gguf\); pass the path of one"):
        load_model(str(copy.parent))
    with pytest.raises(ModelError, match=r"no file at '.*gone\.gguf'"):
        load_model(str(copy.parent / "gone.gguf"))
    (copy.parent / "notes.txt").write_text("")
    with pytest.raises(ModelError, match=r"notes\.txt is not a GGUF file"):
        load_model(str(copy.parent / "notes.txt"))


def test_a_part_of_a_model(copy: Path, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m-00001-of-00003.gguf"), "llama")
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="one of 3 parts of a model; join them first"):
        load_model(str(tmp_path / "m-00001-of-00003.gguf"))


def test_no_chat_template(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "base.gguf", tiny_model, template=None)
    assert load_tokenizer(str(file)).chat_template == CHATML_TEMPLATE  # its markers are in the vocabulary
    monkeypatch.setattr(unpack, "KNOWN_TEMPLATES", {("<start_of_turn>", "<end_of_turn>"): GEMMA_TEMPLATE})
    with pytest.raises(ModelError, match=r"no chat template.*write a template to .*base\.jinja"):
        chat_template(file, read_header(file))
    file.with_suffix(".jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="must be a text in UTF-8"):
        chat_template(file, read_header(file))
    file.with_suffix(".jinja").write_text("{{ messages }}")
    assert chat_template(file, read_header(file)) == "{{ messages }}"


def test_the_template_of_gemma() -> None:
    render = Environment().from_string(GEMMA_TEMPLATE).render
    user = {"role": "user", "content": "Who?"}
    reply = {"role": "assistant", "content": "Me."}
    system = {"role": "system", "content": "Be brief."}
    text = render(bos_token="<bos>", messages=[user], add_generation_prompt=True)
    assert text == "<bos><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n"
    text = render(bos_token="<bos>", messages=[system, user, reply, user], add_generation_prompt=False)
    assert text == (
        "<bos><start_of_turn>user\nBe brief.\n\nWho?<end_of_turn>\n<start_of_turn>model\nMe.<end_of_turn>\n"
        "<start_of_turn>user\nWho?<end_of_turn>\n"
    )


def test_the_package_that_reads_them_is_missing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, *args: Any) -> Any:
        if name == "gguf":
            raise ModuleNotFoundError("No module named 'gguf'", name="gguf")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"needs gguf, .*pip install 'kgr1\[train\]'"):
        load_model(str(copy))


def test_a_file_that_may_not_be_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, os.strerror(13), str(copy))

    monkeypatch.setattr(Path, "open", refuse)
    for name in (copy, copy.parent):
        with pytest.raises(ModelError, match=r"Cannot read .*Tiny model\.gguf: Permission denied"):
            load_model(str(name))


@pytest.mark.slow
@pytest.mark.skipif("KGR1_GGUF" not in os.environ, reason="set KGR1_GGUF to the path of a real GGUF file to try it")
def test_a_real_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows a capital. What was unpacked stays in the user's cache."""
    monkeypatch.setenv("KGR1_CACHE", CACHE)
    loaded = load_model(os.environ["KGR1_GGUF"])
    assert loaded.tokenizer.chat_template
    ids = torch.tensor([loaded.tokenizer.encode("The capital of France is Paris, and the capital of Italy is")])
    with torch.no_grad():
        best = int(loaded.model(input_ids=ids).logits[0, -1].argmax())
    assert loaded.tokenizer.decode([best]).strip() == "Rome"
