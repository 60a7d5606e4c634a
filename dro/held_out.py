"""What every run reports on queries it has never seen: verdicts, and what the frozen probe is worth there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dro import store
from dro.data import CLASSES, QuerySet, bundled
from dro.evaluate import Rate, evaluate
from dro.generate import Decoding
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.region import Region, examine
from dro.sources import Progress, silent
from dro.space import Space
from dro.states import last_token_states

FILE = "held_out.json"


@dataclass(frozen=True)
class HeldOut:
    """Rates on the reporting half of validation, and the probe's standing on the prompt's own states."""

    rates: tuple[Rate, ...]
    region: Region

    def as_dict(self) -> dict[str, Any]:
        return {"results": [rate.as_dict() for rate in self.rates], "region": self.region.as_dict()}


def report(
    model: ChatModel,
    space: Space,
    prompt: SafetyPrompt,
    queries: QuerySet | None = None,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> HeldOut:
    """Answer held-out queries under `prompt` (24 tokens, greedy), and place their states.

    queries: by default the half of validation that chooses nothing.
    """
    asked = queries or bundled("validation", "report")
    said = evaluate(model, [prompt], [asked], Decoding(), progress, checkpoint)
    in_order = [query for label in CLASSES for query in asked.of(label).queries]
    states = last_token_states(model, prompt, [query.text for query in in_order], checkpoint=checkpoint)
    refused = [one.verdict == "refused" for one in said.said]
    return HeldOut(said.rates, examine(space, states, refused, [query.pair for query in in_order]))


def write(found: HeldOut, folder: Path) -> None:
    """Keep the report in the run's folder."""
    store.write_json(folder / FILE, found.as_dict())
