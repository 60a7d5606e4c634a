"""The benchmark: its inputs, floors and comparisons are right; both ways of every path agree."""

import json

import numpy as np
import pytest
import torch
from conftest import chat_model

from dro import data, shapes
from dro.bench import (
    ceilings,
    floors,
    growth,
    inputs,
    measure,
    paths,
    plain,
    report,
    run,
    sameness,
    shape_pass,
    start,
)
from dro.bench.ceilings import Ceilings
from dro.bench.paths import Sizes
from dro.bench.run import Row
from dro.cli import main
from dro.errors import DataError, DroError
from dro.prompts import resolve
from dro.states import last_token_states, own_ids, packed_states, prefix_ids

CPU = torch.device("cpu")
OWN = 60
SMALL = Sizes(queries=6, alone=8, own=OWN, answers=5, tokens=4, prompt=9, sample=2)
"""Few and short; a query is long in bytes."""
FAST = Ceilings(1e9, 1e9, 1e9)


# Inputs


def test_queries_have_exactly_their_length_under_every_prompt(tiny):
    prompts = [resolve(name, tiny) for name in paths.PROMPTS]
    found = inputs.queries(tiny, prompts, 6, OWN)
    assert len(set(found)) == 6
    for prompt in prompts:
        assert {len(own) for own in own_ids(tiny, prompt, found)} == {OWN}


def test_no_bench_query_is_in_a_query_set(tiny):
    known = {q.casefold() for name in data.BUNDLED for q in data.bundled(name).texts}
    assert not known & {q.casefold() for q in inputs.queries(tiny, [resolve("none", tiny)], 20, OWN)}


def test_a_length_that_cannot_be_made_is_told(tiny, raised):
    assert "of 3 own tokens" in raised(lambda: inputs.queries(tiny, [resolve("none", tiny)], 5, 3), DataError)


@pytest.mark.parametrize("tokens", [1, 22, 1000])
def test_prompts_have_exactly_their_length(tiny, tokens):
    assert inputs.prompt(tiny, tokens).vectors.shape == (tokens, tiny.d_model)


# Floors


def test_the_cost_of_a_model_is_that_of_its_matrices(tiny):
    cost = floors.cost(tiny)
    layer = tiny.model.model.layers[0]
    expected = sum(m.weight.numel() for m in layer.modules() if isinstance(m, torch.nn.Linear))
    assert cost.layer == expected and cost.layers == 2
    assert cost.kv == 2 * 16 * 32 and cost.head == tiny.model.lm_head.weight.numel()
    assert cost.weight_bytes == 4 * 2 * expected and cost.pair == 4 * 32


def test_operations_equal_what_torch_counts(tiny):
    """Of a pass in which every token is read out, against torch's own counter of operations."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    tokens = 40
    embeddings = torch.randn(1, tokens, tiny.d_model)
    # By products that torch counts; its fused attention on CPUs is not among them.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        tiny.backbone(inputs_embeds=embeddings, use_cache=False)
    products = floors.cost(tiny).forward(tokens, 0, tokens)[0]
    attention = floors.cost(tiny).forward(tokens, tokens * tokens, tokens)[0] - products
    assert counter.get_total_flops() == products + attention


def test_a_token_that_nobody_reads_costs_keys_and_values_in_the_last_layer(tiny):
    cost = floors.cost(tiny)
    read, unread = cost.forward(10, 0, 10)[0], cost.forward(10, 0, 0)[0]
    assert read - unread == 2 * 10 * (cost.layer - cost.kv)


def test_the_floor_is_the_larger_of_operations_and_bytes():
    assert floors.seconds([(2e9, 5e8), (1e9, 3e9)], FAST, torch.bfloat16) == 2 + 3


def test_pairs_of_own_tokens():
    assert floors.pairs(0, [4]) == 10 and floors.pairs(5, [1, 2]) == 6 + 10 + 3


def test_ceilings_are_positive_and_by_dtype():
    found = Ceilings(ceilings.products(torch.bfloat16, CPU), 2.0, 3.0)
    assert found.bf16_flops > 0 and found.flops(torch.float32) == 2.0
    assert found.flops(torch.bfloat16) == found.bf16_flops and ceilings.reading(CPU) > 0


# The plain way, and sameness


def test_the_plain_way_alone_and_padded_give_the_shared_prefixs_states(tiny):
    prompt = inputs.prompt(tiny, 5)
    texts = ["Hello", "a longer query", "How do I fold a map?"]
    whole = paths.wholes(tiny, prompt, texts)
    ours = torch.from_numpy(last_token_states(tiny, prompt, texts))
    for found in (plain.alone(tiny, whole), plain.padded(tiny, whole).detach()):
        assert sameness.states(found, ours, tiny) and not sameness.states(found.flip(0), ours, tiny)


def test_the_plain_way_computes_logits_of_every_token(tiny):
    shapes = []
    hook = tiny.model.lm_head.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[:2])))
    plain.padded(tiny, paths.wholes(tiny, inputs.prompt(tiny, 5), ["Hello", "a longer query"]))
    hook.remove()
    assert shapes == [
        (2, max(len(w) for w in paths.wholes(tiny, inputs.prompt(tiny, 5), ["a longer query"])))
    ]


def test_gradients_that_differ_are_seen(tiny):
    one = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    assert sameness.gradients(one, one * (1 + 1e-5), tiny)
    assert not sameness.gradients(one, one * 1.1, tiny)
    assert not sameness.gradients(one, -one, tiny) and not sameness.gradients(one * 0, one * 0, tiny)


def test_answers_that_part_anywhere_but_at_a_tie_are_seen(tiny):
    whole = paths.wholes(tiny, inputs.prompt(tiny, 5), ["Hello"])[0]
    ids = plain.answers(tiny, [whole], 4)[0]
    said = tiny.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert sameness.answer(tiny, whole, said, ids)
    other = plain.next_logits(tiny, whole).topk(2).indices.tolist()[1]
    parted = tiny.tokenizer.decode([other], skip_special_tokens=True).strip()
    assert not sameness.answer(tiny, whole, parted + "x", ids)


def test_answers_that_part_at_a_tie_are_the_same(tiny, monkeypatch):
    whole = paths.wholes(tiny, inputs.prompt(tiny, 5), ["Hello"])[0]
    one, two = tiny.tokenizer("a").input_ids[0], tiny.tokenizer("b").input_ids[0]
    logits = torch.zeros(len(tiny.tokenizer))
    logits[one], logits[two] = 9.0, 9.0 - 1e-4
    monkeypatch.setattr(plain, "next_logits", lambda *_: logits)
    assert sameness.answer(tiny, whole, "bcd", [one, one])
    logits[two] = 8.0
    assert not sameness.answer(tiny, whole, "bcd", [one, one])


# Paths and rows


@pytest.mark.parametrize("name", ["states", "query", "step_22x16", "answers", "first_token"])
def test_both_ways_of_a_path_agree_and_are_measured(tiny, name, monkeypatch):
    monkeypatch.setattr(measure, "_SECONDS", 0.0)
    each = paths.path(name, tiny, SMALL)
    row = run.one(each, tiny, FAST)
    assert row.name == name and row.same_result and row.ratio > 0 and row.floor_s > 0
    assert row.ours_s == pytest.approx(np.median(row.ours_s)) and len(row.spread) == 4
    assert row.spread[0] <= row.ours_s <= row.spread[1]
    assert row.over_floor == row.ours_s / row.floor_s


def test_a_path_whose_ways_disagree_is_not_timed(tiny, monkeypatch, raised):
    each = paths.path("query", tiny, SMALL)
    wrong = each.small[0], lambda: each.small[1]().flip(0)
    monkeypatch.setattr(measure, "in_turn", None)
    broken = paths.Path(**{**each.__dict__, "small": wrong})
    assert "query" in raised(lambda: run.one(broken, tiny, FAST), DataError)


def test_the_states_that_are_compared_belong_to_the_same_inputs(tiny):
    each = paths.path("states", tiny, SMALL)
    ours, theirs = each.ours(), each.plain()
    assert len(ours) == 24 and len(theirs) == 8 and each.scale == 3.0
    assert each.same(ours, theirs) and not each.same(ours.flip(0), theirs)


def test_a_steps_gradient_is_that_of_the_whole_batch(tiny):
    each = paths.path("step_22x16", tiny, SMALL)
    whole, few = each.ours(), each.small[0]()
    assert whole.shape == few.shape == (22, tiny.d_model) and not torch.allclose(whole, few)


def test_ways_are_timed_in_turn():
    order = []
    timings, results = measure.in_turn([lambda: order.append("a") or 1, lambda: order.append("b") or 2], CPU)
    assert order[:4] == ["a", "b", "a", "b"] and results == [1, 2]
    assert len(timings[0].seconds) == len(timings[1].seconds) >= 3
    assert timings[0].spread[0] <= timings[0].median <= timings[0].spread[1]


def test_names_are_checked_and_ordered(raised):
    assert run.check([]) == run.NAMES
    assert run.check(["answers", "states"]) == ("states", "answers")
    assert "step_22x16" in raised(lambda: run.check(["nothing"]), DataError)


JSON_KEYS = ["name", "ours_s", "plain_s", "ratio", "floor_s", "over_floor", "ours_peak_mb",
             "plain_peak_mb", "same_result"]  # fmt: skip


def test_the_command_prints_the_agreed_json(tiny, monkeypatch, capsys):
    real = run.run
    monkeypatch.setattr(run, "run", lambda names, load, progress: real(names, lambda: tiny, SMALL, progress))
    assert main(["bench", "--only", "query", "--only", "first_token", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["ceilings", "paths"]
    assert [list(path) for path in told["paths"]] == [JSON_KEYS] * 2
    assert [path["name"] for path in told["paths"]] == ["query", "first_token"]
    assert all(path["same_result"] is True for path in told["paths"])
    assert told["ceilings"]["bf16_gflops"] > 0 and set(told["ceilings"]["spread"]) == {"query", "first_token"}


def test_the_table_has_a_column_for_every_cell():
    row = Row("query", 0.2, 0.8, 0.1, 10.0, 20.0, True, (0.1, 0.3, 0.7, 0.9))
    cells = report.cells(row)
    assert len(cells) == len(report.COLUMNS)
    assert cells[0] == "query" and "4×" in cells and "2×" in cells and cells[-1] == "yes"
    assert report.cells(Row("start_warm", 5.0))[3:8] == ["–"] * 5


def test_a_start_has_no_plain_way(monkeypatch):
    known = start.Start(5.0, (4.0, 6.0), 300_000_000, 3.0, "served")
    monkeypatch.setattr(start, "measure", lambda name: known)
    machine, rows = run.run(["start_warm", "start_cold"], None)
    assert [r.as_dict()["plain_s"] for r in rows] == [None, None] and rows[0].ours_peak_mb == 300
    assert machine["import_gradio_s"] == 3.0 and machine["start_drawn"] == "served"


def test_without_the_app_its_start_is_refused(monkeypatch, raised, tmp_path):
    monkeypatch.setattr(start, "_APP", tmp_path / "app.py")
    assert "app.py is not there" in raised(lambda: start.measure("start_warm"), DroError)


def test_cuda_without_a_gpu_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "--only", "query", "--device", "cuda"]) == 1
    assert "no CUDA device" in capsys.readouterr().err


# Growth


def test_a_fitted_slope_is_that_of_the_points():
    work = (1e9, 1e10, 1e11)
    found = growth.Growth("batch", "step", ("1", "2", "3"), work, tuple(3e-12 * w**1.1 for w in work))
    assert found.fit[0] == pytest.approx(1.1)
    drawn = growth.figure([found])
    assert drawn.startswith("<svg") and drawn.count("<circle") == 3 and "slope 1.10" in drawn


def test_growth_counts_the_operations_of_its_calls(tiny, monkeypatch):
    monkeypatch.setattr(growth, "ANCHORS", (2, 4))
    monkeypatch.setattr(growth, "PROMPTS", (5, 9))
    monkeypatch.setattr(growth, "BATCHES", (2, 4))
    monkeypatch.setattr(growth, "_over_models", lambda *_: None)
    *found, models = growth.run(tiny, "fp32", SMALL)
    assert models is None and [g.over for g in found] == ["anchors", "prompt tokens", "batch"]
    for each in found:
        assert each.operations == tuple(sorted(each.operations)) and len(each.seconds) == 2


def test_the_floor_of_a_step_is_what_torch_counts_at_least(tiny):
    """The counted operations are no more than what is really computed, and most of it."""
    from torch.utils.flop_counter import FlopCounterMode

    model = chat_model(num_hidden_layers=8)  # of the last layer hardly anything is counted
    start_prompt = inputs.prompt(model, 22)
    own = own_ids(model, start_prompt, inputs.queries(model, [start_prompt], 8, OWN))
    vectors = torch.from_numpy(start_prompt.vectors).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        packed_states(model, own, prefix_ids(model, start_prompt), vectors).sum().backward()
    counted = sum(c[0] for c in paths.path("step_22x8", model, SMALL).floor(None))
    assert 0.3 * counter.get_total_flops() < counted < counter.get_total_flops()


SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 4096}  # fmt: skip


def test_growth_over_models_builds_every_depth(monkeypatch):
    monkeypatch.setattr(growth, "LAYERS_OF", {"qwen-0.5b": (2, 4)})
    monkeypatch.setattr(growth, "_TRIALS", 1)
    found = growth._over_models("fp32", Sizes(), CPU)
    assert found.values == ("qwen-0.5b × 2 layers", "qwen-0.5b × 4 layers")
    assert found.operations[1] / found.operations[0] == pytest.approx(2.0)


def test_a_shapes_pass_tells_the_gradient_and_the_peak():
    machine, rows = shape_pass.run(lambda: shapes.build("llama-2-7b", "fp32", **SHAPE))
    assert [row.name for row in rows] == ["load", "states", "steps", "answer"]
    assert all(row.same_result for row in rows[1:]) and all(row.floor_s > 0 for row in rows[1:])
    assert report.title(machine).startswith("random-llama-2-7b in fp32 on cpu")
    assert json.loads(json.dumps(report.as_json(machine, rows)))["paths"][3]["name"] == "answer"


def test_a_shape_without_a_gradient_is_refused(raised, monkeypatch):
    real = shape_pass.step

    def without(*given):
        made = real(*given)
        return paths.Path(**{**made.__dict__, "ours": lambda: made.ours() * 0})

    monkeypatch.setattr(shape_pass, "step", without)
    told = raised(lambda: shape_pass.run(lambda: shapes.build("llama-2-7b", "fp32", **SHAPE)), DroError)
    assert "steps gives nothing usable" in told


def test_a_gpu_is_timed_by_its_own_clock_and_mark(monkeypatch):
    """With torch.cuda in our hands: what is asked of it, and what is made of its answers."""
    asked = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            asked.append("record")

        def elapsed_time(self, last):
            asked.append("elapsed")
            return 250.0

    for name, answer in {"synchronize": None, "empty_cache": None, "reset_peak_memory_stats": None,
                         "memory_allocated": 100, "max_memory_allocated": 700}.items():  # fmt: skip
        monkeypatch.setattr(
            torch.cuda, name, lambda *_, name=name, answer=answer: asked.append(name) or answer
        )
    monkeypatch.setattr(torch.cuda, "Event", Event)
    result, seconds, peak = measure.once(lambda: asked.append("call") or 3, torch.device("cuda"))
    assert (result, seconds, peak) == (3, 0.25, 600)
    assert asked.index("record") < asked.index("call") < asked.index("elapsed")
    after = asked[asked.index("call") :]
    assert after.index("synchronize") < after.index("elapsed")
    assert asked.index("reset_peak_memory_stats") < asked.index("call")


def test_the_command_draws_growth(tiny, monkeypatch, capsys, tmp_path):
    work = (1e9, 1e10)
    known = [growth.Growth("batch", "step", ("8", "16"), work, (0.1, 1.0))]
    monkeypatch.setattr(growth, "run", lambda *_, **__: known)
    monkeypatch.setattr("dro.cli.benching.load", lambda *_: tiny)
    file = tmp_path / "growth.svg"
    assert main(["bench", "--growth", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["growth"][0]["slope"] == pytest.approx(1.0) and file.read_text().count("<circle") == 2
    assert main(["bench", "--growth", str(file), "--only", "query"]) == 1


def test_the_command_passes_a_shape_once(monkeypatch, capsys):
    real = shapes.build
    monkeypatch.setattr(shapes, "build", lambda name, *_: real(name, "fp32", **SHAPE))
    assert main(["bench", "--shape", "llama-2-7b", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in told["paths"]] == ["load", "states", "steps", "answer"]
    assert told["paths"][2]["same_result"] is True
