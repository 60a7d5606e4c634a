"""Safety prompts: their names, their files, and what is refused."""

import json

import numpy as np
import pytest
import torch
from conftest import IDENTITY, chat_model
from safetensors.torch import save_file

from dro import prompts
from dro.errors import DataError, DroError, StoreError
from dro.prompts import HUMAN, SafetyPrompt, resolve
from dro.rendering import Rendering

BARE = Rendering("{system}\n{query}", "{query}")


@pytest.fixture
def vectors(tiny):
    return np.random.default_rng(0).normal(size=(5, tiny.d_model)).astype(np.float32)


def test_the_standard_names(tiny):
    assert prompts.available(tiny) == ("template", "none", "default", "mistral", "short")
    assert resolve("none", tiny).text is None and resolve("none", tiny).kind == "none"
    assert resolve("template", tiny).text == IDENTITY
    for name in ("default", "mistral", "short"):
        prompt = resolve(name, tiny)
        assert (prompt.name, prompt.text, prompt.kind) == (name, HUMAN[name], "text")


def test_short_is_the_first_two_sentences_of_default():
    assert HUMAN["default"].startswith(HUMAN["short"]) and HUMAN["short"].count(".") == 2


def test_a_template_without_an_identity_has_no_prompt_of_its_own():
    model = chat_model(rendering=BARE)
    assert prompts.available(model) == ("none", "default", "mistral", "short")
    assert resolve("template", model).text is None
    with pytest.raises(DataError, match="no identity"):
        resolve("template+short", model)


@pytest.mark.parametrize("human", ["short", "default", "mistral"])
def test_the_identity_followed_by_a_human_prompt(tiny, human):
    assert resolve(f"template+{human}", tiny).text == f"{IDENTITY} {HUMAN[human]}"


def test_ones_own_words(tiny):
    prompt = resolve("text:Speak like a pirate.", tiny)
    assert prompt.text == "Speak like a pirate." and prompt.kind == "text"


@pytest.mark.parametrize("name", ["nonsense", "template+nonsense", "template+", "text:", "text:  ", "Short"])
def test_unknown_names_are_told_what_there_is(tiny, name, raised, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = raised(lambda: resolve(name, tiny), DataError)
    assert "none" in message


def test_an_empty_name_is_no_prompt(tiny):
    with pytest.raises(DroError):
        resolve("", tiny)


def test_a_long_text_without_text_in_front_is_told_what_there_is(tiny):
    with pytest.raises(DataError):
        resolve("You are a careful assistant. " * 20, tiny)


def test_a_saved_prompt_loads_back_bit_by_bit(tiny, vectors, tmp_path):
    soft = SafetyPrompt("run", "Be kind. é 🎉", vectors)
    prompts.save(soft, tmp_path / "run", {"format": 1})
    for name in (tmp_path / "run", tmp_path / "run" / prompts.SOFT_PROMPT_FILE):
        loaded = resolve(str(name), tiny)
        assert np.array_equal(loaded.vectors, vectors) and loaded.vectors.dtype == np.float32
        assert loaded.text == "Be kind. é 🎉" and loaded.kind == "soft" and loaded.name == str(name)
        assert loaded.digest == soft.digest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_single_tensor_of_any_float_type_loads(tiny, tmp_path, dtype):
    """The layout of the prompts that the paper's authors released: one bf16 tensor, no card."""
    tensor = torch.randn(7, tiny.d_model).to(dtype)
    save_file({"soft_prompt": tensor}, tmp_path / "theirs.safetensors")
    loaded = resolve(str(tmp_path / "theirs.safetensors"), tiny)
    assert np.array_equal(loaded.vectors, tensor.float().numpy()) and loaded.vectors.dtype == np.float32
    assert loaded.text == HUMAN["short"]


@pytest.mark.parametrize("width", [8, 4096])
def test_another_width_is_refused_and_both_are_named(tiny, tmp_path, raised, width):
    save_file({"soft_prompt": torch.zeros(3, width)}, tmp_path / "other.safetensors")
    message = raised(lambda: resolve(str(tmp_path / "other.safetensors"), tiny), StoreError)
    assert str(width) in message and str(tiny.d_model) in message and "tiny" in message


@pytest.mark.parametrize(
    "tensors",
    [
        {"prompt": torch.zeros(3, 32)},
        {"soft_prompt": torch.zeros(3, 32), "more": torch.zeros(1)},
        {"soft_prompt": torch.zeros(32)},
        {"soft_prompt": torch.zeros(1, 3, 32)},
        {"soft_prompt": torch.zeros(0, 32)},
        {"soft_prompt": torch.full((3, 32), float("nan"))},
        {"soft_prompt": torch.full((3, 32), float("inf"))},
    ],
)
def test_tensors_that_are_no_soft_prompt_are_refused(tiny, tmp_path, tensors):
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(StoreError, match=r"bad\.safetensors"):
        resolve(str(tmp_path / "bad.safetensors"), tiny)


@pytest.mark.parametrize("content", [b"", b"not a tensor", b"\x80\x04pickle", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(tiny, tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match="no safetensors file"):
        resolve(str(tmp_path / "bad.safetensors"), tiny)


def test_a_file_that_was_cut_off_is_refused(tiny, tmp_path, vectors):
    prompts.save(SafetyPrompt("x", "t", vectors), tmp_path, {})
    path = tmp_path / prompts.SOFT_PROMPT_FILE
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(StoreError):
        resolve(str(path), tiny)


def test_an_unfinished_run_is_told_to_resume(tiny, tmp_path, raised):
    (tmp_path / "config.json").write_text("{}")
    assert "Resume" in raised(lambda: resolve(str(tmp_path), tiny), StoreError)


@pytest.mark.parametrize("card", ["{", "[]", "{}", "3"])
def test_a_damaged_card_is_named(tiny, tmp_path, vectors, card):
    prompts.save(SafetyPrompt("x", "t", vectors), tmp_path, {})
    (tmp_path / prompts.CARD_FILE).write_text(card)
    with pytest.raises(StoreError, match=r"dro_prompt\.json"):
        resolve(str(tmp_path), tiny)


def test_only_soft_prompts_are_saved(tmp_path):
    with pytest.raises(DataError):
        prompts.save(SafetyPrompt("short", HUMAN["short"]), tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_the_prompt_belongs_to(tmp_path, vectors):
    prompts.save(SafetyPrompt("x", "t", vectors), tmp_path, {"base_model": "tiny"})
    assert json.loads((tmp_path / prompts.CARD_FILE).read_text()) == {"base_model": "tiny", "init_text": "t"}


def test_digests_name_the_content_and_not_the_name(vectors):
    assert SafetyPrompt("a", "t").digest == SafetyPrompt("b", "t").digest
    different = [
        SafetyPrompt("a", None),
        SafetyPrompt("a", ""),
        SafetyPrompt("a", "t"),
        SafetyPrompt("a", "t", vectors),
        SafetyPrompt("a", "t", -vectors),
    ]
    assert len({p.digest for p in different}) == len(different)


def test_standard_names_win_over_files_of_that_name(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").mkdir()
    assert resolve("short", tiny).text == HUMAN["short"]
