"""What the generated vLLM client sends: shape, order, and what a server that reads it so answers."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import standins
import torch
from conftest import byte_tokenizer, chat_model
from safetensors.torch import load_file
from test_exports import make_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from dro import models, prompts, store
from dro.cli import main
from dro.exports import embeds
from dro.exports.embeds_client import encoded
from dro.generate import Decoding, answers
from dro.prompts import SafetyPrompt
from dro.states import own_ids, prefix_ids

QUERY = "How to fold a small boat 3?"


@pytest.fixture(scope="module")
def exported(tiny_folder, tmp_path_factory):
    """(the model, the prompt, the exported folder)"""
    parent = tmp_path_factory.mktemp("vllm")
    chat = models.load(str(tiny_folder), "fp32")
    run = make_run(parent / "run", chat)
    argv = ["export", str(run), str(parent / "out"), "--to", "vllm", "--model", str(tiny_folder)]
    assert main([*argv, "--precision", "fp32"]) == 0
    return chat, prompts.resolve(str(run), chat), parent / "out"


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_the_prefix_is_head_vectors_and_middle_in_this_order(exported):
    chat, prompt, folder = exported
    ids, told = prefix_ids(chat, prompt), store.read_json(folder / "embeds.json")
    rows = load_file(folder / "prefix.safetensors")["prefix"]
    start, end = len(ids.head), len(ids.head) + len(prompt.vectors)
    assert rows.shape == (told["prefix_tokens"], told["d_model"]) and told["head_tokens"] == start
    assert torch.equal(rows[:start], chat.embed(ids.head)) and torch.equal(rows[end:], chat.embed(ids.middle))
    assert torch.equal(rows[start:end], torch.from_numpy(prompt.vectors)) and told["n_tokens"] == end - start
    assert rows.dtype == torch.float32


def test_the_command_serves_the_model_that_the_run_was_trained_on(exported, tiny_folder):
    told = store.read_json(exported[2] / "embeds.json")
    words = shlex.split(told["command"])
    assert words[:3] == ["vllm", "serve", str(tiny_folder)] and "--enable-prompt-embeds" in words
    assert words[words.index("--dtype") + 1] == told["dtype"] == "float32"
    assert told["command"] in (exported[2] / "README.md").read_text()


@pytest.mark.parametrize("way", ["chat", "completion"])
def test_a_server_that_reads_it_as_documented_gives_our_answer(exported, tiny_folder, way):
    chat, prompt, folder = exported
    server = standins.Embeds(*plain(tiny_folder))
    assert way in store.read_json(folder / "embeds.json")["ways"]
    with standins.listening(server) as url:
        argv = [sys.executable, "client.py", QUERY, "--url", f"{url}/v1", "--way", way, "--max-tokens", "8"]
        environment = os.environ | {"OPENAI_API_KEY": "none"}
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    # The whole sequence, as the server put it together or was given it, is the one we run.
    [sequence] = server.sequences
    own = chat.embed(own_ids(chat, prompt, [QUERY])[0])
    ids, vectors = prefix_ids(chat, prompt), torch.from_numpy(prompt.vectors)
    assert torch.equal(sequence, torch.cat([chat.embed(ids.head), vectors, chat.embed(ids.middle), own]))
    assert done.stdout.strip() == answers(chat, prompt, [QUERY], Decoding(max_tokens=8))[0][0]


def test_chat_is_left_out_where_the_servers_template_would_not_give_the_trained_ids(tmp_path):
    """Here a token at the edge of the slot takes in what the template writes after it."""
    chat = chat_model(byte_tokenizer(("e .", "e. <"), template=_GLUED, split=False))
    for text, ways in [("Be safe.", ["completion"]), ("Be kind", ["chat", "completion"])]:
        prompt = SafetyPrompt("x", text, np.zeros((3, chat.d_model), dtype=np.float32))
        assert embeds.write(chat, prompt, tmp_path / text, "tiny")["ways"] == ways


_GLUED = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '</>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def test_tensors_are_sent_contiguous_and_alone():
    rows = torch.arange(40.0).reshape(4, 10)
    sent = standins._tensor(encoded(rows[1:3, ::2]))
    assert torch.equal(sent, rows[1:3, ::2]) and sent.is_contiguous()
    # A view would drag its whole storage along.
    assert len(encoded(torch.zeros(100_000)[:4])) < 10_000


def test_precisions_have_names_that_vllm_knows():
    assert set(embeds._DTYPES) == set(models.PRECISIONS) - {"auto"}
