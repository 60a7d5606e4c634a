"""What a vLLM server needs to speak with a prompt as it is: vectors, a client, the exact command.

Written after vLLM's documentation of prompt embeddings (docs.vllm.ai, features/prompt_embeds): tensors of
shape (tokens, d_model) in base64, in completions for the whole sequence, in chat completions for what
stands in a message. vLLM itself was not run here.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from dro import store
from dro.errors import ModelError
from dro.exports.adapter import prefix_rows
from dro.exports.drop_in import check
from dro.exports.insertion import insertion, rest
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.states import prefix_ids

_DTYPES = {"bf16": "bfloat16", "fp32": "float32", "4bit": "bfloat16"}


def write(model: ChatModel, prompt: SafetyPrompt, folder: Path, base: str) -> dict[str, Any]:
    """Write prefix, tokenizer, client and settings; returns the settings, `command` among them.

    base: what is served, a hub id or a folder. The vectors themselves are the bundle's.

    Raises
    ------
    ModelError: the tokenizer cannot write the ids that the prompt was trained with.
    """
    from safetensors.torch import save

    assert prompt.vectors is not None
    found = rest(model, prompt)
    prefix = prefix_rows(model, prompt)[: found.baked].contiguous()
    longest = getattr(model.model.config.get_text_config(), "max_position_embeddings", 4096)
    dtype = _DTYPES[model.precision]
    command = [
        "vllm", "serve", base, "--enable-prompt-embeds", "--dtype", dtype,
        "--max-model-len", str(min(longest, 4096)),
    ]  # fmt: skip
    told = {
        "base": base,
        "dtype": dtype,
        "n_tokens": len(prompt.vectors),
        "head_tokens": len(prefix_ids(model, prompt).head),
        "prefix_tokens": len(prefix),
        "d_model": model.d_model,
        "ways": ["chat", "completion"] if _stands_alone(model, prompt) else ["completion"],
        "command": shlex.join(command),
    }
    store.write_json(folder / "embeds.json", told)
    store.write_bytes(folder / "prefix.safetensors", save({"prefix": prefix}))
    store.write_bytes(folder / "client.py", (Path(__file__).parent / "embeds_client.py").read_bytes())
    found.tokenizer.save_pretrained(folder)
    check(folder, found)
    return told


def _stands_alone(model: ChatModel, prompt: SafetyPrompt) -> bool:
    """Whether the server's own template, with the vectors as its system message, gives the trained ids."""
    try:
        return insertion(model, prompt).stands_alone
    except ModelError:
        return False
