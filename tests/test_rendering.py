"""Renderings from chat templates of every kind, and from a file."""

import json

import pytest
from conftest import CHATML, IDENTITY, byte_tokenizer

from dro.errors import DataError, ModelError
from dro.rendering import Rendering, from_chat_template, from_file

WITH_ROLE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}"
    "{% endif %}{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (m['content'] | trim) + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
DROPS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}{% endif %}{% endfor %}"
)
LLAMA = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def derived(template, **options):
    options = {"bos_token": "<s>", "specials": ("<s>", "</s>"), **options}
    return from_chat_template(byte_tokenizer(template=template, **options), "somebody")


def test_a_template_with_a_system_role():
    rendering = derived(WITH_ROLE)
    assert rendering == Rendering(
        "<|system|>\n{system}<|end|>\n<|user|>\n{query}<|end|>\n<|assistant|>\n",
        "<|user|>\n{query}<|end|>\n<|assistant|>\n",
    )
    assert rendering.identity is None


def test_a_template_with_an_identity_of_its_own():
    rendering = derived(CHATML)
    assert rendering.identity == IDENTITY
    assert rendering.without_system == "<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n"
    assert rendering.with_system == (
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_none_and_the_templates_default_are_two_conditions(tiny):
    """The template by itself writes the identity: rendering without a system prompt is not `none`."""
    chat = tiny.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == tiny.rendering.render(IDENTITY, "Hi")
    assert chat != tiny.rendering.render(None, "Hi") and "system" not in tiny.rendering.render(None, "Hi")


def test_an_identity_behind_a_start_of_text_keeps_the_start_of_text():
    rendering = derived("{{ bos_token }}" + CHATML)
    assert rendering.identity == IDENTITY
    assert rendering.without_system == "<s><|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (GEMMA, "<s><start_of_turn>user\n{}{{query}}<end_of_turn>\n<start_of_turn>model\n"),
        (DROPS, "[INST] {}{{query}} [/INST]"),
    ],
)
def test_without_a_system_role_the_text_goes_before_the_query(template, expected):
    rendering = derived(template)
    assert rendering.with_system == expected.format("{system}\n\n").replace("{{", "{").replace("}}", "}")
    assert rendering.without_system == expected.format("").replace("{{", "{").replace("}}", "}")
    assert rendering.identity is None


def test_a_template_with_start_of_text_and_the_system_prompt_in_the_users_turn():
    assert derived(LLAMA) == Rendering(
        "<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{query} [/INST]", "<s>[INST] {query} [/INST]"
    )


@pytest.mark.parametrize("template", [WITH_ROLE, CHATML, LLAMA])
def test_the_rendering_equals_what_the_template_writes(template):
    tokenizer = byte_tokenizer(template=template, bos_token="<s>", specials=("<s>", "</s>"), eos_token="</s>")
    rendering = from_chat_template(tokenizer, "x")
    turns = [{"role": "system", "content": "Be {kind}."}, {"role": "user", "content": "What is {query}?"}]
    written = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendering.render("Be {kind}.", "What is {query}?") == written


@pytest.mark.parametrize("template", [None, ""])
def test_no_chat_template_names_the_override(template, raised):
    message = raised(lambda: derived(template), ModelError)
    assert "somebody" in message and "--rendering" in message and "with_system" in message


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('never') }}",
        "{{ messages[0]['content'] | upper }}",
        "{{ messages[0]['content'] + messages[0]['content'] }}",
        "{{ 'nothing' }}",
    ],
)
def test_a_template_whose_parts_cannot_be_told_apart_names_the_override(template, raised):
    assert "--rendering" in raised(lambda: derived(template), ModelError)


def test_a_rendering_file_is_read(tmp_path):
    path = tmp_path / "turn.json"
    fields = {"with_system": "{system}\n{query}", "without_system": "{query}", "identity": "I am."}
    path.write_text(json.dumps(fields))
    assert from_file(path) == Rendering("{system}\n{query}", "{query}", "I am.")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"with_system": "{query}{system}", "without_system": "{query}"}',
        '{"with_system": "{system}", "without_system": "{query}"}',
        '{"with_system": "{system}{query}{query}", "without_system": "{query}"}',
        '{"with_system": "{system}{query}", "without_system": "{system}{query}"}',
    ],
)
def test_a_bad_rendering_file_is_refused_with_an_example(tmp_path, content):
    path = tmp_path / "turn.json"
    path.write_text(content)
    with pytest.raises(DataError, match="with_system"):
        from_file(path)


def test_a_missing_rendering_file_is_refused(tmp_path):
    with pytest.raises(DataError):
        from_file(tmp_path / "nowhere.json")


def test_pieces_are_the_text_around_system_and_query():
    rendering = Rendering("a{system}b{query}c", "d{query}e")
    assert rendering.pieces("S") == ("a", "b", "c")
    assert rendering.pieces(None) == ("d", "", "e")
    assert rendering.render("S", "Q") == "aSbQc" and rendering.render("", "Q") == "abQc"
