"""The command line: `python -m dro`. Tables for people, --json on standard output for programs.

Progress and errors go to standard error. Heavy packages are imported by the command that needs them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dro import data, models
from dro.errors import DataError, DroError
from dro.registry import DEFAULT, REGISTRY

if TYPE_CHECKING:
    from rich.table import Table

    from dro.models import ChatModel
    from dro.sources import Progress
    from dro.space import Space

app = typer.Typer(
    name="python -m dro",
    help="See where a chat model places a query under a safety prompt, train a better one, measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelName = Annotated[
    str, typer.Option("--model", help="A name from `models`, a hub id, a folder, or a .gguf file.")
]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, bf16, fp32 or 4bit.")]
RenderingFile = Annotated[
    Path | None,
    typer.Option("--rendering", help="json file that says how this model writes a turn."),
]
SpaceFolder = Annotated[
    Path | None,
    typer.Option("--space", help="Folder of a fitted space (default: this model's own)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write json to standard output.")]
PromptNames = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help="template, none, default, mistral, short, template+short, text:…, a run folder or a "
        ".safetensors file. May be given several times.",
    ),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors of ours are printed without a traceback."""
    try:
        status = app(args=list(sys.argv[1:] if argv is None else argv), standalone_mode=False)
        return int(status or 0)
    except DroError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        # Wrong usage is told by typer's own errors; anything else is a fault of ours.
        if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]  # typer's
        else:
            print(f"error: {error.format_message()} See --help.", file=sys.stderr)
        return int(error.exit_code)


@app.command("models")
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
    table = _table("name", "hub id", ">billions", "note")
    for row in rows:
        table.add_row(row["name"], row["hub_id"], str(row["billions"]), row["note"])
    _show(rows, table, as_json)
    if not as_json:
        print("Any other hub id (org/name), local folder or .gguf file works as well.")


@app.command()
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
    label_tokens: Annotated[int, typer.Option(help="Tokens of each answer that is judged.")] = 24,
    label_samples: Annotated[int, typer.Option(help="Sampled answers beside the greedy one.")] = 3,
    labels: Annotated[
        Path | None, typer.Option(help="Space in another precision whose refusal rates to take over.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N anchors of each class.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of samples and folds.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a space for a model: states, labels from its own answers, projection, probes, health."""
    from dataclasses import replace

    from dro import fitting, space
    from dro.progress import on_stderr

    queries = (data.read_labelled(anchors) if anchors else data.bundled("anchors")).limit(limit)
    decoding = replace(fitting.LABELS, max_tokens=label_tokens, samples=label_samples, seed=seed)
    known = space.load(labels) if labels else None
    with on_stderr() as progress:
        chat = _load(model, precision, rendering, progress)
        fitted = fitting.fit(chat, queries, m, decoding, seed, known, progress)
    folder = out or space.cached_folder(chat)
    space.save(fitted, folder)
    table = _table("check", ">value", "verdict", "meaning", title=fitted.name)
    for check in fitted.health:
        value = "–" if check["value"] is None else f"{check['value']:.3g}"
        table.add_row(check["name"], value, check["verdict"], check["meaning"])
    _show({"space": fitted.name, "folder": str(folder), "health": list(fitted.health)}, table, as_json)


@app.command()
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
    chat, there = _open(model, precision, rendering, space)
    chosen = [resolve(name, chat) for name in prompt or available(chat)]
    points = place(there, chat, query, chosen)
    table = _table("prompt", ">refusal", ">refusal logit", ">harmfulness logit", "components 1, 2",
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
    _show({"space": there.name, "points": [p.as_dict() for p in points]}, table, as_json)


@app.command()
def answer(
    query: Annotated[str, typer.Argument(help="What a user would ask.")],
    prompt: Annotated[str, typer.Option(help="A prompt's name, see `locate`.")] = "none",
    max_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 128,
    seed: Annotated[int | None, typer.Option(help="Sample with this seed (default: greedy).")] = None,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    as_json: AsJson = False,
    space: SpaceFolder = None,
) -> None:
    """Let the model answer a query under a safety prompt, and judge the answer."""
    from dro import refusal
    from dro.generate import Decoding, answers
    from dro.progress import on_stderr
    from dro.prompts import resolve

    data.check_query(query)
    decoding = Decoding(max_tokens, temperature=0.0 if seed is None else 1.0, seed=seed or 0)
    with on_stderr() as progress:
        chat = _load(model, precision, rendering, progress)
        if space is not None:
            _space(chat, space)
    text = answers(chat, resolve(prompt, chat), [query], decoding)[0][0]
    verdict = refusal.judge(text)
    table = _table("prompt", "answer", "verdict")
    table.add_row(prompt, text, verdict.outcome)
    _show({"prompt": prompt, "answer": text, "verdict": verdict.outcome}, table, as_json)


@app.command()
def optimise(
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is gone on with.")],
    init: Annotated[str, typer.Option(help="Text prompt to start from.")] = "short",
    steps: Annotated[int, typer.Option(help="Updates of the soft prompt.")] = 160,
    batch: Annotated[int, typer.Option(help="Queries in each update.")] = 50,
    lr: Annotated[float, typer.Option(help="Learning rate (paper: 0.001).")] = 2e-3,
    schedule: Annotated[str, typer.Option(help="cosine, or constant (as in the paper).")] = "cosine",
    target: Annotated[
        str, typer.Option(help="absolute, or difference (from the start, as in the paper).")
    ] = "absolute",
    harmless_weight: Annotated[
        float, typer.Option(help="Weight of a harmless query, a harmful one counting 1 (paper: 1).")
    ] = 4.0,
    harmfulness_weight: Annotated[float, typer.Option(help="Weight of L_h (paper: 0.01).")] = 0.3,
    residual_weight: Annotated[float, typer.Option(help="Weight β of L_U.")] = 0.001,
    seed: Annotated[int, typer.Option(help="Seed of the batches.")] = 42,
    validate_every: Annotated[int, typer.Option(help="Steps between held-out looks; 0: none.")] = 10,
    train: Annotated[
        Path | None, typer.Option(help="csv or jsonl with query and class (default: the anchors).")
    ] = None,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Train a soft safety prompt (DRO). Ctrl-C stops and keeps what is there."""
    import statistics

    from dro.optimise import Optimisation
    from dro.progress import on_stderr

    config = _config(
        init=init, target=target, harmless_weight=harmless_weight, steps=steps, batch=batch, lr=lr,
        schedule=schedule, harmfulness_weight=harmfulness_weight, residual_weight=residual_weight,
        seed=seed, validate_every=validate_every,
    )  # fmt: skip
    queries = data.read_labelled(train) if train else data.bundled("anchors")
    held_out = data.bundled("validation", "select")
    chat, there = _open(model, precision, rendering, space)
    stopped = False
    with on_stderr() as progress:
        run = Optimisation(chat, there, config, queries, held_out, out, progress)
        try:
            for step in run.steps():
                progress(f"Training: loss {step.loss:.3f}", step.step / config.steps)
        except KeyboardInterrupt:
            stopped = True
        if run.done == 0:
            raise DroError("Stopped before the first step: there is nothing to keep.")
        run.finish()
    curve = run.curve
    seconds = statistics.median(s.seconds for s in curve)
    last = next((s.validation for s in reversed(curve) if s.validation), None)
    summary = {
        "run": str(out),
        "steps": run.done,
        "stopped": stopped,
        "seconds_per_step": seconds,
        "loss": [s.loss for s in curve],
        "validation": [{"step": s.step, **s.validation} for s in curve if s.validation],
    }
    table = _table("run", ">steps", ">s a step", ">first loss", ">last loss", ">held-out loss")
    table.add_row(
        str(out), str(run.done), f"{seconds:.2f}", f"{curve[0].loss:.3f}", f"{curve[-1].loss:.3f}",
        f"{last['loss']:.3f}" if last else "–",
    )  # fmt: skip
    _show(summary, table, as_json)


@app.command()
def evaluate(
    prompt: PromptNames = None,
    harmful: Annotated[Path | None, typer.Option(help="Harmful queries, one a line.")] = None,
    harmless: Annotated[Path | None, typer.Option(help="Harmless queries, one a line.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 24,
    samples: Annotated[int, typer.Option(help="Answers to each query; above 1 they are sampled.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N queries of each class.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    answers: Annotated[Path | None, typer.Option(help="Write every answer to this .jsonl file.")] = None,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Count refusals on queries that no prompt was trained on (default: the bundled test sets)."""
    from dro.evaluate import evaluate as measure
    from dro.generate import Decoding
    from dro.progress import on_stderr
    from dro.prompts import available, resolve

    sets = [
        data.as_set(data.read_texts(path), kind == data.HARMFUL, path.name)
        for kind, path in ((data.HARMFUL, harmful), (data.HARMLESS, harmless))
        if path
    ] or [data.bundled("test")]
    decoding = Decoding(max_tokens, samples, temperature=0.0 if samples == 1 else 1.0, seed=seed)
    with on_stderr() as progress:
        chat = _load(model, precision, rendering, progress)
        if space is not None:
            _space(chat, space)
        chosen = [resolve(name, chat) for name in prompt or available(chat)]
        report = measure(chat, chosen, [s.limit(limit) for s in sets], decoding, progress)
    if answers:
        from dro.store import write_bytes

        lines = [json.dumps(said.as_dict(), ensure_ascii=False) + "\n" for said in report.said]
        write_bytes(answers, "".join(lines).encode())
    table = _table("prompt", "set", "class", ">n", ">refused", ">answered", ">broken", ">refused, 95%",
                   title=f"judge: {report.rates[0].judge}")  # fmt: skip
    for row in report.rates:
        table.add_row(
            row.prompt, row.set, row.label, str(row.n), f"{row.refused:g}", f"{row.answered:g}",
            f"{row.broken:g}", f"{row.rate:.1%}  [{row.low:.1%}, {row.high:.1%}]",
        )  # fmt: skip
    _show({"results": [row.as_dict() for row in report.rates]}, table, as_json)


def _load(name: str, precision: str, rendering: Path | None, progress: Progress) -> ChatModel:
    from dro.rendering import from_file

    given = from_file(rendering) if rendering else None
    return models.load(name, precision, given, progress)  # type: ignore[arg-type]  # checked there


def _space(chat: ChatModel, folder: Path | None) -> Space:
    from dro.space import find

    return find(chat, folder)


def _open(name: str, precision: str, rendering: Path | None, folder: Path | None) -> tuple[ChatModel, Space]:
    from dro.progress import on_stderr

    with on_stderr() as progress:
        chat = _load(name, precision, rendering, progress)
    return chat, _space(chat, folder)


def _config(**fields: Any) -> Any:
    from pydantic import ValidationError

    from dro.optimise import Config

    try:
        return Config(**fields)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"These settings cannot be: {told}.", "See optimise --help.") from None


def _table(*columns: str, title: str = "") -> Table:
    """A table; a column named with > is aligned right."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left",
                         overflow="fold")  # fmt: skip
    return table


def _show(content: Any, table: Table, as_json: bool) -> None:
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(table, markup=False)
