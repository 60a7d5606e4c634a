"""Commands about answers: answer, evaluate, judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dro import data, refusal, tables
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
    open_judge,
    open_space,
    rates_table,
    rendering_of,
    show,
    table_of,
)
from dro.errors import DataError
from dro.registry import DEFAULT

BACKENDS = ("here", "openai")


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
    from dro.generate import Decoding, answers
    from dro.progress import on_stderr
    from dro.prompts import resolve

    data.check_query(query)
    decoding = Decoding(max_tokens, temperature=0.0 if seed is None else 1.0, seed=seed or 0)
    with on_stderr() as progress:
        chat = load(model, precision, rendering, progress)
        if space is not None:
            open_space(chat, space)
    text = answers(chat, resolve(prompt, chat), [query], decoding)[0][0]
    verdict = refusal.judge(text)
    table = table_of("prompt", "answer", "verdict")
    table.add_row(prompt, text, verdict.outcome)
    show({"prompt": prompt, "answer": text, "verdict": verdict.outcome}, table, as_json)


def evaluate(
    prompt: PromptNames = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="test, advbench, malicious_instruct, jailbreakbench, xstest, harmbench, or NAME=PATH. "
            "May be given several times.",
        ),
    ] = None,
    harmful: Annotated[Path | None, typer.Option(help="Harmful queries, one a line.")] = None,
    harmless: Annotated[Path | None, typer.Option(help="Harmless queries, one a line.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 24,
    samples: Annotated[int, typer.Option(help="Answers to each query; above 1 they are sampled.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N queries of each class.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    answers: Annotated[Path | None, typer.Option(help="Write every answer to this .jsonl file.")] = None,
    judge: Annotated[str, typer.Option(help="phrases, first-token or model:NAME.")] = refusal.PHRASES,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    backend: Annotated[str, typer.Option(help="here, or openai: a server of that protocol.")] = "here",
    base_url: Annotated[str, typer.Option(help="The server, such as http://127.0.0.1:8000/v1.")] = "",
    served_model: Annotated[str, typer.Option(help="The model, as the server calls it.")] = "",
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Requests to a server at a time.")] = 4,
    engine: EngineName = "here",
    workers: Workers = 0,
    worker_cpus: WorkerCpus = 1,
    worker_gpus: WorkerGpus = None,
    as_json: AsJson = False,
) -> None:
    """Count refusals on queries that no prompt was trained on (default: the bundled test sets).

    With --backend openai a server is asked; its prompts are texts and `served`: no system message.
    """
    from dro import benchmarks, outline, served, spread
    from dro import engine as engines
    from dro.evaluate import collect, shards_of
    from dro.evaluate import evaluate as measure
    from dro.generate import Decoding
    from dro.progress import on_stderr
    from dro.prompts import available, resolve

    if backend not in BACKENDS or (backend == "here") == bool(base_url):
        raise DataError(f"The backend {backend!r} and --base-url {base_url!r} do not go together.",
                        "Use --backend openai --base-url URL, or neither.")  # fmt: skip
    engines.check(engine)
    spreading = engine != engines.HERE
    if spreading and backend != "here":
        raise DataError("A server spreads its own work.", "Leave --engine out; see --at-once.")

    files = [
        data.as_set(data.read_texts(path), kind == data.HARMFUL, path.name)
        for kind, path in ((data.HARMFUL, harmful), (data.HARMLESS, harmless))
        if path
    ]
    decoding = Decoding(max_tokens, samples, temperature=0.0 if samples == 1 else 1.0, seed=seed)
    with on_stderr() as progress:
        named = [benchmarks.load(name, progress) for name in sets or ([] if files else ["test"])]
        chat = load(model, precision, rendering, progress) if backend == "here" and not spreading else None
    asked = [queries.limit(limit) for queries in [*(queries for queries, _ in named), *files]]
    if chat is not None and space is not None:
        open_space(chat, space)
    server = parts = None
    if spreading:
        given = rendering_of(rendering)
        with on_stderr() as progress:
            known = outline.of_name(model, given, progress)
        chosen = [resolve(name, known) for name in prompt or available(known)]
        decide = open_judge(judge, model, precision, rendering, space)
        opened, size = (
            engines.Opened(model, precision, given), engines.Size(workers, worker_cpus, worker_gpus)
        )  # fmt: skip
        with on_stderr() as progress, engines.opened(engine, opened, size, progress) as there:
            report, parts = spread.evaluate(there, chosen, asked, decoding, progress, decide)
    elif chat is None:
        chosen = [served.resolve(name) for name in prompt or [served.SERVED]]
        server = served.connect(base_url, served_model, at_once)
        decide = open_judge(judge, model, precision, rendering, space)
        with on_stderr() as progress:
            report = collect(
                lambda prompt, texts, told: server.answers(prompt, texts, decoding, told),
                chosen, asked, seed, progress, decide,
            )  # fmt: skip
    else:
        decide = open_judge(judge, model, precision, rendering, space, chat)
        chosen = [resolve(name, chat) for name in prompt or available(chat)]
        parts = shards_of(chat)
        with on_stderr() as progress:
            report = measure(chat, chosen, asked, decoding, progress, judge=decide, shards=parts)
    if answers:
        from dro.store import write_bytes

        lines = [json.dumps(said.as_dict(), ensure_ascii=False) + "\n" for said in report.said]
        write_bytes(answers, "".join(lines).encode())
    if parts is not None:
        parts.clear()
    table = rates_table(report.rates, f"judge: {report.rates[0].judge}")
    used = [one.as_dict() for _, each in named for one in each]
    asked_of = {"server": base_url, "served_model": server.model} if server is not None else {}
    show({"results": [row.as_dict() for row in report.rates], "sets": used, **asked_of}, table, as_json)


def judge(
    file: Annotated[Path, typer.Argument(help="csv, tsv or jsonl file with a column of answers.")],
    column: Annotated[str, typer.Option(help="Column of the answers.")] = "answer",
    query_column: Annotated[
        str | None, typer.Option(help="Column of what was asked; a model judge reads it.")
    ] = None,
    judge: Annotated[str, typer.Option(help="phrases, first-token or model:NAME.")] = refusal.PHRASES,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Judge the answers in a file, in its order: refused, answered, or broken.

    --model and --space name the model that gave the answers; only the judge first-token needs them.
    """
    from dro import judges

    judges.check(judge)
    rows = tables.read(file)
    answers = tables.column(file, rows, column)
    queries = tables.column(file, rows, query_column) if query_column else [""] * len(answers)
    if not rows:
        raise DataError(f"{file.name} holds no answer.", "Put one answer into each row.")
    decide = open_judge(judge, model, precision, rendering, space)
    verdicts = decide(queries, answers)
    table = table_of("answer", "verdict", "evidence", title=f"judge: {decide.name}")
    for answer, verdict in zip(answers, verdicts, strict=True):
        table.add_row(answer[:80], verdict.outcome, verdict.evidence)
    told = [{"verdict": v.outcome, "refused": v.refused, "evidence": v.evidence} for v in verdicts]
    show({"judge": decide.name, "rows": told}, table, as_json)
