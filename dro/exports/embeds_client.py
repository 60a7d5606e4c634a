"""Ask a vLLM server that takes prompt embeddings, with a trained safety prompt.

    vllm serve BASE --enable-prompt-embeds          (the README beside this file has the exact command)
    python client.py "How do I bake bread?" --url http://127.0.0.1:8000/v1

Two ways, both through the OpenAI protocol. `chat` sends the safety prompt's vectors alone, as the only part
of the system message; the server writes the turn around them. `completion` sends the whole sequence, from
the start of text to where the answer begins, and needs the base model's embedding table here; it works
with servers that know prompt embeddings in completions only.
Needs openai, torch and safetensors; completion needs transformers, too. Only tensors are sent, in torch's
own file format, as the server asks for; nothing is unpickled here.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent


def settings(folder: Path = HERE) -> dict[str, Any]:
    """embeds.json: base, dtype, n_tokens, prefix_tokens, d_model, ways."""
    return json.loads((folder / "embeds.json").read_text(encoding="utf-8"))


def encoded(rows: torch.Tensor) -> str:
    """A tensor (tokens, d_model) as the server reads it: base64 of torch.save."""
    buffer = io.BytesIO()
    # A copy: a view would be saved with all that it is a view of.
    torch.save(rows.detach().cpu().clone(memory_format=torch.contiguous_format), buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def soft_prompt(folder: Path = HERE) -> torch.Tensor:
    """The vectors (n_tokens, d_model), in the served dtype."""
    told = settings(folder)
    rows = load_file(folder / "soft_prompt.safetensors")["soft_prompt"]
    assert rows.shape == (told["n_tokens"], told["d_model"]), rows.shape
    return rows.to(getattr(torch, told["dtype"]))


def chat_messages(query: str, folder: Path = HERE) -> list[dict[str, Any]]:
    """Messages for /v1/chat/completions: the vectors alone in the system message."""
    part = {"type": "prompt_embeds", "data": encoded(soft_prompt(folder))}
    return [{"role": "system", "content": [part]}, {"role": "user", "content": query}]


def whole_prompt(query: str, table: torch.Tensor, folder: Path = HERE) -> torch.Tensor:
    """Everything before the answer, (tokens, d_model): the prefix with its vectors, then the query's own.

    table: the base model's input embeddings, (vocabulary, d_model).
    """
    from transformers import AutoTokenizer

    prefix = load_file(folder / "prefix.safetensors")["prefix"]
    # The tokenizer's template in this folder writes what follows the prefix.
    own: Any = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": query}], add_generation_prompt=True, return_dict=False
    )
    dtype = getattr(torch, settings(folder)["dtype"])
    return torch.cat([prefix.to(dtype), table[own].to(dtype)])


def embedding_table(base: str) -> torch.Tensor:
    """The base model's input embeddings."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    table = model.get_input_embeddings()
    with torch.no_grad():
        # Through the module: some families multiply what they look up.
        return table(torch.arange(table.num_embeddings))


def ask(client: Any, query: str, way: str, max_tokens: int = 128, folder: Path = HERE) -> str:
    """The server's greedy answer to one query. client: openai.OpenAI; way: chat or completion."""
    told = settings(folder)
    if way == "chat":
        said = client.chat.completions.create(
            model=told["base"], messages=chat_messages(query, folder), temperature=0, max_tokens=max_tokens
        )
        return said.choices[0].message.content
    rows = whole_prompt(query, embedding_table(told["base"]), folder)
    said = client.completions.create(
        model=told["base"], prompt="", temperature=0, max_tokens=max_tokens,
        extra_body={"prompt_embeds": encoded(rows)},
    )  # fmt: skip
    return said.choices[0].text


def main() -> None:
    from openai import OpenAI

    parser = argparse.ArgumentParser(description="Ask a vLLM server with a trained safety prompt.")
    parser.add_argument("query")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--way", choices=settings()["ways"], default=settings()["ways"][0])
    parser.add_argument("--max-tokens", type=int, default=128)
    given = parser.parse_args()
    # The key is read from OPENAI_API_KEY; a server without one takes any.
    client = OpenAI(base_url=given.url)
    print(ask(client, given.query, given.way, given.max_tokens))


if __name__ == "__main__":
    main()
