"""What a trained prompt is, and whether it moves: vectors near which tokens, and other starting prompts.

A prompt trained from one text is carried over to another in two ways. before: its vectors stand in front of
the other text, as an operator would add them. drift: the mean of what training added to its vectors is
added to every token of the other text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from dro.models import ChatModel
from dro.prompts import HUMAN, SafetyPrompt
from dro.studies.ablations import change
from dro.studies.cells import Cell, Results
from dro.studies.context import Context
from dro.studies.figure import Dot, dots
from dro.studies.measure import COLUMNS, differences, measure, row
from dro.studies.report import Page, Table
from dro.studies.training import train, training_settings
from dro.vectors import describe, start_vectors, trained_vectors

TITLE = "Transfer: from one starting prompt to another"
STARTS = ("short", "mistral")
"""The small grid: the shorter two. The full one takes every human prompt."""
_SHOWN = 12


def grid(context: Context) -> list[Cell]:
    """The texts, a training from each, and each training carried over to every other text."""
    starts = tuple(HUMAN) if context.full else STARTS
    held_out = context.held_out()
    asked = {"held_out": held_out.digest[:16]}
    configs = {name: context.config("best", init=name) for name in starts}

    def text(_: Results, name: str) -> Mapping[str, Any]:
        return {"name": name, **measure(context, context.prompt(name), held_out)[0]}

    def trained(_: Results, name: str) -> Mapping[str, Any]:
        prompt = train(context, configs[name]).prompt
        found = measure(context, prompt, held_out)[0]
        return {"name": f"DRO from {name}", **found, "vectors": geometry(context.model, prompt)}

    def carried(_: Results, first: str, second: str, way: Callable[..., SafetyPrompt]) -> Mapping[str, Any]:
        made = way(context.model, train(context, configs[first]).prompt, context.prompt(second))
        found = measure(context, context.named(made, f"{first} on {second}"), held_out)[0]
        return {"name": f"DRO from {first}, {way.__name__} {second}", **found}

    seed = context.config("best").seed
    cells = [Cell(name, {"prompt": name, **asked}, seed, partial(text, name=name)) for name in starts]
    cells += [
        Cell(
            f"dro-{name}",
            {**training_settings(context, configs[name]), **asked},
            seed,
            partial(trained, name=name),
        )
        for name in starts
    ]
    cells += [
        Cell(
            f"{way.__name__}-{first}-on-{second}",
            {"way": way.__name__, "to": second, **training_settings(context, configs[first]), **asked}, seed,
            partial(carried, first=first, second=second, way=way),
        )
        for first in starts for second in starts if second != first for way in (before, drift)
    ]  # fmt: skip
    return cells


def before(model: ChatModel, trained: SafetyPrompt, other: SafetyPrompt) -> SafetyPrompt:
    """The trained vectors, then the tokens of another text: one soft prompt in the other's slot."""
    return SafetyPrompt(
        "before", other.text, np.concatenate([trained_vectors(trained), start_vectors(model, other)])
    )


def drift(model: ChatModel, trained: SafetyPrompt, other: SafetyPrompt) -> SafetyPrompt:
    """Another text's tokens, each moved by the mean of what training added."""
    moved = (trained_vectors(trained) - start_vectors(model, trained)).mean(axis=0)
    return SafetyPrompt("drift", other.text, start_vectors(model, other) + moved)


def geometry(model: ChatModel, prompt: SafetyPrompt) -> list[dict[str, Any]]:
    """Each vector of a trained prompt (`vectors.Vector`) as json, with the one token it is nearest to."""
    return [
        {
            "token": each.token,
            "nearest": each.nearest[0][0],
            "cosine": round(each.nearest[0][1], 3),
            "drift": round(each.drift, 4),
            "norm": round(each.norm, 4),
            "start_norm": round(each.start_norm, 4),
        }
        for each in describe(model, prompt, nearest=1)
    ]


def page(context: Context, done: Results) -> Page:
    """Rates, differences from the text carried over to, and the vectors that drifted furthest."""
    rows, changes, lines, tables, findings = [], [], [], [], []
    for cell in done.values():
        found = cell.result
        rows.append(row(found["name"], found))
        parts = [found["classes"][label] for label in ("harmful", "harmless")]
        lines.append((found["name"], [Dot(part["rate"], part["low"], part["high"]) for part in parts]))
        to = cell.settings.get("to", "")
        if to in done:
            told = differences(done[to].result, found)
            changes.append([found["name"], change(told["harmful"]), change(told["harmless"])])
        if "vectors" in found:
            tables.append(_vectors_table(found))
            kept = sum(v["token"] == v["nearest"] for v in found["vectors"])
            drifts = [v["drift"] / max(v["start_norm"], 1e-6) for v in found["vectors"]]
            findings.append(
                f"{found['name']}: {kept} of {len(drifts)} vectors are still nearest to the token they "
                f"started as; median drift {np.median(drifts):.2f} of the starting norm."
            )
    return Page(
        TITLE,
        "before: a trained prompt's vectors stand in front of another text. drift: the mean of what training "
        "added is added to every token of another text. Differences are from that text alone.",
        [
            Table(COLUMNS, rows),
            Table(("less the text", "harmful refused", "harmless refused"), changes, "Paired differences"),
            *tables,
        ],
        dots(TITLE, lines, ("harmful refused", "harmless refused"), "share of held-out queries"),
        "Refusals under texts, trained prompts and trained prompts carried over",
        findings,
    )  # fmt: skip


def _vectors_table(found: Mapping[str, Any]) -> Table:
    furthest = sorted(found["vectors"], key=lambda v: -v["drift"])[:_SHOWN]
    return Table(
        ("token", "nearest now", "cosine", "drift", "norm before", "norm now"),
        [
            [_code(v["token"]), _code(v["nearest"]), f"{v['cosine']:.2f}", f"{v['drift']:.3f}",
             f"{v['start_norm']:.3f}", f"{v['norm']:.3f}"]
            for v in furthest
        ],
        f"{found['name']}: the {len(furthest)} vectors that drifted furthest",
    )  # fmt: skip


def _code(token: str) -> str:
    return "`" + token.replace("\n", "\\n").replace("`", "'") + "`"
