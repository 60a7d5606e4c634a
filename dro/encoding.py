"""Text to token ids: head, slot, middle | a query's own tokens.

    head      before the safety prompt: start of text, role markers
    slot      the safety prompt itself; a soft prompt's vectors take this place
    middle    between the safety prompt and the query
    own       the query and what follows it, up to where the answer begins

The rendering is tokenised as a whole and cut by offsets; a token that straddles an edge of the slot
belongs to the slot. Head, slot and middle never depend on the query, so they can be run once.

User text is text. Every special token of the tokenizer is renamed to a random string in a private
copy, and only the template's own text is written with these names: nothing a user types can match.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from dro.data import check_query
from dro.errors import DataError, ModelError
from dro.models import ChatModel
from dro.rendering import Rendering

MAX_SLOT_TOKENS = 2048
_NEUTRAL = "Hello"


@dataclass(frozen=True)
class PrefixIds:
    """Token ids of everything before a query. Soft vectors replace `slot`; it is empty for none."""

    head: tuple[int, ...]
    slot: tuple[int, ...]
    middle: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.head + self.slot + self.middle

    def __len__(self) -> int:
        return len(self.head) + len(self.slot) + len(self.middle)


@dataclass(frozen=True)
class _Token:
    id: int
    start: int
    end: int


_encoders: WeakKeyDictionary[ChatModel, Encoder] = WeakKeyDictionary()


def encoder(model: ChatModel) -> Encoder:
    """The encoder of a model, made once."""
    if model not in _encoders:
        _encoders[model] = Encoder(model.tokenizer, model.rendering)
    return _encoders[model]


class Encoder:
    """Encodes queries under safety prompts for one tokenizer and one rendering."""

    def __init__(self, tokenizer: Any, rendering: Rendering) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ModelError(
                f"The tokenizer {type(tokenizer).__name__} has no fast backend, whose offsets are needed.",
                "Use a repository with a tokenizer.json.",
            )
        self.rendering = rendering
        self.special_ids = frozenset(tokenizer.added_tokens_decoder) | frozenset(tokenizer.all_special_ids)
        self._private, self._original_id, self._names = _private_copy(backend)
        self._single = _SingleCharacters(backend)
        self._named = re.compile(
            "|".join(re.escape(name) for name in sorted(self._names, key=len, reverse=True)) or r"(?!)"
        )
        self.delimiters = self._plain_delimiters()
        self._delimiter = re.compile("|".join(map(re.escape, self.delimiters)) or r"(?!)")
        self._prefix = lru_cache(maxsize=256)(self._encode_prefix)

    def prefix(self, system: str | None) -> PrefixIds:
        """Ids before the query under a system text (None: no system segment).

        The same system text always gives the same ids, whatever is asked afterwards.
        """
        if system is not None:
            system = check_query(system)
        return self._prefix(system)[0]

    def own(self, system: str | None, query: str) -> list[int]:
        """Ids of the query's own tokens under a system text: the query and what follows it.

        `prefix(system).ids + own(system, query)` spells the rendering to the letter.
        """
        query = check_query(query)
        self.prefix(system)
        cut = self._prefix(system)[1]
        tokens, _, query_start, query_end = self._encode(system, query)
        ids: list[int] = []
        spelled = cut  # how far the text has been spelled out
        for token in tokens:
            if token.end <= cut and (token.start < cut or token.start == token.end):
                continue
            if token.id in self.special_ids and token.start < query_end < token.end:
                # A token of the template that takes in white space at the end of the query.
                ids += self._single.ids(self._span(system, query, max(token.start, spelled), query_end))
                ids.append(token.id)
                continue
            # A token that would reach back into the prefix, or that a user must not be able to write,
            # is spelled out character by character: same text, other ids.
            in_query = token.start < query_end and token.end > query_start
            forbidden = in_query and token.id in self.special_ids
            if token.start < cut or forbidden or token.id < 0 or token.start < spelled:
                ids += self._single.ids(self._span(system, query, max(token.start, spelled), token.end))
                spelled = max(spelled, token.end)
            else:
                ids.append(token.id)
        return ids

    def _encode_prefix(self, system: str | None) -> tuple[PrefixIds, int]:
        tokens, (slot_start, slot_end), query_start, _ = self._encode(system, _NEUTRAL)
        before = [t for t in tokens if t.end <= query_start]
        head = [t.id for t in before if t.end <= slot_start]
        slot = [t for t in before if t.end > slot_start and t.start < slot_end]
        middle = [t.id for t in before if t.start >= slot_end and t.end > slot_start]
        if system is None:
            head, slot, middle = [t.id for t in before], [], []
        if len(slot) > MAX_SLOT_TOKENS:
            raise DataError(
                f"The safety prompt has {len(slot):,} tokens; at most {MAX_SLOT_TOKENS:,} are used.",
                "Shorten it.",
            )
        cut = before[-1].end if before else 0
        slot_ids: list[int] = []
        for token in slot:
            if token.id < 0 or token.id in self.special_ids:
                slot_ids += self._single.ids(self._span(system, _NEUTRAL, token.start, token.end))
            else:
                slot_ids.append(token.id)
        return PrefixIds(tuple(head), tuple(slot_ids), tuple(middle)), cut

    def _encode(self, system: str | None, query: str):
        """Tokens of the whole rendering with offsets into it; -1 for a token inside a delimiter.

        Returns tokens, (slot start, slot end), query start, query end; offsets count characters of
        the text in which special tokens bear their private names.
        """
        head, middle, tail = (self._privately(piece) for piece in self.rendering.pieces(system))
        slot = (len(head), len(head) + len(system or ""))
        start = slot[1] + len(middle)
        end = start + len(query)
        text = head + (system or "") + middle + query + tail
        encoding = self._private.encode(text, add_special_tokens=False)
        delimited = [
            (offset + match.start(), offset + match.end())
            for offset, part in ((slot[0], system or ""), (start, query))
            for match in self._delimiter.finditer(part)
        ]
        tokens: list[_Token] = []
        for token_id, (begin, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            inside = any(begin < last and stop > first for first, last in delimited)
            # Several tokens may spell one character; it is spelled out once, by the first of them.
            if inside and tokens and tokens[-1].id == -1 and tokens[-1].end >= stop:
                continue
            tokens.append(_Token(-1 if inside else self._original_id.get(token_id, token_id), begin, stop))
        return tokens, slot, start, end

    def _span(self, system: str | None, query: str, start: int, end: int) -> str:
        head, middle, tail = (self._privately(piece) for piece in self.rendering.pieces(system))
        return (head + (system or "") + middle + query + tail)[start:end]

    def _privately(self, template_text: str) -> str:
        return self._named.sub(lambda match: self._names[match.group()], template_text)

    def _plain_delimiters(self) -> tuple[str, ...]:
        """Delimiters of the template that are ordinary text, such as `[/INST]` or `USER:`.

        Bare role words next to a special token ("user") are none: they delimit nothing by themselves.
        """
        found = set()
        for system in ("", None):
            for piece in self.rendering.pieces(system):
                for line in re.split(r"\n", self._named.sub("\n", piece)):
                    words = line.split()
                    marked = [w for w in words if not (w[0].isalnum() or w[-1].isalnum())]
                    found.update(marked if len(marked) == len(words) else [line.strip()])
        return tuple(sorted(d for d in found if len(d) > 1 and not d.replace(" ", "").isalnum()))


def _private_copy(backend: Tokenizer) -> tuple[Tokenizer, dict[int, int], dict[str, str]]:
    """A copy whose added tokens bear random names: (copy, copy's id -> id, token -> random name)."""
    state = json.loads(backend.to_str())
    state["post_processor"] = state["truncation"] = state["padding"] = None
    nonce = secrets.token_hex(8)
    names = {}
    for index, token in enumerate(state.get("added_tokens", [])):
        # Private-use characters: no normaliser touches them and no text is expected to hold them.
        names[token["content"]] = f"\ue000{nonce}{index:x}\ue001"
        token["content"] = names[token["content"]]
    original = {name: backend.token_to_id(content) for content, name in names.items()}
    copy = Tokenizer.from_str(json.dumps(state))
    ids = {copy.token_to_id(name): old for name, old in original.items()}
    return copy, {new: old for new, old in ids.items() if new is not None and old is not None}, names


class _SingleCharacters:
    """Ids that spell a text one character (or byte) at a time, so that no longer token appears."""

    def __init__(self, backend: Tokenizer) -> None:
        self._id = backend.token_to_id
        self._byte_level = "ByteLevel" in json.dumps(
            {k: v for k, v in json.loads(backend.to_str()).items() if k in ("pre_tokenizer", "decoder")}
        )

    def ids(self, text: str) -> list[int]:
        result = []
        for character in text:
            known = None if self._byte_level else self._id(character.replace(" ", "▁"))
            result += [known] if known is not None else [self._byte(b) for b in character.encode()]
        return result

    def _byte(self, byte: int) -> int:
        token = _byte_level_alphabet()[byte] if self._byte_level else f"<0x{byte:02X}>"
        found = self._id(token)
        if found is None:
            raise ModelError(
                f"The tokenizer has no token for the byte 0x{byte:02x}.",
                "Leave that character out.",
            )
        return found


@lru_cache(maxsize=1)
def _byte_level_alphabet() -> dict[int, str]:
    """The printable stand-ins that byte-level tokenizers (GPT-2 and after) use for bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
