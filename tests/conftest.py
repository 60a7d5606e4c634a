"""Tiny random models and tokenizers, made here: nothing is downloaded, nothing takes long."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from dro import fitting, health, models, probes
from dro.data import Query, QuerySet
from dro.generate import Decoding
from dro.models import ChatModel
from dro.registry import DEFAULT
from dro.rendering import from_chat_template
from dro.shared_prefix import IMPLEMENTATION
from dro.space import Space

THREADS = torch.get_num_threads()

IDENTITY = "You are Tiny, a helpful assistant."
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + IDENTITY + "<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("Ġ t", "Ġt h", "Ġth e", "Ġ a", "e r", "i n", "H e", "l l", "He ll", "Hell o", "o u", "Y ou", "Ċ Ċ")


def byte_tokenizer(
    merges: tuple[str, ...] = MERGES,
    specials: tuple[str | AddedToken, ...] = SPECIALS,
    plain_added: tuple[str, ...] = ("<tool_call>",),
    template: str | None = CHATML,
    split: bool = True,
    **options: Any,
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer like GPT-2's or Qwen's. split=False: merges may cross words and lines."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    for merge in merges:
        vocabulary.setdefault(merge.replace(" ", ""), len(vocabulary))
    pairs = [(m.split(" ")[0], m.split(" ")[1]) for m in merges]
    backend = Tokenizer(BPE(vocab=vocabulary, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(specials))
    backend.add_tokens(list(plain_added))
    names = {str(getattr(s, "content", s)) for s in specials}
    options.setdefault("eos_token", "<|im_end|>" if "<|im_end|>" in names else None)
    options.setdefault("pad_token", "<|endoftext|>" if "<|endoftext|>" in names else None)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        **{k: v for k, v in options.items() if v is not None},
    )
    wrapped.chat_template = template
    return wrapped


def piece_tokenizer(extra: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer like Llama-2's tokenizer.json: "▁" for spaces, bytes as a last resort."""
    # As in the real ones, words come with the space before them; "▁" never stays alone before a word.
    words = ("INST", "USER", "ASSISTANT", "SYS", "<<", ">>", "GPT", "User")
    vocabulary: dict[str, int] = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for symbol in ["▁", *map(chr, range(33, 127))]:
        vocabulary.setdefault(symbol, len(vocabulary))
    merges: list[tuple[str, str]] = []
    for word in (*(f"▁{chr(c)}" for c in range(33, 127)), "▁Hello", "▁USER", *words, "<</", "▁the"):
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    backend = Tokenizer(
        BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>", *extra)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def tiny_config(vocab_size: int, **changes: Any) -> Qwen2Config:
    """Wide initial weights, so that every token and every layer matters to the states."""
    fields = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.25,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return Qwen2Config(**{**fields, **changes})


def random_model(config: Any, kind: Any = Qwen2ForCausalLM, attention: str = IMPLEMENTATION, seed: int = 0):
    """A frozen random model in float32; the same seed gives the same weights."""
    torch.manual_seed(seed)
    config._attn_implementation = attention
    return kind(config).float().eval().requires_grad_(False)


def chat_model(tokenizer: Any = None, rendering: Any = None, **changes: Any) -> ChatModel:
    tokenizer = tokenizer or byte_tokenizer()
    model = random_model(tiny_config(len(tokenizer) + 5, **changes))
    rendering = rendering or from_chat_template(tokenizer, "tiny")
    return ChatModel("tiny", "0123456789abcdef", "fp32", model, tokenizer, rendering)


def save_folder(folder: Path, tokenizer: Any = None, **changes: Any) -> Path:
    """A local model folder as `save_pretrained` writes it."""
    tokenizer = tokenizer or byte_tokenizer()
    random_model(tiny_config(len(tokenizer) + 5, **changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pairs(count: int, name: str = "anchors") -> QuerySet:
    """`count` matched pairs of made-up queries of several lengths."""
    acts = ("fold", "paint", "carry", "open", "wash", "lift", "count")
    things = ("lamp", "small boat", "map of the old town", "door", "hat", "very long rope")
    queries = []
    for number in range(count):
        act, thing = acts[number % len(acts)], things[number % len(things)]
        queries.append(Query(f"How to {act} the stolen {thing} {number}?", True, number))
        queries.append(Query(f"How to {act} a {thing} {number}?", False, number))
    return QuerySet(name, tuple(queries))


def random_space(model: ChatModel, anchors: QuerySet, m: int = 4, refusals: bool = True) -> Space:
    """A space from the tiny model's own states and made-up refusal rates that depend on them."""
    from dro.prompts import resolve
    from dro.states import last_token_states

    names = fitting.conditions_for(model)
    states = np.concatenate([last_token_states(model, resolve(n, model), anchors.texts) for n in names])
    direction = np.random.default_rng(0).normal(size=states.shape[1])
    logits = (states - states.mean(axis=0)) @ direction
    rates = 1 / (1 + np.exp(-2 * logits / logits.std())) if refusals else np.zeros(len(states))
    with pytest.MonkeyPatch.context() as patch:  # fewer candidates: this space is a means, not a claim
        patch.setattr(probes, "STRENGTHS", (0.1, 1.0))
        patch.setattr(health, "WIDTHS", (2, 4))
        openings = {5: (2, 3), 7: (5, 5)} if refusals else {}
        return fitting.build(
            model, anchors, names, states, rates, m, Decoding(max_tokens=2), 0, openings=openings
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """One thread for tiny models, which gain nothing from more; all for the real one."""
    torch.set_num_threads(THREADS if item.get_closest_marker("model") else 1)


@pytest.fixture(scope="session")
def tiny() -> ChatModel:
    return chat_model()


@pytest.fixture(scope="session")
def plain(tiny: ChatModel) -> Any:
    """The same weights with torch's own attention: the reference."""
    return random_model(tiny_config(len(tiny.tokenizer) + 5), attention="sdpa")


@pytest.fixture(scope="session")
def anchors() -> QuerySet:
    return pairs(12)


@pytest.fixture(scope="session")
def space(tiny: ChatModel, anchors: QuerySet) -> Space:
    return random_space(tiny, anchors)


@pytest.fixture(scope="session")
def bare_space(tiny: ChatModel, anchors: QuerySet) -> Space:
    """A space of a model that never refuses: it has no refusal probe."""
    return random_space(tiny, anchors, refusals=False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("models") / "tiny")


def of_few_anchors(frame: Space, count: int) -> Space:
    """The same projection and probes; a run that ends in it places few anchors instead of all."""
    anchors, names = frame.anchors, len(frame.anchors.conditions)
    rows = np.concatenate([np.arange(count) + k * len(anchors.queries) for k in range(names)])
    few = replace(
        anchors, queries=anchors.queries[:count], harmful=anchors.harmful[:count], pair=anchors.pair[:count],
        coordinates=anchors.coordinates[rows], refusal_rate=anchors.refusal_rate[rows],
        residual=anchors.residual[rows],
    )  # fmt: skip
    return replace(frame, anchors=few)


@pytest.fixture(scope="session")
def default_model() -> ChatModel:
    """The real one, loaded once for all tests marked `model`."""
    return models.load()


@pytest.fixture(scope="session")
def exact_model() -> ChatModel:
    """The same in float32, for equalities."""
    return models.load(precision="fp32")


@pytest.fixture
def commands_share(default_model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> ChatModel:
    """Commands typed in this process are given the model that is loaded, where they ask for that one."""
    load = models.load

    def shared(name: str = DEFAULT, precision: str = "auto", rendering: Any = None, *more: Any) -> ChatModel:
        same = name == DEFAULT and rendering is None and precision in ("auto", default_model.precision)
        return default_model if same else load(name, precision, rendering, *more)

    monkeypatch.setattr(models, "load", shared)
    return default_model


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path | None:
    """No test but those of the default model reads or writes the user's cache."""
    if request.node.get_closest_marker("model") or request.node.get_closest_marker("browser"):
        return None
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DRO_CACHE", str(cache))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return cache


@pytest.fixture
def raised() -> Callable[[Callable[[], Any], type[Exception]], str]:
    """The message of the error that a call raises."""

    def message(call: Callable[[], Any], kind: type[Exception]) -> str:
        with pytest.raises(kind) as caught:
            call()
        return str(caught.value)

    return message


@contextmanager
def served(**environment: str) -> Iterator[str]:
    """app.py as a process of its own on a free port: its address, once the page answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port)} | environment,
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, "app.py ended"
            try:
                urllib.request.urlopen(url, timeout=3)
                break
            except OSError:
                assert time.monotonic() < deadline, "app.py serves no page"
                time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore::UserWarning")
