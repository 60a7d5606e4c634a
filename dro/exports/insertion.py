"""A tokenizer that writes the safety prompt itself, as tokens that nobody else can write.

It gets one special token for each vector, and a chat template that writes them (`chat_template`).
Tokenizers differ in what they make of text beside a special token, and templates in whether they take a
system message. So ways are tried until one gives the very ids that the prompt was trained with.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from tokenizers import AddedToken, Tokenizer

from dro.encoding import encoder
from dro.errors import ModelError
from dro.exports.chat_template import MARK, REST, WHOLE, filled, templates, written
from dro.models import ChatModel
from dro.prompts import SafetyPrompt

PROBES = ("Hello", "How do I bake bread?", "Name 3 colours:\n- red, ...", "{{ 'x' }} é 🎉")
_CUTS = range(4)
"""Characters that a token at the slot's edge may take of the text beside it."""


@dataclass(frozen=True)
class Insertion:
    """A tokenizer with such a template.

    Attributes
    ----------
    wanted: queries and the ids that it writes for them. ids: of the prompt's tokens, vector by vector.
    stands_alone: whether it is the model's own template with a system message that holds nothing else.
    baked: how many vectors stand before what it writes, where it writes the rest alone.
    """

    tokenizer: Any
    wanted: Mapping[str, list[int]]
    ids: tuple[int, ...] = ()
    stands_alone: bool = False
    baked: int = 0


def insertion(model: ChatModel, prompt: SafetyPrompt) -> Insertion:
    """A copy of the model's tokenizer with a token for each vector and a template that writes them.

    Raises
    ------
    ModelError: no way gives the ids that the prompt was trained with.
    """
    assert prompt.vectors is not None
    names = [f"{MARK}soft_prompt_{number}|" for number in range(len(prompt.vectors))]
    prefix = encoder(model).prefix(prompt.text)
    _check_free(model)
    # Where a space is put before all that follows a special token, tokens that are found after that was
    # done, with a space of their own, leave the text around them as it was.
    runs = ((False, "".join(names)), (True, " " + " ".join(names)), (True, " ".join(names)))
    for spaced, run in runs:
        tokenizer, ids = _with_tokens(model.tokenizer, names, spaced)
        before = [*prefix.head, *ids, *prefix.middle]
        wanted = {probe: before + encoder(model).own(prompt.text, probe) for probe in PROBES}
        for own, template in templates(model):
            for head_cut, middle_cut in product(_CUTS, _CUTS):
                whole = filled(WHOLE, HEAD_CUT=head_cut, MIDDLE_CUT=middle_cut, COUNT=len(names))
                tokenizer.chat_template = written(template, run) + whole
                if gives(tokenizer, wanted):
                    alone = own and not (spaced or head_cut or middle_cut)
                    return Insertion(tokenizer, wanted, tuple(ids), alone)
    raise _no_way(model)


def rest(model: ChatModel, prompt: SafetyPrompt) -> Insertion:
    """A copy of the model's tokenizer whose template writes what follows the vectors that a server is given.

    These are all before the query where that can be done, else up to the last special token before it: text
    at the head of a sequence is then tokenised as it was behind that token. `baked` counts them.
    Raises ModelError as `insertion` does.
    """
    assert prompt.vectors is not None
    _check_free(model)
    prefix, text = encoder(model).prefix(prompt.text), model.rendering.pieces(prompt.text)[1]
    own = {probe: encoder(model).own(prompt.text, probe) for probe in PROBES}
    cuts = [(len(prefix.middle), cut) for cut in sorted(_near(len(text)), key=lambda c: abs(c - len(text)))]
    added = {i: str(token) for i, token in model.tokenizer.added_tokens_decoder.items()}
    last = max((place for place, i in enumerate(prefix.middle) if i in added), default=None)
    if last is not None:
        name = added[prefix.middle[last]]
        cuts.append((last + 1, text.rfind(name) + len(name)))
    for tokenizer in (copy.deepcopy(model.tokenizer), _without_first_space(model.tokenizer)):
        for kept, cut in cuts:
            wanted = {probe: [*prefix.middle[kept:], *ids] for probe, ids in own.items()}
            for _, template in templates(model):
                before = written(template, f"{MARK}soft_prompt|")
                tokenizer.chat_template = before + filled(REST, MIDDLE_CUT=cut)
                if gives(tokenizer, wanted):
                    return Insertion(tokenizer, wanted, baked=len(prefix.head) + len(prompt.vectors) + kept)
    raise _no_way(model)


def _near(length: int) -> range:
    return range(max(0, length - 3), length + 4)


def _with_tokens(tokenizer: Any, names: list[str], spaced: bool) -> tuple[Any, list[int]]:
    made = copy.deepcopy(tokenizer)
    made.add_tokens(
        [AddedToken(name, special=True, normalized=spaced) for name in names], special_tokens=True
    )
    return made, made.convert_tokens_to_ids(names)


def gives(tokenizer: Any, wanted: Mapping[str, list[int]]) -> bool:
    """Whether a tokenizer's chat template writes these ids for these queries."""
    for probe, ids in wanted.items():
        try:
            found = tokenizer.apply_chat_template(
                [{"role": "user", "content": probe}], tokenize=True, add_generation_prompt=True,
                return_dict=False,
            )  # fmt: skip
        except Exception:  # templates refuse roles with errors of their own choosing
            return False
        if list(found) != ids:
            return False
    return True


def _without_first_space(tokenizer: Any) -> Any:
    """A copy that puts no space at the head of a text: what it is given goes on in the middle of one."""
    made = copy.deepcopy(tokenizer)
    state = json.loads(made.backend_tokenizer.to_str())
    normalizer = state.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    kept = [part for part in parts if part.get("type") not in (None, "Prepend")]
    state["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    before = state.get("pre_tokenizer") or {}
    for part in before.get("pretokenizers", [before]):
        if part.get("type") == "Metaspace":
            part["prepend_scheme"] = "never"
    made._tokenizer = Tokenizer.from_str(json.dumps(state))
    return made


def _check_free(model: ChatModel) -> None:
    if any(MARK in token for token in model.tokenizer.get_vocab()):
        raise ModelError(
            f"The vocabulary of {model.name} uses U+E0D0, which marks the prompt's tokens.",
            "Export with --to safetensors.",
        )


def _no_way(model: ChatModel) -> ModelError:
    return ModelError(
        f"The tokenizer of {model.name} cannot be made to write the tokens that the prompt was trained with.",
        "Export with --to safetensors, and serve with this program.",
    )
