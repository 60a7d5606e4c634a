"""How a model family writes one chat turn: the text around a system prompt S and a query Q.

Three conditions can differ: with a system prompt, without any ("none"), and what the model's own
template writes when nobody gives a system prompt ("template", where that holds an identity such as
"You are Qwen …"). A rendering is derived from the tokenizer's chat template, or stated by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dro.errors import DataError, ModelError

SYSTEM, QUERY = "{system}", "{query}"
# Plain words, so that no template trims, escapes or capitalises them.
_SYSTEM_MARK, _QUERY_MARK, _ANSWER_MARK, _NEXT_MARK = (
    "sysmark7q4x", "querymark9z2k", "answermark3v8j", "nextmark5w1p",
)  # fmt: skip
OVERRIDE = (
    'Give the rendering by hand: --rendering FILE, a json file such as {"with_system": '
    '"[INST] {system}\\n\\n{query} [/INST]", "without_system": "[INST] {query} [/INST]"}.'
)


@dataclass(frozen=True)
class Rendering:
    """The text of one chat turn, up to where the answer begins.

    Attributes
    ----------
    with_system: holds `{system}` once, then `{query}` once.
    without_system: holds `{query}` once; no system segment at all.
    identity: the system prompt that the model's template writes by itself, or None.
    """

    with_system: str
    without_system: str
    identity: str | None = None

    def __post_init__(self) -> None:
        counts = (self.with_system.count(SYSTEM), self.with_system.count(QUERY))
        bare = (self.without_system.count(SYSTEM), self.without_system.count(QUERY))
        ordered = self.with_system.find(SYSTEM) < self.with_system.find(QUERY)
        if counts != (1, 1) or bare != (0, 1) or not ordered:
            raise DataError(
                "A rendering needs {system} before {query} in `with_system`, and only {query} in "
                "`without_system`, each once.",
                OVERRIDE,
            )

    def pieces(self, system: str | None) -> tuple[str, str, str]:
        """(text before S, text between S and Q, text after Q); for None (text before Q, "", after)."""
        if system is None:
            head, tail = self.without_system.split(QUERY)
            return head, "", tail
        head, rest = self.with_system.split(SYSTEM)
        middle, tail = rest.split(QUERY)
        return head, middle, tail

    def render(self, system: str | None, query: str) -> str:
        """The whole text for a query under a system prompt (None: no system segment)."""
        head, middle, tail = self.pieces(system)
        return head + (system or "") + middle + query + tail


def from_file(path: str | Path) -> Rendering:
    """Read a rendering from a json file with `with_system`, `without_system`, optionally `identity`."""
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        return Rendering(str(fields["with_system"]), str(fields["without_system"]), fields.get("identity"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is no rendering ({error!r}).", OVERRIDE) from None


def from_chat_template(tokenizer: Any, name: str) -> Rendering:
    """Derive the rendering from a tokenizer's chat template.

    A template without a system role (it raises, or drops the text) gets the system prompt where such
    families put it: at the head of the user's message, two newlines before the query.

    Raises
    ------
    ModelError: there is no chat template, or its parts cannot be told apart; names the override.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(f"{name} comes without a chat template, so it is no chat model.", OVERRIDE)

    def render(*messages: tuple[str, str], answer: bool = True) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer)

    user = ("user", _QUERY_MARK)
    try:
        bare = render(user)
    except Exception as error:
        raise ModelError(f"The chat template of {name} cannot be rendered ({error}).", OVERRIDE) from error
    try:
        full = render(("system", _SYSTEM_MARK), user)
    except Exception:  # templates refuse a role with an error of their own choosing
        full = ""
    if bare.count(_QUERY_MARK) != 1:
        raise ModelError(f"The chat template of {name} does not write the query once.", OVERRIDE)
    if full.count(_SYSTEM_MARK) != 1 or full.count(_QUERY_MARK) != 1:
        in_user = bare.replace(_QUERY_MARK, f"{SYSTEM}\n\n{QUERY}")
        return Rendering(in_user, bare.replace(_QUERY_MARK, QUERY))
    with_system = full.replace(_SYSTEM_MARK, SYSTEM).replace(_QUERY_MARK, QUERY)
    identity = _default_identity(full, bare)
    if identity is None:
        return Rendering(with_system, bare.replace(_QUERY_MARK, QUERY))
    without = _without_segment(render, full, bare, tokenizer.bos_token, name)
    return Rendering(with_system, without, identity)


def _default_identity(full: str, bare: str) -> str | None:
    """The system text that the template writes unasked, or None."""
    head, rest = full.split(_SYSTEM_MARK)
    if bare.startswith(head) and bare.endswith(rest) and len(bare) > len(head) + len(rest):
        return bare[len(head) : len(bare) - len(rest)]
    return None


def _without_segment(render: Any, full: str, bare: str, bos: str | None, name: str) -> str:
    """The turn with no system segment, for a template that always writes one.

    How a user's turn begins is read off a second turn: what stands between an answer and the next
    query, less what closes an answer.
    """
    try:
        turns = (("user", _QUERY_MARK), ("assistant", _ANSWER_MARK), ("user", _NEXT_MARK))
        closing = render(*turns[:2], answer=False).split(_ANSWER_MARK)[1]
        between = render(*turns).split(_ANSWER_MARK)[1].split(_NEXT_MARK)[0]
    except Exception as error:
        raise ModelError(f"The user's turn of {name} cannot be found ({error}).", OVERRIDE) from error
    opening = between[len(closing) :]
    if not (between.startswith(closing) and opening and full.split(_QUERY_MARK)[0].endswith(opening)):
        raise ModelError(f"The user's turn of {name} cannot be told from its system segment.", OVERRIDE)
    # A start-of-text token stands before the system segment and stays.
    begin = bos if bos and bare.startswith(bos) and not opening.startswith(bos) else ""
    return begin + opening + QUERY + bare.split(_QUERY_MARK)[1]
