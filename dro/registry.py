"""The models that are known by name, and how the paper's eight write a turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dro.rendering import Rendering

DEFAULT = "qwen2.5-coder-0.5b"


@dataclass(frozen=True)
class ModelSpec:
    """A model the registry knows: where it lives, and how it writes a turn where that is stated."""

    name: str
    hub_id: str
    billions: float
    rendering: Rendering | None = None
    note: str = ""
    licence: str = "other"
    """As the Hub abbreviates it."""


_LLAMA = Rendering("<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{query} [/INST]", "<s>[INST] {query} [/INST]")
_MISTRAL = Rendering("<s>[INST] {system}\n\n{query} [/INST]", "<s>[INST] {query} [/INST]")
_VICUNA = Rendering("<s>{system}\n\nUSER: {query}\nASSISTANT:", "<s>USER: {query}\nASSISTANT:")
_ORCA = Rendering(
    "<s><|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n",
    "<s><|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n",
)
_OPENCHAT = Rendering(
    "<s>{system}<|end_of_turn|>GPT4 Correct User: {query}<|end_of_turn|>GPT4 Correct Assistant:",
    "<s>GPT4 Correct User: {query}<|end_of_turn|>GPT4 Correct Assistant:",
)

_PAPER = "one of the paper's eight"
REGISTRY: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            ModelSpec(
                DEFAULT,
                "Qwen/Qwen2.5-Coder-0.5B-Instruct",
                0.6,
                note="default; Q4_K_M weights",
                licence="apache-2.0",
            ),
            ModelSpec(
                "llama-2-7b", "meta-llama/Llama-2-7b-chat-hf", 6.7, _LLAMA, f"{_PAPER}; gated", "llama2"
            ),
            ModelSpec("codellama-7b", "codellama/CodeLlama-7b-Instruct-hf", 6.7, _LLAMA, _PAPER, "llama2"),
            ModelSpec("vicuna-7b", "lmsys/vicuna-7b-v1.5", 6.7, _VICUNA, _PAPER, "llama2"),
            ModelSpec("orca-2-7b", "microsoft/Orca-2-7b", 6.7, _ORCA, _PAPER),
            ModelSpec(
                "mistral-7b-v0.1", "mistralai/Mistral-7B-Instruct-v0.1", 7.2, _MISTRAL, _PAPER, "apache-2.0"
            ),
            ModelSpec(
                "mistral-7b-v0.2", "mistralai/Mistral-7B-Instruct-v0.2", 7.2, _MISTRAL, _PAPER, "apache-2.0"
            ),
            ModelSpec("openchat-3.5", "openchat/openchat-3.5", 7.2, _OPENCHAT, _PAPER, "apache-2.0"),
            ModelSpec(
                "openchat-3.5-1210", "openchat/openchat-3.5-1210", 7.2, _OPENCHAT, _PAPER, "apache-2.0"
            ),
        )
    }
)
