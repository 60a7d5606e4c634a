"""Several prompts in one pass: each prompt's rows see their own prefix and nothing of the others'."""

import numpy as np
import pytest
import torch
from conftest import pairs

from dro import shared_prefix, states
from dro.prompts import SafetyPrompt, resolve
from dro.shared_prefix import Decode, Packed
from dro.side_by_side import SideBySide
from dro.states import PrefixCache, last_token_states, own_ids, run_prefix, states_by_prompt

QUERY = "How do I fold a map?"


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def prompts(tiny):
    soft = SafetyPrompt("mine", "x", np.random.default_rng(0).normal(size=(5, tiny.d_model)).astype("f4"))
    return [*(resolve(name, tiny) for name in ("none", "default", "short")), soft]


def test_one_pass_gives_what_each_prompt_gives_by_itself(tiny, prompts):
    expected = np.concatenate([last_token_states(tiny, prompt, [QUERY]) for prompt in prompts])
    found = states_by_prompt(tiny, prompts, QUERY)
    assert found.dtype == np.float32 and relative(found, expected) < 1e-5
    assert relative(found, expected[::-1]) > 0.1


def test_it_is_one_pass_once_the_prefixes_are_kept(tiny, prompts, monkeypatch):
    cache = PrefixCache(tiny)
    first = states_by_prompt(tiny, prompts, QUERY, cache)
    passes = []
    original = shared_prefix.forward
    monkeypatch.setattr(states.shared_prefix, "forward", lambda *a: passes.append(1) or original(*a))
    again = states_by_prompt(tiny, prompts, QUERY, cache)
    assert len(passes) == 1 and np.array_equal(first, again)


def test_going_on_equals_the_longer_sequences(tiny, plain, prompts):
    """Rows of several lengths behind several prefixes; one more token each."""
    texts = pairs(2).texts
    own = [own_ids(tiny, prompt, texts[: 1 + place % 2]) for place, prompt in enumerate(prompts)]
    caches = [run_prefix(tiny, prompt) for prompt in prompts]
    parts = [
        Packed(cache.length, [len(ids) for ids in each], tiny.device, cache, keep=True)
        for cache, each in zip(caches, own, strict=True)
    ]
    layout = SideBySide(parts)
    flat = tiny.embed([token for each in own for ids in each for token in ids])
    with torch.no_grad():
        shared_prefix.forward(tiny.backbone, flat[None], layout.position_ids, layout)
        since = layout.continuation()
        decode = Decode(since.prefix, since.own, since.valid, capacity=1)
        decode.advance()
        rows = [(p, ids) for p, each in zip(prompts, own, strict=True) for ids in each]
        new = torch.randn(len(rows), 1, tiny.d_model, generator=torch.Generator().manual_seed(3))
        found = shared_prefix.forward(tiny.backbone, new, since.positions[:, None], decode)[:, 0]
        for row, (prompt, ids) in enumerate(rows):
            before = states.prefix_embeddings(
                tiny, states.prefix_ids(tiny, prompt), states.prompt_vectors(tiny, prompt)
            )
            whole = torch.cat([before, tiny.embed(ids), new[row]])[None]
            expected = plain.model(inputs_embeds=whole, use_cache=False).last_hidden_state[0, -1]
            assert relative(found[row].numpy(), expected.numpy()) < 1e-5
