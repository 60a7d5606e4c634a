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
import torch

from dro.models import ChatModel
from dro.prompts import HUMAN, SafetyPrompt
from dro.states import prefix_ids
from dro.studies.ablations import change
from dro.studies.cells import Cell, Results
from dro.studies.context import Context
from dro.studies.figure import Dot, dots
from dro.studies.measure import COLUMNS, differences, measure, row
from dro.studies.report import Page, Table
from dro.studies.training import train, training_settings

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
    return SafetyPrompt("before", other.text, np.concatenate([_vectors(trained), _start(model, other)]))


def drift(model: ChatModel, trained: SafetyPrompt, other: SafetyPrompt) -> SafetyPrompt:
    """Another text's tokens, each moved by the mean of what training added."""
    moved = (_vectors(trained) - _start(model, trained)).mean(axis=0)
    return SafetyPrompt("drift", other.text, _start(model, other) + moved)


@torch.no_grad()
def geometry(model: ChatModel, prompt: SafetyPrompt) -> list[dict[str, Any]]:
    """Each vector of a trained prompt: the token it started as, the nearest one now, its drift and norm.

    drift: ‖θ − θ0‖. norm: ‖θ‖. start_norm: ‖θ0‖. nearest: by cosine among all tokens' embeddings.
    """
    ids = prefix_ids(model, prompt).slot
    now, then = _vectors(prompt), _start(model, prompt)
    table = model.model.get_input_embeddings().weight
    lengths = table.float().norm(dim=1).clamp(min=1e-6)
    given = torch.tensor(now, device=table.device)
    cosines = (given.to(table.dtype) @ table.T).float() / lengths / given.norm(dim=1)[:, None].clamp(min=1e-6)
    best = cosines.max(dim=1)
    spell = lambda token: model.tokenizer.decode([int(token)])  # noqa: E731
    return [
        {
            "token": spell(ids[i]),
            "nearest": spell(best.indices[i]),
            "cosine": round(float(best.values[i]), 3),
            "drift": round(float(np.linalg.norm(now[i] - then[i])), 4),
            "norm": round(float(np.linalg.norm(now[i])), 4),
            "start_norm": round(float(np.linalg.norm(then[i])), 4),
        }
        for i in range(len(now))
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


def _vectors(prompt: SafetyPrompt) -> np.ndarray:
    assert prompt.vectors is not None
    return prompt.vectors


def _start(model: ChatModel, prompt: SafetyPrompt) -> np.ndarray:
    """Embeddings of the text in a prompt's slot: float32 (n_tokens, d_model)."""
    return model.embed(prefix_ids(model, prompt).slot).float().cpu().numpy()
