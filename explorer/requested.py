"""What pages and programs may ask for: numbers, prompts and lengths, checked before anything waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dro.errors import DataError
from dro.prompts import STANDARD, SafetyPrompt

if TYPE_CHECKING:
    # torch comes with the model, and the page is drawn without it.
    from dro.models import ChatModel
    from explorer.runs import Runs

MOST_PROMPTS, MOST_PROMPT_CHARACTERS = 12, 4000
MOST_TOKENS = 1024
"""Longest query with its prompt: attention on the CPU takes memory with the square of it."""


def whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number as a program may send it, or a DataError that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise DataError(f"{name} is {str(value)[:40]!r}.", "Send a whole number.")
    if not low <= value <= high:
        raise DataError(f"{name} is {str(value)[:40]}.", f"Choose {low} or more, at most {high}.")
    return int(value)


def few(prompts: Sequence[str]) -> Sequence[str]:
    """The prompts, where they are neither none nor too many; else a DataError."""
    if not isinstance(prompts, (list, tuple)) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise DataError("No prompt is chosen, or too many.", f"Tick 1 to {MOST_PROMPTS} safety prompts.")
    return prompts


def public(name: object, runs: Runs | None) -> str:
    """A prompt's name as a visitor may give it: no paths, which only the command line reads."""
    if isinstance(name, str) and len(name) <= MOST_PROMPT_CHARACTERS:
        if name in STANDARD or name.startswith(("template+", "text:")):
            return name
        if runs and name in runs.usable():
            raise DataError(f"{name} is a trained prompt.", "Start from a prompt that is text.")
        if runs and name in runs.names():
            raise DataError(f"{name} has no prompt yet.", "Wait until it is saved, or train it anew.")
    raise DataError(
        f"There is no prompt {str(name)[:80]!r}.",
        f"Use {', '.join(STANDARD)}, the name of a run, or text: and your own words.",
    )


def own_lengths(model: ChatModel, prompts: Sequence[SafetyPrompt], query: str) -> list[int]:
    """The query's own tokens under each prompt; DataError where there are too many with the prompt's."""
    from dro.states import own_ids, prefix_ids

    found = []
    for prompt in prompts:
        found.append(len(own_ids(model, prompt, [query])[0]))
        length = len(prefix_ids(model, prompt)) + found[-1]
        if length > MOST_TOKENS:
            raise DataError(
                f"The query and its prompt have {length:,} tokens; the page takes up to {MOST_TOKENS:,}.",
                "Shorten them, or use the command line.",
            )
    return found
