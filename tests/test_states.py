"""Last-token states: right, in order, whatever the packing; a soft start equals its text."""

import numpy as np
import pytest
import torch
from conftest import chat_model, pairs

from dro import batching, shared_prefix, states
from dro.batching import packs
from dro.encoding import encoder
from dro.errors import DataError
from dro.prompts import HUMAN, SafetyPrompt, resolve
from dro.rendering import Rendering
from dro.states import PrefixCache, last_token_states, own_ids, packed_states, prefix_ids

NONE, SHORT = SafetyPrompt("none", None), SafetyPrompt("short", HUMAN["short"])
QUERIES = pairs(6).texts


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def by_text(model, reference, prompt, queries):
    """States by tokenizing the whole rendering with the original tokenizer, one query at a time."""
    rows = []
    for query in queries:
        text = model.rendering.render(prompt.text, query)
        ids = torch.tensor([model.tokenizer(text, add_special_tokens=False).input_ids])
        with torch.no_grad():
            rows.append(reference.model(ids, use_cache=False).last_hidden_state[0, -1].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("name", ["none", "template", "default", "short", "template+short"])
def test_states_equal_the_whole_text_through_the_model(tiny, plain, name):
    prompt = resolve(name, tiny)
    found = last_token_states(tiny, prompt, QUERIES, PrefixCache(tiny))
    assert found.dtype == np.float32 and found.shape == (len(QUERIES), tiny.d_model)
    assert relative(found, by_text(tiny, plain, prompt, QUERIES)) < 1e-5


@pytest.mark.parametrize("size", [1, 40, 100, 10_000])
def test_order_and_values_do_not_depend_on_the_pack_size(tiny, plain, monkeypatch, size):
    queries = ["a", "A much longer query than the others, so that packs differ.", "b", "Hello the", "c"]
    monkeypatch.setattr(batching.room(tiny), "plain", size)
    found = last_token_states(tiny, SHORT, queries)
    expected = by_text(tiny, plain, SHORT, queries)
    assert relative(found, expected) < 1e-5
    assert relative(found[::-1], expected) > 0.1


def test_an_empty_prefix_works(plain):
    model = chat_model(rendering=Rendering("{system}\n{query}<|im_end|>", "{query}<|im_end|>"))
    assert len(prefix_ids(model, NONE)) == 0
    found = last_token_states(model, NONE, QUERIES, PrefixCache(model))
    assert relative(found, by_text(model, plain, NONE, QUERIES)) < 1e-5


@pytest.mark.parametrize("name", ["short", "default", "mistral", "template", "text:Be  kind.\n"])
def test_vectors_that_are_the_texts_embeddings_give_the_texts_states(tiny, name):
    prompt = resolve(name, tiny)
    ids = prefix_ids(tiny, prompt)
    own = own_ids(tiny, prompt, QUERIES)
    soft = packed_states(tiny, own, ids, tiny.embed(ids.slot)).detach().numpy()
    assert relative(soft, last_token_states(tiny, prompt, QUERIES)) < 1e-5


def test_a_soft_prompt_goes_the_same_way_cached_or_packed(tiny):
    ids = prefix_ids(tiny, SHORT)
    vectors = np.random.default_rng(0).normal(size=(9, tiny.d_model)).astype(np.float32)
    prompt = SafetyPrompt("soft", SHORT.text, vectors)
    packed = packed_states(tiny, own_ids(tiny, prompt, QUERIES), ids, torch.from_numpy(vectors))
    assert relative(last_token_states(tiny, prompt, QUERIES), packed.detach().numpy()) < 1e-5
    assert relative(packed.detach().numpy(), last_token_states(tiny, SHORT, QUERIES)) > 0.05


def test_out_of_context_embeddings_would_not_give_the_texts_states():
    """What the authors do: tokenise the system text by itself. A straddling token then is lost."""
    model = chat_model(rendering=Rendering("[INST] {system}\n\n{query} [/INST]", "[INST] {query} [/INST]"))
    prompt = SafetyPrompt("x", "the lamp.")
    ids, own = prefix_ids(model, prompt), own_ids(model, prompt, QUERIES)
    text = last_token_states(model, prompt, QUERIES)
    alone = model.tokenizer("the lamp.", add_special_tokens=False).input_ids
    assert relative(packed_states(model, own, ids, model.embed(alone)).numpy(), text) > 1e-3
    assert relative(packed_states(model, own, ids, model.embed(ids.slot)).numpy(), text) < 1e-5


def test_the_prefix_is_run_once_for_all_calls(tiny, monkeypatch):
    runs = []
    original = states.run_prefix
    monkeypatch.setattr(states, "run_prefix", lambda *a: runs.append(1) or original(*a))
    cache = PrefixCache(tiny)
    for query in QUERIES[:3]:
        last_token_states(tiny, SHORT, [query], cache)
    assert len(runs) == 1


def test_a_full_cache_drops_what_was_used_least_recently(tiny):
    small = PrefixCache(tiny, max_bytes=1)
    first = small.get(SHORT)
    assert small.get(SHORT) is first
    small.get(NONE)
    assert small.get(SHORT) is not first


def test_two_prompts_of_one_name_do_not_share_a_prefix(tiny):
    cache = PrefixCache(tiny)
    one = last_token_states(tiny, SafetyPrompt("p", "Be kind."), QUERIES, cache)
    two = last_token_states(tiny, SafetyPrompt("p", "Be unkind."), QUERIES, cache)
    assert relative(one, two) > 1e-3


def test_no_gradient_is_kept_for_plain_states(tiny):
    kept = states.run_prefix(tiny, SHORT)
    assert not any(k.requires_grad for k in kept.keys.values())
    assert isinstance(kept, shared_prefix.KeyValues)


def test_progress_grows_to_one_and_checkpoint_can_stop(tiny, monkeypatch):
    monkeypatch.setattr(batching.room(tiny), "plain", 30)
    told = []
    last_token_states(tiny, SHORT, QUERIES, progress=lambda _, share: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 2

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        last_token_states(tiny, SHORT, QUERIES, checkpoint=stop)


def test_a_query_that_the_model_cannot_read_is_named(tiny, raised):
    message = raised(lambda: last_token_states(tiny, SHORT, ["the word " * 800]), DataError)
    assert "the word" in message and "tiny reads" in message


def test_no_queries_give_no_states(tiny):
    assert last_token_states(tiny, SHORT, []).shape == (0, tiny.d_model)


def test_packs_hold_every_index_once_and_keep_to_the_limit():
    lengths = [5, 1, 9, 3, 3, 30, 2]
    groups = list(packs(lengths, 10))
    assert sorted(i for g in groups for i in g) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in g) <= 10 or len(g) == 1 for g in groups)
    assert list(packs([], 10)) == []


def test_a_states_row_is_the_one_after_the_final_norm(tiny):
    found = last_token_states(tiny, NONE, QUERIES[:2])
    rescaled = found / tiny.model.model.norm.weight.numpy()
    assert np.allclose((rescaled**2).mean(axis=1), 1.0, atol=1e-3)


def test_soft_prompts_cut_their_slot_where_their_text_does(tiny):
    soft = SafetyPrompt("soft", SHORT.text, np.zeros((3, tiny.d_model), dtype=np.float32))
    assert prefix_ids(tiny, soft) == encoder(tiny).prefix(SHORT.text)
