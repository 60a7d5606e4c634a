"""Where two answers differ, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

Kind = Literal["same", "more", "less"]
_WORDS = re.compile(r"\s+|\w+|[^\w\s]+")
MOST_WORDS = 1500
"""Words compared; what follows counts as different. Matching takes time with the square of it."""


def segments(base: str, other: str) -> list[tuple[Kind, str]]:
    """`other` told against `base`: pieces in both, only in `other` ("more"), only in `base` ("less").

    Pieces of "same" and "more" joined are `other`; of "same" and "less", `base`.
    """
    first, second = _WORDS.findall(base), _WORDS.findall(other)
    matcher = SequenceMatcher(None, first[:MOST_WORDS], second[:MOST_WORDS], autojunk=False)
    found: list[tuple[Kind, str]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            found.append(("same", "".join(second[c:d])))
            continue
        if b > a:
            found.append(("less", "".join(first[a:b])))
        if d > c:
            found.append(("more", "".join(second[c:d])))
    for part, label in ((first[MOST_WORDS:], "less"), (second[MOST_WORDS:], "more")):
        if part:
            found.append((label, "".join(part)))  # type: ignore[arg-type]
    return found


def shared(parts: Sequence[tuple[Kind, str]]) -> float:
    """Share of the characters of both answers that are in both, in [0, 1]; 1 for two empty ones."""
    same = sum(2 * len(piece) for kind, piece in parts if kind == "same")
    all_of_it = same + sum(len(piece) for kind, piece in parts if kind != "same")
    return same / all_of_it if all_of_it else 1.0
