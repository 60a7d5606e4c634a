"""Does the prompt cost the model its abilities? Exactly scored items, broken answers, and KL on neutral text.

Everything is a paired difference from the prompt that the training started from. KL is the sensitive
measure: it sees shifts of the next token's distribution that change no score. β, the weight of L_U, is its
lever, so DRO is trained with more of it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dro import likelihood
from dro.compare import mean_with_interval, paired
from dro.data import CLASSES
from dro.generate import Decoding, answers
from dro.prompts import SafetyPrompt
from dro.store import content_hash
from dro.studies import scoring, sets
from dro.studies.cells import Cell, Results
from dro.studies.context import Context
from dro.studies.figure import Dot, dots
from dro.studies.measure import COLUMNS, broken, measure, row
from dro.studies.report import Page, Table
from dro.studies.training import dro, dro_settings, start_of, train, training_settings

TITLE = "Capability: what the prompt costs"
TRAINED, SMALL = "dro", "dro-small"
SMALL_LEVERS, LEVERS = (100.0,), (10.0, 100.0)
"""β times these, on all queries of a batch: what more of L_U does to KL and refusals."""
TOKENS: Mapping[str, int] = {"arithmetic": 48, "instructions": 48, "reading": 32, "code": 160}


def grid(context: Context) -> list[Cell]:
    """The start, the other texts, DRO, and beside it trainings of this study's size with more of L_U."""
    start = start_of(context)
    items = _items(context)
    held_out = context.held_out()
    asked = {
        "items": content_hash(items)[:16], "neutral": content_hash(sets.items("neutral.jsonl"))[:16],
        "tokens": dict(TOKENS), "held_out": held_out.digest[:16], "start": start,
    }  # fmt: skip
    config = context.config("best")
    size = f"DRO, {config.steps} × {config.batch}"

    def cell(_: Results, name: str, make: Callable[[], SafetyPrompt]) -> Mapping[str, Any]:
        return {"name": name, **examine(context, make(), context.prompt(start), items, held_out)}

    made: list[tuple[str, str, dict[str, Any], Callable[[], SafetyPrompt]]] = [
        (name, name, {"prompt": name}, partial(context.prompt, name))
        for name in dict.fromkeys((start, "none", "template"))
        if name != "template" or context.model.rendering.identity
    ]
    made.append((TRAINED, "DRO", dro_settings(context), partial(dro, context)))
    if context.run is not None:
        made.append((SMALL, size, training_settings(context, config), partial(_trained, context, config)))
    for times in LEVERS if context.full else SMALL_LEVERS:
        stronger = context.config("best", residual_weight=config.residual_weight * times, residual_on="all")
        made.append((
            f"dro-beta-x{times:g}", f"{size}, β × {times:g}", training_settings(context, stronger),
            partial(_trained, context, stronger),
        ))  # fmt: skip
    return [
        Cell(key, {**settings, **asked}, config.seed, partial(cell, name=name, make=make))
        for key, name, settings, make in made
    ]


def _trained(context: Context, config: Any) -> SafetyPrompt:
    return train(context, config).prompt


def _items(context: Context) -> list[dict[str, Any]]:
    """The items; with a limit, so many of each kind."""
    found = sets.items("capability.jsonl")
    if context.limit is None:
        return found
    return [i for kind in TOKENS for i in [x for x in found if x["kind"] == kind][: context.limit]]


def examine(
    context: Context, prompt: SafetyPrompt, start: SafetyPrompt, items: list[dict[str, Any]], held_out: Any
) -> dict[str, Any]:
    """Scores item by item, verdicts on held-out queries, and KL from the start on each neutral text."""
    scores: dict[str, str] = {}
    for kind, tokens in TOKENS.items():
        mine = [item for item in items if item["kind"] == kind]
        if not mine:
            continue
        queries = [item["query"] for item in mine]
        said = answers(
            context.model, prompt, queries, Decoding(max_tokens=tokens), None, context.progress,
            context.checkpoint,
        )  # fmt: skip
        passed = [scoring.right(each[0], item["check"]) for each, item in zip(said, mine, strict=True)]
        scores[kind] = "".join("+" if ok else "-" for ok in passed)
    neutral = sets.items("neutral.jsonl")[: context.limit]
    kl = likelihood.divergence(
        context.model, start, prompt, [n["query"] for n in neutral], [n["text"] for n in neutral],
        context.checkpoint,
    )  # fmt: skip
    return {"scores": scores, "kl": [round(v, 5) for v in kl], **measure(context, prompt, held_out)[0]}


def page(context: Context, done: Results) -> Page:
    """Scores, and paired differences from the start."""
    start = done.get(start_of(context))
    scored, refused, changes, lines = [], [], [], []
    for name, cell in done.items():
        found = cell.result
        scores = found["scores"]
        total = "".join(scores.values())
        by_kind = [_share(scores.get(kind, "")) for kind in TOKENS]
        scored.append([found["name"], *by_kind, _share(total), _kl(found["kl"])])
        refused.append(row(found["name"], found))
        if start is None or name == start.name:
            continue
        told = paired(_passed(start.result), _passed(found))
        lines.append((found["name"], [Dot(told.mean, told.low, told.high)]))
        changes.append([found["name"], _points(told), *(
            _points(paired(broken(start.result, label), broken(found, label))) for label in CLASSES
        )])  # fmt: skip
    told_start = start.result["name"] if start else "the start"
    return Page(
        TITLE,
        f"{len(_items(context))} items of our own, scored by rule: arithmetic, instructions, reading, and "
        "small Python functions that are run. Greedy answers. KL is of next-token distributions along "
        f"neutral texts, from `{told_start}` to the prompt, in nats a token. Differences are paired, from "
        f"`{told_start}`.",
        [
            Table(("prompt", *TOKENS, "all", "KL, mean"), scored, "Items right"),
            Table(
                (f"less {told_start}", "items right", *(f"broken, {label}" for label in CLASSES)),
                changes, "Paired differences, in points",
            ),
            Table(COLUMNS, refused, "On held-out queries"),
        ],
        dots(TITLE, lines, ("difference",), f"items right, less {told_start}", (-0.4, 0.4)),
        "Paired difference of items right from the starting prompt",
    )  # fmt: skip


def _passed(found: Mapping[str, Any]) -> list[bool]:
    return [mark == "+" for kind in TOKENS for mark in found["scores"].get(kind, "")]


def _share(marks: str) -> str:
    return f"{marks.count('+')} of {len(marks)}" if marks else "–"


def _points(told: Any) -> str:
    return f"{100 * told.mean:+.1f} [{100 * told.low:+.1f}, {100 * told.high:+.1f}]"


def _kl(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "–"
    mean, low, high = mean_with_interval(values)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
