"""Loading models: what loads loads right, what does not is told in plain words."""

import json

import numpy as np
import pytest
import torch
from conftest import CHATML, byte_tokenizer, pairs, random_model, save_folder, tiny_config
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from dro import models, pretrained
from dro.encoding import encoder
from dro.errors import DataError, ModelError
from dro.prompts import HUMAN, SafetyPrompt
from dro.registry import DEFAULT, REGISTRY
from dro.rendering import Rendering
from dro.states import last_token_states, own_ids, packed_states, prefix_ids

SHORT = SafetyPrompt("short", HUMAN["short"])


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The hub never answers here."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_local_folder_loads_as_it_was_saved(tiny, tiny_folder):
    chat = models.load(str(tiny_folder), "fp32")
    assert chat.name == "tiny" and chat.precision == "fp32" and chat.dtype == torch.float32
    assert chat.rendering == tiny.rendering and chat.d_model == 32
    queries = pairs(2).texts
    assert np.allclose(
        last_token_states(chat, SHORT, queries), last_token_states(tiny, SHORT, queries), atol=1e-6
    )
    assert not chat.model.training and not any(p.requires_grad for p in chat.model.parameters())


def test_bf16_loads_as_bf16_and_gives_near_states(tiny, tiny_folder):
    chat = models.load(str(tiny_folder), "bf16")
    assert chat.dtype == torch.bfloat16
    found, exact = (last_token_states(m, SHORT, pairs(2).texts) for m in (chat, tiny))
    assert found.dtype == np.float32
    assert np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.05


def test_auto_is_one_of_the_two(tiny_folder):
    assert models.load(str(tiny_folder)).precision == models.auto_precision() in ("bf16", "fp32")


def test_the_revision_names_the_content_of_a_folder(tiny_folder, tmp_path):
    first, again = (models.load(str(tiny_folder), "fp32").revision for _ in range(2))
    other = save_folder(tmp_path / "tiny", num_hidden_layers=1)
    assert first == again != models.load(str(other), "fp32").revision
    assert models.load(str(tiny_folder), "fp32").key == f"tiny-{first[:8]}-fp32"


def test_a_given_rendering_wins_over_the_template(tiny_folder):
    mine = Rendering("{system}\n{query}>", "{query}>")
    assert models.load(str(tiny_folder), "fp32", mine).rendering == mine


def test_a_tilde_and_a_trailing_slash_are_understood(tiny_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_folder.parent))
    assert models.load("~/tiny", "fp32").name == models.load(f"{tiny_folder}/", "fp32").name == "tiny"


@pytest.mark.parametrize("name", ["nonsense", "no such/name here", "a/b/c", "missing.gguf", "-x"])
def test_an_unknown_name_is_told_what_there_is(name, raised):
    message = raised(lambda: models.load(name, "fp32"), ModelError)
    assert DEFAULT in message and "org/name" in message


def test_an_empty_name_is_told_what_there_is(raised):
    assert DEFAULT in raised(lambda: models.load("", "fp32"), ModelError)


def test_an_unknown_precision_is_refused(tiny_folder):
    with pytest.raises(DataError, match="auto, bf16, fp32, 4bit"):
        models.load(str(tiny_folder), "int8")


def test_a_hub_model_that_cannot_be_reached_is_told(raised):
    message = raised(lambda: models.load("nobody/nothing-here-at-all", "fp32"), ModelError)
    assert "nobody/nothing-here-at-all" in message and "local folder" in message


def test_a_folder_without_a_chat_template_names_the_override(tmp_path, raised):
    folder = save_folder(tmp_path / "base", byte_tokenizer(template=None))
    assert "--rendering" in raised(lambda: models.load(str(folder), "fp32"), ModelError)
    mine = Rendering("{system}\n{query}>", "{query}>")
    assert models.load(str(folder), "fp32", mine).rendering == mine


@pytest.mark.parametrize(
    "missing",
    [
        "config.json",
        "model.safetensors",
        ("tokenizer.json"),
    ],
)
def test_a_folder_without_a_needed_file_is_told(tmp_path, raised, missing):
    folder = save_folder(tmp_path / "broken")
    (folder / missing).unlink()
    assert "broken" in raised(lambda: models.load(str(folder), "fp32"), ModelError)


def test_an_empty_folder_is_told(tmp_path, raised):
    assert tmp_path.name in raised(lambda: models.load(str(tmp_path), "fp32"), ModelError)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_told(tmp_path, raised, name):
    folder = save_folder(tmp_path / "broken")
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    assert "broken" in raised(lambda: models.load(str(folder), "fp32"), ModelError)


def test_a_folder_whose_path_holds_401_is_not_called_gated(tmp_path, raised):
    folder = save_folder(tmp_path / "model-401")
    (folder / "model.safetensors").unlink()
    assert "gated" not in raised(lambda: models.load(str(folder), "fp32"), ModelError)


def test_a_model_with_code_of_its_own_is_refused_and_not_run(tmp_path, raised):
    folder = save_folder(tmp_path / "custom")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "my-own",
        "auto_map": {"AutoConfig": "own.MyConfig", "AutoModelForCausalLM": "own.My"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('foreign code was run')")
    assert "own code" in raised(lambda: models.load(str(folder), "fp32"), ModelError)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "no-such-type"},
        {"model_type": "vit", "architectures": ["ViTForImageClassification"]},
    ],
)
def test_what_is_no_causal_language_model_is_refused(tmp_path, raised, config):
    folder = save_folder(tmp_path / "other")
    (folder / "config.json").write_text(json.dumps(config))
    message = raised(lambda: models.load(str(folder), "fp32"), ModelError)
    assert "decoder-only" in message


def test_an_encoder_that_looks_both_ways_is_refused(tmp_path, raised):
    """It loads as a causal model with a warning; its attention shows what it is."""
    tokenizer = byte_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.25,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    assert "Bert" in raised(lambda: models.load(str(tmp_path / "bert"), "fp32"), ModelError)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (MistralConfig, MistralForCausalLM),
        (Gemma2Config, Gemma2ForCausalLM),
    ],
)
def test_other_families_load_and_answer(tmp_path, config, kind):
    from dro.generate import Decoding, answers

    tokenizer = byte_tokenizer()
    made = config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
    )
    random_model(made, kind).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    chat = models.load(str(tmp_path / "other"), "fp32")
    assert len(answers(chat, SHORT, ["Hello"], Decoding(max_tokens=3))[0]) == 1


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"GGUF" + b"\xff" * 40, b"GGUF\x03\x00\x00\x00" + b"\x00" * 60]
)
def test_a_gguf_file_that_is_none_is_told(tmp_path, raised, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    assert "bad.gguf" in raised(lambda: models.load(str(tmp_path / "bad.gguf"), "fp32"), ModelError)


def test_a_failed_conversion_leaves_nothing_behind(tmp_path, own_cache):
    (tmp_path / "bad.gguf").write_bytes(b"garbage")
    with pytest.raises(Exception):  # noqa: B017  which one is another test's matter
        models.load(str(tmp_path / "bad.gguf"), "fp32")
    assert [p.name for p in (own_cache / "models").iterdir()] == [".lock"]


def test_the_registry_knows_the_papers_eight_and_the_default():
    assert len(REGISTRY) == 9 and DEFAULT in REGISTRY
    assert all(spec.name == name and "/" in spec.hub_id for name, spec in REGISTRY.items())
    assert [name for name, spec in REGISTRY.items() if spec.rendering is None] == [DEFAULT]


def test_slugs_are_safe_in_file_names():
    assert models.slug("Org/My Model_7B (v2)") == "my-model-7b-v2"
    assert models.slug("///..") == "model" and "/" not in models.slug("a/../b")


# 4-bit

BIG = {"hidden_size": 64, "intermediate_size": 128}


@pytest.fixture(scope="module")
def quantised_folder(tmp_path_factory):
    pytest.importorskip("bitsandbytes")
    return save_folder(tmp_path_factory.mktemp("models") / "tiny4", **BIG)


def soft_gradient(chat):
    """Extract states first, then train: the order in which the gradient used to vanish."""
    own, ids = own_ids(chat, SHORT, pairs(2).texts), prefix_ids(chat, SHORT)
    last_token_states(chat, SHORT, pairs(2).texts)
    vectors = chat.embed(ids.slot).float().requires_grad_()
    packed_states(chat, own, ids, vectors).square().sum().backward()
    return vectors.grad


def linears(chat):
    import bitsandbytes as bnb

    return [m for m in chat.model.modules() if isinstance(m, bnb.nn.Linear4bit)]


def test_4bit_weights_keep_the_gradient_after_states_were_taken(quantised_folder):
    chat = models.load(str(quantised_folder), "4bit")
    assert chat.precision == "4bit" and len(linears(chat)) == 14
    gradient = soft_gradient(chat)
    assert torch.isfinite(gradient).all() and gradient.norm() > 0


def test_without_the_cure_the_gradient_would_vanish_on_such_cpus(quantised_folder, monkeypatch):
    monkeypatch.setattr(pretrained, "keep_gradients", lambda _: None)
    chat = models.load(str(quantised_folder), "4bit")
    if not any(getattr(m, "support_avx512bf16_for_cpu", False) for m in linears(chat)):
        pytest.skip("this CPU has no AVX512-BF16: bitsandbytes does not repack the weights")
    try:
        assert soft_gradient(chat).norm() == 0
    except RuntimeError as error:  # layers with a bias fail outright
        assert "in-place" in str(error)


def test_4bit_states_are_near_the_exact_ones(quantised_folder):
    exact, rough = (
        last_token_states(models.load(str(quantised_folder), p), SHORT, pairs(3).texts)
        for p in ("fp32", "4bit")
    )
    assert np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.5
    assert not np.allclose(rough, exact)


def test_a_loaded_model_encodes_like_the_one_that_was_saved(tiny, tiny_folder):
    chat = models.load(str(tiny_folder), "fp32")
    assert encoder(chat).prefix("Be kind.") == encoder(tiny).prefix("Be kind.")
    assert encoder(chat).own(None, "Hi<|im_end|>") == encoder(tiny).own(None, "Hi<|im_end|>")
    assert chat.stop_ids == tiny.stop_ids and chat.tokenizer.chat_template == CHATML
    assert tiny_config(10).hidden_size == 32
