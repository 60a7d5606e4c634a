"""Commands about models and their spaces: models, fit, locate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dro import data, models
from dro.cli.common import (
    AsJson,
    EngineName,
    ModelName,
    PrecisionName,
    PromptNames,
    RenderingFile,
    SpaceFolder,
    WorkerCpus,
    WorkerGpus,
    Workers,
    load,
    open_model,
    rendering_of,
    show,
    table_of,
)
from dro.registry import DEFAULT, REGISTRY


def models_command(
    fetch: Annotated[str | None, typer.Option(help="Fetch and verify this model's files now.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that are known by name, or fetch one."""
    if fetch is not None:
        from dro.progress import on_stderr

        with on_stderr() as progress:
            models.fetch_files(fetch, progress)
        return
    rows: list[dict[str, Any]] = [
        {"name": s.name, "hub_id": s.hub_id, "billions": s.billions, "note": s.note}
        for s in REGISTRY.values()
    ]
    table = table_of("name", "hub id", ">billions", "note")
    for row in rows:
        table.add_row(row["name"], row["hub_id"], str(row["billions"]), row["note"])
    show(rows, table, as_json)
    if not as_json:
        print("Any other hub id (org/name), local folder or .gguf file works as well.")


def fit(
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    anchors: Annotated[
        Path | None,
        typer.Option(help="csv or jsonl with query and class (default: the bundled set)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write (default: the cache).")] = None,
    m: Annotated[int, typer.Option(help="Components of the projection.")] = 4,
    recipe: Annotated[
        str, typer.Option(help="ours, or paper: its four prompts, plain PCA and its probe training.")
    ] = "ours",
    label_tokens: Annotated[int, typer.Option(help="Tokens of each answer that is judged.")] = 24,
    label_samples: Annotated[int, typer.Option(help="Sampled answers beside the greedy one.")] = 3,
    labels: Annotated[
        Path | None, typer.Option(help="Space of the same model whose refusal rates to take over.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N anchors of each class.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of samples and folds.")] = 0,
    engine: EngineName = "here",
    workers: Workers = 0,
    worker_cpus: WorkerCpus = 1,
    worker_gpus: WorkerGpus = None,
    as_json: AsJson = False,
) -> None:
    """Fit a space for a model: states, labels from its own answers, projection, probes, health."""
    from dataclasses import replace

    from dro import engine as engines
    from dro import fitting, space, spread
    from dro.progress import on_stderr

    queries = (data.read_labelled(anchors) if anchors else data.bundled("anchors")).limit(limit)
    decoding = replace(fitting.LABELS, max_tokens=label_tokens, samples=label_samples, seed=seed)
    known = space.load(labels) if labels else None
    engines.check(engine)
    with on_stderr() as progress:
        if engine == engines.HERE:
            chat = load(model, precision, rendering, progress)
            parts = fitting.shards_of(chat, queries)
            fitted = fitting.fit(
                chat, queries, m, decoding, seed, known, progress, recipe=recipe, shards=parts
            )
        else:
            opened = engines.Opened(model, precision, rendering_of(rendering))
            size = engines.Size(workers, worker_cpus, worker_gpus)
            with engines.opened(engine, opened, size, progress) as there:
                fitted, parts = spread.fit(there, queries, m, decoding, seed, known, progress, recipe)
    folder = out or space.cached_folder(fitted, "" if recipe == fitting.OURS else recipe)
    space.save(fitted, folder)
    parts.clear()
    table = table_of("check", ">value", "verdict", "meaning", title=fitted.name)
    for check in fitted.health:
        value = "–" if check["value"] is None else f"{check['value']:.3g}"
        table.add_row(check["name"], value, check["verdict"], check["meaning"])
    show({"space": fitted.name, "folder": str(folder), "health": list(fitted.health)}, table, as_json)


def locate(
    query: Annotated[str, typer.Argument(help="What a user would ask.")],
    prompt: PromptNames = None,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Place a query in the model's space under one or more safety prompts."""
    from dro.prompts import available, resolve
    from dro.space import locate as place

    data.check_query(query)
    chat, there = open_model(model, precision, rendering, space)
    chosen = [resolve(name, chat) for name in prompt or available(chat)]
    points = place(there, chat, query, chosen)
    table = table_of("prompt", ">refusal", ">refusal logit", ">harmfulness logit", "components 1, 2",
                   title=there.name)  # fmt: skip
    for point in points:
        told = point.refusal_probability is not None
        table.add_row(
            point.prompt,
            f"{point.refusal_probability:.1%}" if told else "no probe",
            f"{point.refusal_logit:+.2f}" if told else "–",
            f"{point.harmfulness_logit:+.2f}",
            "  ".join(f"{c:+.2f}" for c in point.coordinates[:2]),
        )
    show({"space": there.name, "points": [p.as_dict() for p in points]}, table, as_json)
