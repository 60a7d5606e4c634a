"""What the benchmark asks: queries of one exact length, and prompts of any length.

Queries are made for the purpose from a few harmless words; none is in a query set, no answer is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from dro.errors import DataError
from dro.models import ChatModel
from dro.prompts import HUMAN, SafetyPrompt
from dro.states import own_ids, prefix_ids

_OPENINGS = ("How do I", "How can I", "What is the best way to", "Tell me how to", "Please say how to",
             "Why should I")  # fmt: skip
_ACTS = ("fold", "paint", "wash", "dry", "carry", "mend", "draw", "count", "stack", "store")
_THINGS = ("a map", "a lamp", "a chair", "two old hats", "a small boat", "a wooden door", "a long rope",
           "some thin paper", "a glass jar", "a red kite", "")  # fmt: skip
_PLACES = ("", " in a garden", " on a cold and rainy day", " in a small room at home", " by the river",
           " without any help from a friend", " before the end of the week", " at the market",
           " with only one hand and a bit of time", " for my sister")  # fmt: skip


def queries(model: ChatModel, prompts: Sequence[SafetyPrompt], count: int, own_tokens: int) -> list[str]:
    """`count` different questions of exactly `own_tokens` own tokens under each of `prompts`.

    Own tokens include what the template writes after the query. DataError where the words do not do.
    """
    found: list[str] = []
    # Openings vary fastest, so that few questions are already of several kinds.
    for place, thing, act, opening in product(_PLACES, _THINGS, _ACTS, _OPENINGS):
        query = f"{opening} {act} {thing}{place}?".replace(" ?", "?").replace("  ", " ")
        if all(len(own_ids(model, prompt, [query])[0]) == own_tokens for prompt in prompts):
            found.append(query)
            if len(found) == count:
                return found
    raise DataError(
        f"Only {len(found)} of {count} questions of {own_tokens} own tokens can be made for {model.name}.",
        "Give another length.",
    )


def prompt(model: ChatModel, tokens: int) -> SafetyPrompt:
    """A soft prompt of exactly `tokens` vectors: the embeddings of Llama-2's prompt, repeated or cut."""
    text = HUMAN["default"]
    slot = prefix_ids(model, SafetyPrompt("default", text)).slot
    ids = [slot[place % len(slot)] for place in range(tokens)]
    return SafetyPrompt(f"{tokens} tokens", text, model.embed(ids).float().cpu().numpy())
