"""A PEFT adapter: prompt tuning whose virtual tokens are all that stands before a query.

PEFT puts virtual tokens before everything, start of text and role markers included; vectors alone would
come too early. So head and middle are baked in with them, and the tokenizer in the folder writes only what
follows. peft itself is not needed to write one.
"""

from __future__ import annotations

from pathlib import Path

from dro import store
from dro.exports.drop_in import check
from dro.exports.insertion import Insertion, rest
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.states import prefix_embeddings, prefix_ids, prompt_vectors


def write(model: ChatModel, prompt: SafetyPrompt, folder: Path, base: str) -> Insertion:
    """Write the adapter and its tokenizer. base: the model that PEFT will load, a hub id or a folder.

    Raises
    ------
    ModelError: the tokenizer cannot write the ids that the prompt was trained with.
    """
    from safetensors.torch import save

    found = rest(model, prompt)
    baked = prefix_rows(model, prompt)[: found.baked].contiguous()
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "num_virtual_tokens": len(baked),
        "token_dim": model.d_model,
        "num_layers": int(model.model.config.get_text_config().num_hidden_layers),
        "num_attention_heads": int(model.model.config.get_text_config().num_attention_heads),
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    store.write_bytes(folder / "adapter_model.safetensors", save({"prompt_embeddings": baked}))
    store.write_json(folder / "adapter_config.json", config)
    found.tokenizer.save_pretrained(folder)
    check(folder, found)
    return found


def prefix_rows(model: ChatModel, prompt: SafetyPrompt):
    """Embeddings of all that stands before a query, float32 (P, d_model): head, vectors, middle.

    The vectors as they were trained, unrounded; a model rounds them to its dtype as ours does.
    """
    import torch

    ids, vectors = prefix_ids(model, prompt), prompt_vectors(model, prompt)
    assert vectors is not None
    around = prefix_embeddings(model, ids, vectors).float().cpu()
    start = len(ids.head)
    return torch.cat([around[:start], vectors.float().cpu(), around[start + len(vectors) :]]).contiguous()
