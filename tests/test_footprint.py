"""What a model needs is told before it is loaded, and what does not fit is refused with a way out."""

import pytest
import torch
from conftest import random_model, tiny_config
from transformers import AutoModelForCausalLM, LlamaConfig

from dro import footprint, memory, models
from dro.errors import ModelError
from dro.footprint import Weights


def test_a_folder_is_counted_without_reading_its_weights(tiny_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    counted = footprint.of_folder(tiny_folder)
    assert counted.linear + counted.other == sum(p.numel() for p in model.parameters())
    layers = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    assert counted.linear == sum(m.in_features * m.out_features for m in layers)


def test_a_configuration_tells_the_same(tiny_folder, tiny):
    config = tiny_config(len(tiny.tokenizer) + 5)
    assert footprint.of_config(config) == footprint.of_folder(tiny_folder)


def test_seven_billion_parameters_are_counted_without_memory():
    before = memory.resident()
    counted = footprint.of_config(LlamaConfig())  # its defaults are those of Llama 7B
    assert counted.linear + counted.other == 6_738_415_616
    assert 3.5e9 < counted.bytes("4bit") < 4.2e9 and counted.bytes("bf16") == 2 * 6_738_415_616
    assert before is None or memory.resident() - before < 1e9


def test_bytes_in_4bit_are_those_of_bitsandbytes():
    bnb = pytest.importorskip("bitsandbytes")
    weight = torch.randn(512, 1024)
    packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    scales = (state.absmax, state.state2.absmax)
    taken = packed.numel() + sum(s.numel() * s.element_size() for s in scales)
    assert Weights(weight.numel(), 0).bytes("4bit") == pytest.approx(taken, rel=0.01)


@pytest.mark.parametrize(
    ("free", "precision", "remedy"),
    [
        (16e9, "fp32", "Use bf16"),
        (6e9, "bf16", "Use 4bit"),
        (6e9, "fp32", "Use 4bit"),
        (1e9, "4bit", "smaller"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(monkeypatch, raised, free, precision, remedy):
    monkeypatch.setattr(memory, "available", lambda: int(free))
    weights = Weights(6_476_005_376, 262_410_240)
    message = raised(lambda: footprint.check(weights, precision, False, "big"), ModelError)
    assert message.startswith("big needs ") and f"in {precision}, {free / 1e9:.1f} GB are free" in message
    assert remedy in message


def test_what_fits_or_is_not_known_passes(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**10)
    footprint.check(Weights(10**9, 0), "bf16", False, "small")
    footprint.check(None, "bf16", False, "unknown")
    monkeypatch.setattr(memory, "available", lambda: None)
    footprint.check(Weights(10**12, 0), "bf16", False, "huge, on a system that does not tell")


def test_loading_refuses_before_anything_is_read(tiny_folder, monkeypatch, raised):
    monkeypatch.setattr(memory, "available", lambda: 1000)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    message = raised(lambda: models.load(str(tiny_folder), "fp32"), ModelError)
    assert "tiny needs 0.4 GB in fp32, 0.0 GB are free" in message


def test_a_damaged_folder_is_left_to_loading(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 4)
    assert footprint.of_folder(tmp_path) is None and footprint.of_folder(tmp_path / "none") is None


def test_devices_are_checked(tiny_folder, raised, monkeypatch):
    assert "auto, cpu, cuda" in raised(
        lambda: models.load(str(tiny_folder), "fp32", device="tpu"), models.DataError
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = raised(lambda: models.load(str(tiny_folder), "fp32", device="cuda"), ModelError)
    assert "no CUDA device" in message and "--device cpu" in message


def test_several_gpus_count_together_and_layers_may_spill_over_in_bf16_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: ([3, 4][index], 10))
    monkeypatch.setattr(memory, "available", lambda: 100)
    assert footprint.available(True, "4bit") == 7 and footprint.available(True, "bf16") == 107
    assert footprint.available(False, "4bit") == 100


def test_the_tiny_random_model_is_what_is_counted(tiny):
    model = random_model(tiny_config(len(tiny.tokenizer) + 5))
    counted = footprint._counted((n, list(p.shape)) for n, p in model.named_parameters())
    assert counted.bytes("fp32") == sum(p.numel() * p.element_size() for p in model.parameters())
