"""The shared prefix computes what running every sequence by itself computes, gradients included."""

import pytest
import torch
from conftest import chat_model, pairs, random_model, tiny_config
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from dro import shared_prefix
from dro.errors import ModelError
from dro.prompts import HUMAN, SafetyPrompt
from dro.shared_prefix import Decode, KeyValues, Packed, Prefix
from dro.states import own_ids, packed_states, prefix_embeddings, prefix_ids

SHORT = SafetyPrompt("short", HUMAN["short"])
CPU = torch.device("cpu")


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def alone(backbone, embeddings, prefix, own):
    """Last states of every sequence, each run by itself through the whole model."""
    states = []
    for ids in own:
        row = torch.cat([prefix, embeddings(torch.tensor(ids))])[None]
        states.append(backbone(inputs_embeds=row, use_cache=False).last_hidden_state[0, -1])
    return torch.stack(states)


def padded(backbone, embeddings, prefix, own):
    """The same with all sequences in one right-padded batch."""
    longest = max(map(len, own))
    rows, mask = [], torch.zeros(len(own), len(prefix) + longest, dtype=torch.long)
    for number, ids in enumerate(own):
        filler = torch.zeros(longest - len(ids), prefix.shape[1])
        rows.append(torch.cat([prefix, embeddings(torch.tensor(ids)), filler]))
        mask[number, : len(prefix) + len(ids)] = 1
    out = backbone(inputs_embeds=torch.stack(rows), attention_mask=mask, use_cache=False).last_hidden_state
    last = torch.tensor([len(prefix) + len(ids) - 1 for ids in own])
    return out[torch.arange(len(own)), last]


def test_packed_states_equal_each_sequence_by_itself(tiny, plain):
    own = own_ids(tiny, SHORT, pairs(5).texts)
    ids = prefix_ids(tiny, SHORT)
    found = packed_states(tiny, own, ids, tiny.embed(ids.slot))
    expected = alone(plain.model, plain.get_input_embeddings(), tiny.embed(ids.ids), own)
    assert relative(found, expected) < 1e-5
    assert len({len(o) for o in own}) > 1


def test_packing_without_the_layout_would_be_wrong(tiny):
    """The row by itself, causal as usual, gives other states: the layout is what makes it right."""
    own = own_ids(tiny, SHORT, pairs(2).texts)
    ids = prefix_ids(tiny, SHORT)
    ours = packed_states(tiny, own, ids, tiny.embed(ids.slot))
    row = torch.cat([tiny.embed(ids.ids), tiny.embed([i for o in own for i in o])])[None]
    naive = tiny.backbone(inputs_embeds=row, use_cache=False).last_hidden_state[0]
    ends = torch.tensor([len(ids) + sum(map(len, own[: n + 1])) - 1 for n in range(len(own))])
    assert relative(naive[ends][1:], ours[1:]) > 1e-2


def test_gradients_to_the_vectors_equal_the_plain_ones(tiny, plain):
    own = own_ids(tiny, SHORT, pairs(4).texts)
    ids = prefix_ids(tiny, SHORT)
    weights = torch.randn(len(own), tiny.d_model, generator=torch.Generator().manual_seed(1))
    gradients = []
    for run in (
        lambda v: packed_states(tiny, own, ids, v),
        lambda v: padded(plain.model, plain.get_input_embeddings(), prefix_embeddings(tiny, ids, v), own),
    ):
        vectors = tiny.embed(ids.slot).clone().requires_grad_()
        (run(vectors) * weights).sum().backward()
        gradients.append(vectors.grad)
    assert gradients[1].norm() > 0
    assert relative(gradients[0], gradients[1]) < 1e-4


def test_the_frozen_model_gets_no_gradients(tiny):
    ids = prefix_ids(tiny, SHORT)
    vectors = tiny.embed(ids.slot).clone().requires_grad_()
    packed_states(tiny, own_ids(tiny, SHORT, ["Hello there"]), ids, vectors).sum().backward()
    assert all(p.grad is None for p in tiny.model.parameters())


def kept(model, length, seed=0):
    """A prefix of `length` random embeddings, and its keys and values."""
    embeddings = torch.randn(length, 32, generator=torch.Generator().manual_seed(seed))
    layout = Prefix(length)
    hidden = shared_prefix.forward(model.base_model, embeddings[None], torch.arange(length)[None], layout)
    return embeddings, layout.cache, hidden[0]


def test_a_prefix_that_was_run_before_gives_the_same(tiny):
    prefix, cache, _ = kept(tiny.model, 7)
    own = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    together = Packed(7, [2, 3], CPU)
    whole = shared_prefix.forward(
        tiny.backbone, torch.cat([prefix, own])[None], together.position_ids, together
    )
    apart = Packed(7, [2, 3], CPU, prefix=cache)
    split = shared_prefix.forward(tiny.backbone, own[None], apart.position_ids, apart)
    assert relative(split[0, apart.last], whole[0, 7 + together.last]) < 1e-5


def test_running_the_prefix_equals_the_models_own_pass(tiny, plain):
    prefix, _, hidden = kept(tiny.model, 9)
    expected = plain.model(inputs_embeds=prefix[None], use_cache=False).last_hidden_state[0]
    assert relative(hidden, expected) < 1e-5


def test_without_a_layout_the_model_is_its_own_self(tiny, plain):
    ids = torch.arange(3, 20)[None]
    assert relative(tiny.model(ids).logits, plain(ids).logits) < 1e-6


def test_decoding_a_token_equals_the_longer_sequence(tiny, plain):
    prefix, cache, _ = kept(tiny.model, 6)
    own = torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
    new = torch.randn(2, 2, 32, generator=torch.Generator().manual_seed(4))  # step, row, d_model
    layout = Packed(6, [2, 3], CPU, prefix=cache, keep=True)
    shared_prefix.forward(tiny.backbone, own[None], layout.position_ids, layout)
    decode = Decode(cache, layout.own, layout.valid, capacity=2)
    for step in range(2):
        decode.advance()
        positions = torch.tensor([[8 + step], [9 + step]])
        hidden = shared_prefix.forward(tiny.backbone, new[step][:, None], positions, decode)
    for row, part in enumerate((own[:2], own[2:])):
        whole = torch.cat([prefix, part, new[:, row]])[None]
        expected = plain.model(inputs_embeds=whole, use_cache=False).last_hidden_state[0, -1]
        assert relative(hidden[row, 0], expected) < 1e-5


def test_dropping_rows_leaves_the_others_as_they_were(tiny):
    _, cache, _ = kept(tiny.model, 6)
    own = torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
    new = torch.randn(2, 32, generator=torch.Generator().manual_seed(4))
    results = []
    for rows in ([0, 1], [1]):
        layout = Packed(6, [2, 3], CPU, prefix=cache, keep=True)
        shared_prefix.forward(tiny.backbone, own[None], layout.position_ids, layout)
        decode = Decode(cache, layout.own, layout.valid, capacity=1)
        decode.keep(torch.tensor(rows))
        decode.advance()
        positions = torch.tensor([[8], [9]])[rows]
        results.append(shared_prefix.forward(tiny.backbone, new[rows][:, None], positions, decode)[-1])
    assert relative(results[0], results[1]) < 1e-6


SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.25,
    "head_dim": 8,
}
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}, "sdpa"),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}, "sdpa"),
    "gemma2": (
        Gemma2Config,
        Gemma2ForCausalLM,
        {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 16, "sliding_window": 64},
        "eager",
    ),
}


def both(family, own=(2, 4), head=5, **changes):
    """States by a shared prefix and by the model's own pass, for one family."""
    config, kind, fields, reference = FAMILIES[family]
    made = {
        name: random_model(config(**{**SMALL, **fields, **changes}), kind, name)
        for name in (shared_prefix.IMPLEMENTATION, reference)
    }
    tokens = torch.arange(3, 3 + head + sum(own)) % 64
    embed = made[reference].get_input_embeddings()
    layout = Packed(head, own, CPU)
    ours = shared_prefix.forward(
        made[shared_prefix.IMPLEMENTATION].base_model, embed(tokens)[None], layout.position_ids, layout
    )[0, head + layout.last]
    parts = tokens[head:].split(list(own))
    whole = [torch.cat([tokens[:head], part])[None] for part in parts]
    plain = [made[reference].base_model(input_ids=w, use_cache=False).last_hidden_state[0, -1] for w in whole]
    return ours, torch.stack(plain)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_families_with_other_attention_are_exact_too(family):
    assert relative(*both(family)) < 1e-5


def test_the_softcap_matters_in_that_test():
    capped, _ = both("gemma2")
    free, _ = both("gemma2", attn_logit_softcapping=None)
    assert relative(capped, free) > 1e-3


def test_a_prefix_beyond_a_sliding_window_is_exact_or_refused():
    try:
        ours, plain = both("mistral", own=(6, 9), head=12, sliding_window=8)
    except ModelError:
        return
    assert relative(ours, plain) < 1e-5


def test_attention_sinks_are_refused():
    config = GptOssConfig(**SMALL, num_local_experts=2, num_experts_per_tok=1, sliding_window=64)
    model = random_model(config, GptOssForCausalLM)
    layout = Packed(2, [2], CPU)
    embeddings = model.get_input_embeddings()(torch.arange(4))[None]
    with pytest.raises(ModelError, match="sinks"):
        shared_prefix.forward(model.base_model, embeddings, layout.position_ids, layout)


def test_selected_rows_may_repeat():
    key = torch.arange(4.0).view(2, 1, 2, 1)
    cache = KeyValues({0: key}, {0: key + 10}, 2)
    chosen = cache.select(torch.tensor([1, 1, 0]))
    assert chosen.keys[0][:, 0, 0, 0].tolist() == [2.0, 2.0, 0.0]
    assert chosen.values[0][0, 0, 0, 0] == 12 and chosen.length == 2
    assert cache.bytes == 2 * 4 * 4


def test_all_heads_with_keys_of_their_own_work_too():
    model = chat_model(num_key_value_heads=4)
    reference = random_model(tiny_config(len(model.tokenizer) + 5, num_key_value_heads=4), attention="sdpa")
    own = own_ids(model, SHORT, ["Hello", "a longer query"])
    ids = prefix_ids(model, SHORT)
    found = packed_states(model, own, ids, model.embed(ids.slot))
    expected = alone(reference.model, reference.get_input_embeddings(), model.embed(ids.ids), own)
    assert relative(found, expected) < 1e-5
