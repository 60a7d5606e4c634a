"""The parts of a fit that can be done by themselves: the anchors' states under a prompt, and what the answers
there were judged to be. A fit asks for them in one order; workers may do them in any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dro import refusal
from dro.data import QuerySet
from dro.generate import Decoding, full_answers
from dro.models import ChatModel
from dro.prompts import SafetyPrompt, resolve
from dro.sources import Progress, silent
from dro.states import PrefixCache, last_token_states


@dataclass(frozen=True)
class Part:
    """States of the anchors under a prompt (decoding None), or verdicts on their answers."""

    prompt: str
    decoding: Decoding | None = None

    def key(self, prompt: SafetyPrompt) -> dict[str, Any]:
        """What names it among the parts of a fit."""
        if self.decoding is None:
            return {"prompt": prompt.text, "what": "states"}
        return {"prompt": prompt.text, "what": "verdicts", **asdict(self.decoding)}

    def work(
        self,
        model: ChatModel,
        anchors: QuerySet,
        prefixes: PrefixCache | None = None,
        progress: Progress = silent,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> list[Any]:
        """For each anchor its state (d_model,), or of each answer its first token and whether it refused."""
        prompt = resolve(self.prompt, model)
        if self.decoding is None:
            return last_token_states(model, prompt, anchors.texts, prefixes, checkpoint=checkpoint).tolist()
        said = full_answers(model, prompt, anchors.texts, self.decoding, prefixes, progress, checkpoint)
        return [[(a.opening, refusal.judge(a.text).refused) for a in each] for each in said]


def decodings(labels: Decoding) -> tuple[Decoding, Decoding]:
    """The greedy answer and the sampled ones that are judged."""
    return Decoding(max_tokens=labels.max_tokens), labels


def parts(names: Sequence[str], labels: Decoding, answered: bool = True) -> list[Part]:
    """All parts of a fit under these prompts, longest first. answered: refusal rates are not known yet."""
    asked = [Part(name, each) for each in reversed(decodings(labels)) for name in names] if answered else []
    return [*asked, *(Part(name) for name in names)]
