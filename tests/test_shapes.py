"""Random models of known shapes: the right sizes, built in 4bit directly, trainable, usable throughout."""

import pytest
import torch
from transformers import LlamaConfig

from dro import footprint, memory, shapes
from dro.bench import inputs
from dro.errors import DataError, ModelError
from dro.generate import Decoding, answers
from dro.shapes import SHAPES, build
from dro.states import last_token_states, own_ids, packed_states, prefix_ids

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 4096}  # fmt: skip
BILLIONS = {"llama-2-7b": 6.74, "llama-2-13b": 13.02, "mistral-7b": 7.24, "qwen-0.5b": 0.63,
            "qwen-1.5b": 1.78, "qwen-3b": 3.40, "qwen-7b": 7.62}  # fmt: skip


@pytest.fixture(scope="module", params=["fp32", "4bit"])
def model(request):
    if request.param == "4bit":
        pytest.importorskip("bitsandbytes")
    return build("llama-2-7b", request.param, **SMALL)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_have_the_published_numbers_of_parameters(name):
    counted = footprint.of_config(shapes._config(SHAPES[name])[0])
    # With a head of their own: those of Qwen's small ones share theirs with the embeddings.
    assert (counted.linear + counted.other) / 1e9 == pytest.approx(BILLIONS[name], abs=0.01)


def test_llama_is_transformers_own_default_shape():
    ours, theirs = shapes._config(SHAPES["llama-2-7b"])[0], LlamaConfig()
    assert all(getattr(ours, field) == getattr(theirs, field) for field in shapes._FIELDS)


def test_states_gradient_and_answer_come_out(model):
    prompt = inputs.prompt(model, 7)
    asked = inputs.queries(model, [prompt], 4, 19)
    states = last_token_states(model, prompt, asked)
    assert states.shape == (4, 64) and torch.isfinite(torch.from_numpy(states)).all()
    ids, own = prefix_ids(model, prompt), own_ids(model, prompt, asked)
    vectors = torch.from_numpy(prompt.vectors).requires_grad_()
    packed_states(model, own, ids, vectors).square().sum().backward()
    assert torch.isfinite(vectors.grad).all() and vectors.grad.norm() > 0
    assert len(answers(model, prompt, asked[:2], Decoding(max_tokens=3))) == 2


def test_4bit_layers_are_4bit_and_take_what_was_estimated():
    bnb = pytest.importorskip("bitsandbytes")
    made = build("mistral-7b", "4bit", **SMALL)
    layers = [m for m in made.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(layers) == 14 and all(m.weight.dtype == torch.uint8 for m in layers)
    assert not any(m.support_avx512bf16_for_cpu for m in layers)
    assert all(m.weight.quant_state.nested for m in layers), "double quantisation"
    packed = sum(m.weight.numel() for m in layers)
    assert packed == footprint.of_config(made.model.config).linear // 2


def test_4bit_matrices_differ_from_each_other_and_multiply_as_what_they_decode_to():
    bnb = pytest.importorskip("bitsandbytes")
    made = build("llama-2-7b", "4bit", **SMALL)
    first, second = (layer.self_attn.o_proj for layer in made.model.model.layers)
    whole = [bnb.functional.dequantize_4bit(m.weight, m.weight.quant_state) for m in (first, second)]
    assert not torch.equal(*whole)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = x.float() @ whole[0].float().T
    assert (first(x).float() - expected).norm() / expected.norm() < 0.02


def test_the_same_seed_gives_the_same_model():
    one, again, other = (build("qwen-0.5b", "fp32", seed=s, **SMALL) for s in (0, 0, 1))
    weights = [m.model.get_input_embeddings().weight for m in (one, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_unknown_shapes_and_too_little_memory_are_told(raised, monkeypatch):
    assert "llama-2-7b" in raised(lambda: build("llama-9"), DataError)
    monkeypatch.setattr(memory, "available", lambda: 5 * 10**9)
    message = raised(lambda: build("llama-2-7b", "bf16"), ModelError)
    assert "llama-2-7b needs 13.9 GB in bf16, 5.0 GB are free. Use 4bit (4.3 GB)" in message
