"""Makes the tour's asset: `python -m explorer.lessons.record --run FOLDER --long FILE`.

The only part of the tour that needs a model. It keeps numbers: states of a few bundled queries, a short
run's losses, where the watched queries lie after each step, and counts of refusals. No answer is kept.
A recording that was interrupted goes on from its last step when it is started again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dro import recipes, store
from dro.data import QuerySet, bundled
from dro.registry import DEFAULT
from explorer.lessons.material import ASSET, FORMAT
from explorer.run import watch_set
from explorer.runs import PRESETS

if TYPE_CHECKING:
    from dro.models import ChatModel
    from dro.prompts import SafetyPrompt
    from dro.space import Space

PAIRS = {2: "pick", 4: "crack", 9: "inject", 10: "dodge"}
"""Pairs of anchors whose whole states are shown in the first step, and the word that each pair shares."""
RECIPE = "quick"


def record(folder: Path, long: Path) -> None:
    """Train the short run in `folder`, measure it before and after, and write the asset.

    long: json of `python -m dro evaluate --json`, the last prompt in it being the long run.
    """
    from dro import models, space

    model = models.load(DEFAULT, "bf16")
    found = space.find(model)
    store.write_json(
        ASSET,
        {
            "format": FORMAT,
            "command": f"python -m explorer.lessons.record --run {folder.name} --long {long.as_posix()}",
            "space": found.name,
            "pairs": _pairs(model),
            "short": _short_run(model, found, folder),
            "long": long_run(store.read_json(long)),
        },
    )


def long_run(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the tour shows of an evaluation: prompts with their counts, the trained one called "trained"."""
    rows = [dict(row) for row in told["results"]]
    trained = rows[-1]["prompt"]
    kept = ("prompt", "class", "n", "refused", "broken", "rate", "low", "high")
    results = [{name: row[name] for name in kept} for row in rows]
    for row in results:
        row["prompt"] = "trained" if row["prompt"] == trained else row["prompt"]
    return {"set": rows[0]["set"], "results": results}


def _pairs(model: ChatModel) -> list[dict[str, Any]]:
    """Whole states (d_model,) of a few anchors without a prompt, to two decimals."""
    from dro.prompts import resolve
    from dro.states import last_token_states

    chosen = [query for query in bundled("anchors").queries if query.pair in PAIRS]
    states = last_token_states(model, resolve("none", model), [query.text for query in chosen])
    return [
        {"query": q.text, "word": PAIRS[q.pair], "harmful": q.harmful,
         "state": [round(float(v), 2) for v in row]}
        for q, row in zip(chosen, states, strict=True)
    ]  # fmt: skip


def _short_run(model: ChatModel, space: Space, folder: Path) -> dict[str, Any]:
    from dro.optimise import Optimisation
    from dro.prompts import resolve

    config = PRESETS[RECIPE]
    watched = watch_set(bundled("anchors"), bundled("validation", "select"))
    start = resolve(config.init, model)
    run = Optimisation(model, space, config, recipes.training_set(config), None, folder / "run")
    frames_file = folder / "frames.json"
    frames = store.read_json(frames_file)["frames"] if frames_file.is_file() else []
    frames = frames[: run.done + 1] or [_frame(model, space, start, watched.queries)]
    if len(frames) == run.done:  # ended between a step and its frame
        frames.append(_frame(model, space, run.prompt(), watched.queries))
    for _ in run.steps():
        frames.append(_frame(model, space, run.prompt(), watched.queries))
        store.write_json(frames_file, {"frames": frames})
    return {
        "recipe": RECIPE,
        "init": config.init,
        "steps": config.steps,
        "batch": config.batch,
        "tokens": len(run.vectors),
        "seconds_per_step": round(sum(step.seconds for step in run.curve) / config.steps, 2),
        "loss": [round(step.loss, 4) for step in run.curve],
        "queries": watched.queries.texts,
        "harmful": watched.harmful.tolist(),
        "trained": watched.trained.tolist(),
        "frames": frames,
        **_measured(model, space, [start, run.finish()]),
    }


def _frame(model: ChatModel, space: Space, prompt: SafetyPrompt, queries: QuerySet) -> list[list[float]]:
    """[f_r, f_h] of every watched query under a prompt."""
    from dro.states import last_token_states

    coordinates = space.projection.coordinates(last_token_states(model, prompt, queries.texts, None))
    logits = (space.need_refusal().logits(coordinates), space.harmfulness.logits(coordinates))
    return [[round(float(r), 3), round(float(h), 3)] for r, h in zip(*logits, strict=True)]


def _measured(model: ChatModel, space: Space, prompts: Sequence[SafetyPrompt]) -> dict[str, Any]:
    """Refusals before and after on the half of validation that chooses nothing; where the states lie."""
    from dro.evaluate import evaluate
    from dro.prompts import SafetyPrompt
    from dro.states import last_token_states

    unseen, before, after = bundled("validation", "report"), prompts[0], prompts[1]
    report = evaluate(model, [before, SafetyPrompt("trained", after.text, after.vectors)], [unseen])
    beyond = space.beyond(last_token_states(model, after, unseen.texts))
    return {
        **long_run({"results": [rate.as_dict() for rate in report.rates]}),
        "beyond": round(float(beyond.mean()), 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and record."""
    parser = argparse.ArgumentParser(description="Record what the guided tour shows.")
    parser.add_argument("--run", type=Path, required=True, help="a folder for the run; it goes on there")
    parser.add_argument("--long", type=Path, default=Path("docs/results/raw/best_test.json"),
                        help="json of dro evaluate; its last prompt is the long run")  # fmt: skip
    asked = parser.parse_args(arguments)
    record(asked.run, asked.long)


if __name__ == "__main__":
    main()
