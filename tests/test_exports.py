"""Every format, loaded by the ecosystem's own loaders in a process without dro: same logits, same answers."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import byte_tokenizer, chat_model, pairs, piece_tokenizer, random_model, tiny_config
from safetensors.torch import load_file, save_file
from tokenizers import Regex, pre_tokenizers

from dro import models, outline, prompts
from dro.cli import main
from dro.encoding import encoder
from dro.errors import DroError, ModelError, StoreError
from dro.exports import FORMATS, bundle, drop_in
from dro.exports.chat_template import MARK
from dro.exports.insertion import insertion, rest
from dro.generate import Decoding, answers
from dro.prompts import HUMAN, SafetyPrompt
from dro.registry import REGISTRY
from dro.states import last_token_states, prefix_ids

N_TOKENS = 20
QUERIES = pairs(10).texts
# What anybody would write, with transformers and peft alone.
LOADER = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, kind, base, queries, out, size, head, slot, text = json.loads(sys.argv[1])
soft = None
if kind == "model":
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
elif kind == "peft":
    from peft import AutoPeftModelForCausalLM
    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
else:
    from safetensors.torch import load_file
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    soft = load_file(folder + "/soft_prompt.safetensors")["soft_prompt"]
tokenizer = AutoTokenizer.from_pretrained(base if soft is not None else folder)
logits, spoken = [], []
for query in queries:
    turns = [{"role": "user", "content": query}]
    if soft is not None:
        turns.insert(0, {"role": "system", "content": text})
    asked = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    start = asked["input_ids"].shape[1]
    if soft is not None:
        rows = model.get_input_embeddings()(asked.pop("input_ids"))[0]
        rows = torch.cat([rows[:head], soft, rows[head + slot :]])[None]
        # Given embeddings, generate returns what is new alone.
        asked, start = {"inputs_embeds": rows, "attention_mask": torch.ones(rows.shape[:2])}, 0
    with torch.no_grad():
        logits.append(model(**asked).logits[0, -1, :size])
        said = model.generate(
            **asked, max_new_tokens=8, do_sample=False, eos_token_id=tokenizer.eos_token_id,
            use_cache=kind != "peft",  # as the card says
        )[0]
    spoken.append(tokenizer.decode(said[start:], skip_special_tokens=True).strip())
assert not any(name == "dro" or name.startswith("dro.") for name in sys.modules)
torch.save({"logits": torch.stack(logits), "spoken": spoken}, out)
"""


@dataclass
class Case:
    """A model on disk, as loaded, and a run of it."""

    folder: Path
    chat: models.ChatModel
    run: Path
    prompt: SafetyPrompt


def make_run(folder, chat, rows=N_TOKENS, **changes):
    vectors = np.random.default_rng(1).normal(size=(rows, chat.d_model)).astype(np.float32)
    card = {
        "format": 1, "base_model": chat.name, "revision": chat.revision, "precision": "fp32",
        "rendering": outline.template_hash(chat.rendering), "init": "short", "n_tokens": rows,
        "d_model": chat.d_model, "space": "s", "steps": 3, "chosen": 2, "config": {"lr": 0.002, "batch": 16},
    }  # fmt: skip
    prompts.save(SafetyPrompt("run", HUMAN["short"], vectors), folder, {**card, **changes})
    rates = [
        {"prompt": str(folder), "set": "validation", "class": kind, "n": 50, "refused": 40, "answered": 10,
         "broken": 0, "rate": rate, "low": rate - 0.1, "high": rate + 0.1, "judge": "phrases"}
        for kind, rate in (("harmful", 0.8), ("harmless", 0.12))
    ]  # fmt: skip
    (folder / "held_out.json").write_text(json.dumps({"results": rates, "region": {}}))
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def case(request, tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("models") / "tiny", byte_tokenizer()
    # No spare rows: a random model would speak in them, and the prompt's tokens take their place.
    config = tiny_config(len(tokenizer), tie_word_embeddings=request.param)
    random_model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    chat = models.load(str(folder), "fp32")
    run = make_run(tmp_path_factory.mktemp("runs") / "run", chat)
    return Case(folder, chat, run, prompts.resolve(str(run), chat))


@pytest.fixture(scope="module")
def out(case, tmp_path_factory):
    """Every format of the run, written by the command."""
    parent = tmp_path_factory.mktemp("out")
    for kind in FORMATS:
        assert main(["export", str(case.run), str(parent / kind), "--to", kind, *on(case), "--json"]) == 0
    return parent


def on(case):
    return ["--model", str(case.folder), "--precision", "fp32"]


def loaded_elsewhere(folder, kind, case, queries, tmp_path):
    ids = prefix_ids(case.chat, case.prompt)
    told = [str(folder), kind, str(case.folder), queries, str(tmp_path / "out.pt"), len(case.chat.tokenizer),
            len(ids.head), len(ids.slot), case.prompt.text]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", LOADER, json.dumps(told)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.load(tmp_path / "out.pt")


@pytest.mark.parametrize("kind", ["safetensors", "model", "peft"])
def test_another_process_without_dro_gives_the_same_logits_and_answers(case, out, kind, tmp_path):
    chat, prompt = case.chat, case.prompt
    found = loaded_elsewhere(out / kind, kind, case, QUERIES, tmp_path)
    states = torch.from_numpy(last_token_states(chat, prompt, QUERIES))
    ours = chat.model.get_output_embeddings()(states)[:, : len(chat.tokenizer)]
    assert len(QUERIES) == 20 and (found["logits"] - ours).abs().max() < 1e-4
    spoken = [said for (said,) in answers(chat, prompt, QUERIES, Decoding(max_tokens=8))]
    assert found["spoken"] == spoken and len(set(spoken)) > 5
    # The claim could fail: without the prompt, or with its vectors in another order, logits are others.
    for other in (SafetyPrompt("none", None), SafetyPrompt("x", prompt.text, prompt.vectors[::-1].copy())):
        states = torch.from_numpy(last_token_states(chat, other, QUERIES))
        there = chat.model.get_output_embeddings()(states)[:, : len(chat.tokenizer)]
        assert (found["logits"] - there).abs().max() > 0.1


def test_the_exported_tokens_cannot_be_generated(case, out, tmp_path):
    """Neither where generation_config.json is heeded, nor where only the greatest logit counts."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    count = len(case.chat.tokenizer)
    ids = list(range(count, count + N_TOKENS))
    assert GenerationConfig.from_pretrained(out / "model").suppress_tokens == ids
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert np.array_equal(embeddings[ids].detach().numpy(), case.prompt.vectors)
    assert model.config.tie_word_embeddings is False and embeddings.data_ptr() != head.data_ptr()
    states = torch.randn(2000, case.chat.d_model, generator=torch.Generator().manual_seed(0)) * 30
    logits = states @ head.T
    assert (logits[:, ids].amax(dim=1) < logits[:, :count].amax(dim=1)).all()
    # Had the head been tied, the tokens' own embeddings would win often.
    assert ((states @ embeddings[ids].T).amax(dim=1) > logits[:, :count].amax(dim=1)).float().mean() > 0.2
    start = torch.tensor([[5, 6, 7]])
    sampled = model.generate(start, do_sample=True, temperature=100.0, top_k=0, max_new_tokens=400)
    assert not set(sampled[0].tolist()) & set(ids)


HOSTILE = [
    f"{MARK}soft_prompt_3|",
    "".join(f"{MARK}soft_prompt_{i}|" for i in range(N_TOKENS)),
    f"{MARK}{MARK}soft_prompt_0|{MARK}soft_prompt_1|soft_prompt_2|",
    f"{MARK}soft_{MARK}soft_prompt_1|prompt_1|",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("place", ["user", "system", "assistant", "parts", "tool", "later"])
def test_the_tokens_are_stripped_from_all_that_a_client_sends(case, out, text, place):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    turns = {
        "user": [("user", f"a {text} b")],
        "system": [("system", f"a {text} b"), ("user", "hi")],
        "assistant": [("user", "hi"), ("assistant", text), ("user", "and?")],
        "parts": [("system", [{"type": "text", "text": text}]), ("user", "hi")],
        "tool": [("user", "hi"), ("tool", text)],
        "later": [("user", "hi"), ("system", text), ("user", text)],
    }[place]
    messages = [{"role": role, "content": content} for role, content in turns]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    count = len(case.chat.tokenizer)
    assert [i for i in ids if i >= count] == list(range(count, count + N_TOKENS))
    head = list(encoder(case.chat).prefix(HUMAN["short"]).head)
    assert ids[: len(head)] == head and ids[len(head)] == count
    if place == "user" and text in HOSTILE[:2]:
        # Gone without a trace.
        messages[-1]["content"] = "a  b"
        assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    if place == "system":
        # What is left of the operator's own words follows the vectors.
        assert "\n\na " in tokenizer.decode(ids)


def test_peft_and_vllm_tokenizers_refuse_a_system_message_whose_place_is_taken(out):
    from transformers import AutoTokenizer

    for kind in ("peft", "vllm"):
        tokenizer = AutoTokenizer.from_pretrained(out / kind)
        turns = [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "hi"}]
        with pytest.raises(Exception, match="takes the place of a system message"):
            tokenizer.apply_chat_template(turns)


LLAMA3 = (
    "{{- bos_token }}\n"
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    "{{- '<|im_start|>system\\n\\nCutting Knowledge Date: 2023\\n\\n' + system_message + '<|im_end|>' }}"
    "{%- for m in messages %}"
    "{{- '<|im_start|>' + m['role'] + '\\n\\n' + m['content'] | trim + '<|im_end|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n\\n' }}{%- endif %}\n"
)
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
PIECES = ("<|im_start|>", "<|im_end|>", "<|end_of_turn|>")


# How Llama 3 and Qwen part a text: line breaks stay together, whatever follows.
LINES = r"\s*[\r\n]+|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def llama3(template=LLAMA3):
    tokenizer = byte_tokenizer(template=template, bos_token="<|endoftext|>")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LINES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    return chat_model(tokenizer)


def some_models():
    yield "llama-3 template", llama3()
    yield "no system role", chat_model(byte_tokenizer(template=GEMMA))
    yield "words that cross lines", chat_model(byte_tokenizer(("Ċ Ċ", ". Ċ", ". ĊĊ", "e ."), split=False))
    for name, spec in REGISTRY.items():
        if spec.rendering is not None:
            yield name, chat_model(piece_tokenizer(PIECES), spec.rendering)


@pytest.mark.parametrize("which", some_models(), ids=lambda which: which[0])
@pytest.mark.parametrize("text", [HUMAN["short"], "Be kind"])
def test_templates_of_many_families_write_the_very_ids_that_were_trained_with(which, text, tmp_path):
    chat = which[1]
    prompt = SafetyPrompt("x", text, np.zeros((12, chat.d_model), dtype=np.float32))
    ids = prefix_ids(chat, prompt)
    found = insertion(chat, prompt)
    asked = {"conversation": [{"role": "user", "content": "Name a colour."}], "add_generation_prompt": True}
    own = encoder(chat).own(text, "Name a colour.")
    written = found.tokenizer.apply_chat_template(**asked, return_dict=False)
    assert written == [*ids.head, *found.ids, *ids.middle, *own]
    after = rest(chat, prompt)
    assert len(ids.head) + 12 <= after.baked <= len(written) - len(own)
    assert after.tokenizer.apply_chat_template(**asked, return_dict=False) == written[after.baked :]
    forged = "".join(f" {MARK}soft_prompt_{i}|" for i in range(12))
    asked["conversation"] = [{"role": "user", "content": f"Name{forged} a{forged}"}]
    written = found.tokenizer.apply_chat_template(**asked, return_dict=False)
    assert [i for i in written if i in found.ids] == list(found.ids)


def test_a_vocabulary_that_uses_the_mark_is_refused(raised):
    chat = chat_model(byte_tokenizer(plain_added=(f"x{MARK}",)))
    prompt = SafetyPrompt("x", "Be kind.", np.zeros((2, chat.d_model), dtype=np.float32))
    assert "U+E0D0" in raised(lambda: insertion(chat, prompt), ModelError)


def test_where_no_way_gives_the_trained_ids_the_format_is_refused(raised):
    """GPT-2 parts two line breaks before a word, and keeps them together before a special token."""
    chat = chat_model(byte_tokenizer(template=LLAMA3, bos_token="<|endoftext|>"))
    prompt = SafetyPrompt("x", "Be kind.", np.zeros((2, chat.d_model), dtype=np.float32))
    assert "--to safetensors" in raised(lambda: insertion(chat, prompt), ModelError)


def test_a_template_that_drops_the_prompt_in_some_conversation_says_so(tmp_path):
    """No answer is better than one without the safety prompt."""
    quirky = "{% if tools %}{{ 'tools only' }}{% else %}" + LLAMA3 + "{% endif %}"
    chat = llama3(quirky)
    prompt = SafetyPrompt("x", "Be kind.", np.zeros((2, chat.d_model), dtype=np.float32))
    tokenizer = insertion(chat, prompt).tokenizer
    with pytest.raises(Exception, match="found no place"):
        tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tools=[{"name": "t"}])


def test_rows_that_a_family_multiplies_are_divided(tmp_path):
    from conftest import random_model
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = byte_tokenizer()
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
        initializer_range=0.25, sliding_window=512,
    )  # fmt: skip
    random_model(config, Gemma3ForCausalLM).save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    chat = models.load(str(tmp_path / "gemma"), "fp32")
    assert chat.model.config.tie_word_embeddings
    prompt = prompts.resolve(str(make_run(tmp_path / "run", chat)), chat)
    drop_in.write(chat, prompt, tmp_path / "out")
    case = Case(tmp_path / "gemma", chat, tmp_path / "run", prompt)
    found = loaded_elsewhere(tmp_path / "out", "model", case, QUERIES[:4], tmp_path)
    states = torch.from_numpy(last_token_states(chat, prompt, QUERIES[:4]))
    ours = chat.model.get_output_embeddings()(states)[:, : len(tokenizer)]
    assert (found["logits"] - ours).abs().max() < 1e-4


# Files


def test_the_plain_export_comes_back_bit_by_bit(case, out, tmp_path, capsys):
    assert main(["import", str(out / "safetensors"), "--out", str(tmp_path / "back"), *on(case)[:2]]) == 0
    back = prompts.resolve(str(tmp_path / "back"), case.chat)
    assert np.array_equal(back.vectors, case.prompt.vectors) and back.text == case.prompt.text
    assert "warning" not in capsys.readouterr().err
    assert bundle.read(tmp_path / "back").rates == bundle.read(case.run).rates != ()
    # Every format carries the vectors, so each can be imported.
    for kind in FORMATS:
        assert bundle.read(out / kind).prompt.digest == case.prompt.digest


@pytest.mark.parametrize("kind", FORMATS)
def test_the_readme_is_a_model_card(out, kind):
    text = (out / kind / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["license"] == "other" and told["pipeline_tag"] == "text-generation"
    assert "| run | validation | harmful | 50 | 80.0% | [70.0%, 90.0%] | phrases |" in body
    for heading in ("Use", "Training", "Evaluation", "Intended use", "Limits"):
        assert f"\n## {heading}\n" in body
    assert "20 continuous vectors of width 32" in body and "| lr | 0.002 |" in body
    assert str(out) not in text.replace(f"vllm serve {out}", "") and "{" not in body.split("```")[0]


def test_a_card_escapes_what_others_wrote(tiny_folder, tmp_path):
    chat = models.load(str(tiny_folder), "fp32")
    run = make_run(tmp_path / "run", chat, init="a | b\n# <script>`x`")
    assert main(["export", str(run), str(tmp_path / "out"), "--model", str(tiny_folder)]) == 0
    body = (tmp_path / "out" / "README.md").read_text()
    assert "<script>" not in body and "\n# " not in body.split("---\n", 2)[2].replace("# Safety", "", 1)
    assert "a \\| b # &lt;script>'x'" in body


def test_more_evaluations_go_onto_the_card(case, tmp_path):
    rows = [{"prompt": p, "set": "test", "class": "harmful", "n": 9, "rate": 0.5, "low": 0.2, "high": 0.8,
             "judge": "phrases"} for p in ("short", str(case.run))]  # fmt: skip
    (tmp_path / "more.json").write_text(json.dumps({"results": rows}))
    argv = ["export", str(case.run), str(tmp_path / "out"), *on(case)[:2], "--evaluation"]
    assert main([*argv, str(tmp_path / "more.json")]) == 0
    assert (tmp_path / "out" / "README.md").read_text().count("| test | harmful | 9 | 50.0% |") == 2
    (tmp_path / "bad.json").write_text('{"results": [{"prompt": 3}]}')
    assert main([*argv, str(tmp_path / "bad.json")]) == 1


def test_a_folder_with_files_in_it_is_left_alone(case, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    assert main(["export", str(case.run), str(tmp_path / "out"), *on(case)[:2]]) == 1
    assert "other files" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failed_export_leaves_nothing(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(drop_in, "write", lambda *_: (_ for _ in ()).throw(ModelError("no.", "way.")))
    assert main(["export", str(case.run), str(tmp_path / "out"), "--to", "model", *on(case)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_told(case, tmp_path, capsys):
    argv = ["export", str(case.run), str(tmp_path / "out"), *on(case)[:2]]
    for more, said in [
        (["--to", "gguf"], "safetensors, model, peft, vllm"),
        (["--push", "a b"], "ORG/NAME"),
        (["--push", "a/b/c"], "ORG/NAME"),
    ]:
        assert main([*argv, *more]) == 1
        assert said in capsys.readouterr().err
    assert main(["export", "short", str(tmp_path / "out"), *on(case)[:2]]) == 1
    argv[1] = str(tmp_path)
    assert main(argv) == 1 and "Resume" in capsys.readouterr().err


# What is refused


def imported(source, tmp_path, *more):
    return main(["import", str(source), "--out", str(tmp_path / "in"), *more])


def test_the_papers_layout_is_taken_for_a_7b_model_and_refused_for_the_default(tmp_path, capsys, monkeypatch):
    """One bf16 tensor of 116 × 4096 and nothing else, as the authors share their prompts."""
    tensor = torch.randn(116, 4096).to(torch.bfloat16)
    save_file({"soft_prompt": tensor}, tmp_path / "llama.safetensors")
    assert (
        imported(tmp_path / "llama.safetensors", tmp_path, "--model", "llama-2-7b", "--init", "default") == 0
    )
    assert "Nothing but the width" in capsys.readouterr().err
    found = bundle.read(tmp_path / "in")
    assert np.array_equal(found.prompt.vectors, tensor.float().numpy()) and found.shape == (116, 4096)
    assert found.prompt.text == HUMAN["default"] and found.card["base_model"] == "llama-2-7b"
    known = outline.Outline("qwen2.5-coder-0.5b", "r", 896, REGISTRY["llama-2-7b"].rendering, "x")
    monkeypatch.setattr(outline, "of_name", lambda *_: known)
    capsys.readouterr()
    assert main(["import", str(tmp_path / "llama.safetensors"), "--out", str(tmp_path / "no")]) == 1
    said = capsys.readouterr().err
    assert "4096" in said and "896" in said and not (tmp_path / "no").exists()


@pytest.fixture
def plain_case(tiny_folder, tmp_path):
    chat = models.load(str(tiny_folder), "fp32")
    return Case(tiny_folder, chat, tmp_path / "run", SafetyPrompt("x", None))


@pytest.mark.parametrize(
    ("change", "both"),
    [
        ({"base_model": "another"}, ("another", "tiny")),
        ({"rendering": "feedfeedfeedfeed"}, ("feedfeedfeedfeed", "template")),
        ({"revision": "f" * 64}, ("f" * 64, "--force")),
        ({"digest": "0" * 16}, ("0" * 16, "hash")),
        ({"base_model": ["x"]}, ("x", "tiny")),
    ],
)
def test_another_model_template_revision_or_content_is_refused_and_both_are_named(
    plain_case, change, both, tmp_path, capsys
):
    make_run(tmp_path / "run", plain_case.chat, **change)
    for argv in (
        ["import", str(tmp_path / "run"), "--out", str(tmp_path / "in")],
        ["export", str(tmp_path / "run"), str(tmp_path / "in")],
    ):
        assert main([*argv, "--model", str(plain_case.folder)]) == 1
        said = capsys.readouterr().err
        assert all(one in said for one in both)
        forced = main([*argv, "--model", str(plain_case.folder), "--force"])
        assert (forced == 0) == ("revision" in change)
        if forced == 0:
            assert "warning: " in (said := capsys.readouterr().err) and "f" * 64 in said
            (tmp_path / "in").rename(tmp_path / f"was-{argv[0]}")


def hostile_files():
    good = {"soft_prompt": {"dtype": "F32", "shape": [3, 32], "data_offsets": [0, 384]}}

    def file(header, data=b"\0" * 384, length=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return (length if length is not None else len(text)).to_bytes(8, "little") + text + data

    one = good["soft_prompt"]
    yield "a larger shape than its data", file({"soft_prompt": {**one, "shape": [3_000_000, 32]}})
    yield "offsets beyond the end", file({"soft_prompt": {**one, "shape": [6, 32], "data_offsets": [0, 768]}})
    yield "offsets that overflow", file({"soft_prompt": {**one, "data_offsets": [0, 2**64 - 1]}})
    yield "a shape that overflows", file({"soft_prompt": {**one, "shape": [2**33, 2**33]}})
    yield "negative offsets", file({"soft_prompt": {**one, "data_offsets": [-8, 376]}})
    yield "a header longer than the file", file(good, length=1 << 40)
    yield "no json", file(b"{" * 64)
    yield "a hole in its data", file(good, b"\0" * 800)
    yield "whole numbers", file({"soft_prompt": {**one, "dtype": "I32"}})
    yield "no rows", file({"soft_prompt": {"dtype": "F32", "shape": [0, 32], "data_offsets": [0, 0]}}, b"")
    yield "not a number", file(good, np.full(96, np.nan, np.float32).tobytes())
    yield "infinity", file(good, np.full(96, -np.inf, np.float32).tobytes())
    yield "another width", file({"soft_prompt": {**one, "shape": [6, 16]}})
    yield "too many rows", file({"soft_prompt": {**one, "dtype": "F16", "shape": [2049, 32],
                                 "data_offsets": [0, 131136]}}, b"\0" * 131136)  # fmt: skip
    yield "a pickle", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94."


@pytest.mark.parametrize("content", hostile_files(), ids=lambda file: file[0])
def test_hostile_files_are_refused_in_a_sentence(plain_case, content, tmp_path, capsys):
    (tmp_path / "bad.safetensors").write_bytes(content[1])
    assert imported(tmp_path / "bad.safetensors", tmp_path, "--model", str(plain_case.folder)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said and not (tmp_path / "in").exists()


def test_a_prompt_without_a_card_is_exported_only_once_it_was_imported(plain_case, tmp_path, capsys):
    save_file({"soft_prompt": torch.randn(3, 32)}, tmp_path / "theirs.safetensors")
    argv = ["export", str(tmp_path / "theirs.safetensors"), str(tmp_path / "out")]
    assert main([*argv, "--model", str(plain_case.folder)]) == 1
    assert "import" in capsys.readouterr().err
    assert imported(tmp_path / "theirs.safetensors", tmp_path, "--model", str(plain_case.folder)) == 0
    argv[1] = str(tmp_path / "in")
    assert main([*argv, "--model", str(plain_case.folder), "--to", "model"]) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.safetensors")] == ["model.safetensors"]
    inner = tmp_path / "out" / "soft_prompt" / "soft_prompt.safetensors"
    assert load_file(inner)["soft_prompt"].shape == (3, 32)
    assert "Not known" in (tmp_path / "out" / "README.md").read_text()


def test_weights_in_4bit_are_not_written(tiny, tmp_path):
    from dataclasses import replace

    prompt = SafetyPrompt("x", "Be kind.", np.zeros((2, tiny.d_model), dtype=np.float32))
    with pytest.raises(DroError, match="4bit"):
        drop_in.write(replace(tiny, precision="4bit"), prompt, tmp_path)


def test_the_model_that_was_exported_is_as_it_was(tiny, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    count, template = len(tiny.tokenizer), tiny.tokenizer.chat_template
    prompt = SafetyPrompt("x", "Be kind.", np.ones((2, tiny.d_model), dtype=np.float32))
    drop_in.write(tiny, prompt, tmp_path)
    assert all(torch.equal(before[name], now) for name, now in tiny.model.state_dict().items())
    assert len(tiny.tokenizer) == count and tiny.tokenizer.chat_template == template


def test_a_damaged_report_is_named(case, tmp_path):
    make_run(tmp_path / "run", case.chat)
    (tmp_path / "run" / "held_out.json").write_text('{"results": 3}')
    with pytest.raises(StoreError, match=r"held_out\.json"):
        bundle.read(tmp_path / "run")
