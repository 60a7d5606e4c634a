"""Chat templates that write a run of tokens where the safety prompt stands, and strip it elsewhere.

Every token of the run begins with a private-use character, MARK. The new template renders the model's own
with the run in the system message, finds it again, and strips tokens and MARK from all else: whatever a
client sends, the run occurs once and whole, and no remainder can be put together to one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dro.models import ChatModel
from dro.rendering import Rendering

MARK = "\ue0d0"

# What stands around the model's own template. Set blocks give back the text that was written within; the
# empty strings beside it keep jinja from trimming what it begins and ends with.
_BEFORE = """\
{%- set dro_prompt = RUN -%}
{%- set dro_own = '' -%}
{%- if messages and messages[0]['role'] in ['system', 'developer'] -%}
{%- set dro_own = messages[0]['content'] or '' -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
{%- if dro_own is not string -%}
{%- set dro_own = dro_own | map(attribute='text') | join('\\n') -%}
{%- endif -%}
{%- set dro_head = dro_prompt ~ ('\\n\\n' ~ dro_own if dro_own else '') -%}
"""
_AS_SYSTEM = "{%- set messages = [{'role': 'system', 'content': dro_head}] + messages -%}\n"
_IN_USER = """\
{%- if messages and messages[0]['role'] == 'user' -%}
{%- set dro_said = messages[0]['content'] -%}
{%- if dro_said is not string -%}
{%- set dro_said = dro_said | map(attribute='text') | join('\\n') -%}
{%- endif -%}
{%- set messages = [dict(messages[0], content=dro_head ~ '\\n\\n' ~ dro_said)] + messages[1:] -%}
{%- endif -%}
"""
_AROUND = """\
{%- set dro_written -%}{{ '' }}TEMPLATE{{ '' }}{%- endset -%}
{%- if dro_prompt not in dro_written -%}
{{- raise_exception('The safety prompt found no place in this conversation.') -}}
{%- endif -%}
{%- set dro_parts = dro_written.split(dro_prompt, 1) -%}
"""
# What a template writes in the end: all of it, or only what follows the run. The cuts are characters
# that a token at the run's edge takes in.
WHOLE = """\
{%- macro dro_plain(text) -%}
{%- set dro = namespace(text=text) -%}
{%- if MARK in text -%}
{%- for i in range(COUNT) -%}
{%- set dro.text = dro.text | replace(MARK ~ 'soft_prompt_' ~ i ~ '|', '') -%}
{%- endfor -%}
{%- endif -%}
{{- dro.text | replace(MARK, '') -}}
{%- endmacro -%}
{{- dro_plain(dro_parts[0][:(dro_parts[0] | length) - HEAD_CUT]) ~ dro_prompt
~ dro_plain(dro_parts[1][(0 if dro_own else MIDDLE_CUT):]) -}}
"""
REST = """\
{%- if dro_own -%}
{{- raise_exception('The safety prompt takes the place of a system message here; send none.') -}}
{%- endif -%}
{{- dro_parts[1][MIDDLE_CUT:] | replace(MARK, '') -}}
"""


def templates(model: ChatModel) -> Iterator[tuple[bool, str]]:
    """(whether it is the model's own with a system message, all of a template but what it writes)."""
    own = model.tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    if own:
        yield True, _BEFORE + _AS_SYSTEM + _around(own)
        yield False, _BEFORE + _IN_USER + _around(own)
    stated = _from_rendering(model.rendering, model.tokenizer.bos_token, model.tokenizer.eos_token)
    yield False, _BEFORE + _AS_SYSTEM + _around(stated)


def written(template: str, run: str) -> str:
    """A template of `templates` with its run of tokens."""
    # Once, at the head: what follows is the model's own text.
    return template.replace("RUN", json.dumps(run), 1)


def _around(template: str) -> str:
    # jinja drops one line break at a template's end; within a block it would be kept.
    inner = template.removesuffix("\n")
    return filled(_AROUND).replace("TEMPLATE", inner, 1)


def _from_rendering(rendering: Rendering, bos: str | None, eos: str | None) -> str:
    """A chat template out of a rendering; later turns are the turn without a system segment."""
    head, middle, tail = (json.dumps(piece) for piece in rendering.pieces(""))
    before, _, after = rendering.pieces(None)
    again = before.removeprefix(bos) if bos else before
    first = f"{head} ~ messages[0]['content'] ~ {middle} ~ m['content'] ~ {tail}"
    return (
        "{%- for m in messages -%}{%- if m['role'] == 'user' -%}"
        f"{{%- if loop.index0 == 1 -%}}{{{{- {first} -}}}}"
        f"{{%- else -%}}{{{{- {json.dumps(again)} ~ m['content'] ~ {json.dumps(after)} -}}}}{{%- endif -%}}"
        f"{{%- elif m['role'] == 'assistant' -%}}{{{{- m['content'] ~ {json.dumps(eos or '')} -}}}}"
        "{%- endif -%}{%- endfor -%}"
    )


def filled(template: str, **values: Any) -> str:
    """A text of this module with MARK and `values` in it."""
    for name, value in {"MARK": MARK, **values}.items():
        template = template.replace(name, json.dumps(value))
    return template
