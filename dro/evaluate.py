"""Evaluation on queries a prompt has never seen: answers -> verdicts -> rates with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dro.data import CLASSES, QuerySet
from dro.generate import Decoding, answers
from dro.judges import Judge, Phrases
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.shards import Shards, done_here
from dro.sources import Progress, silent
from dro.states import PrefixCache
from dro.store import content_hash

CONFIDENCE = 0.95
Ask = Callable[[SafetyPrompt, Sequence[str], Progress], list[list[str]]]
"""Gives the answers to queries under a prompt: for each query as many as there are samples."""


@dataclass(frozen=True)
class Rate:
    """One row of a report: a prompt on one class of one set.

    n counts queries. refused, answered and broken add up to n; with K samples a query they are counts
    of answers divided by K. rate = refused / n with its 95% interval [low, high].
    """

    prompt: str
    set: str
    label: str
    n: int
    refused: float
    answered: float
    broken: float
    rate: float
    low: float
    high: float
    judge: str

    def as_dict(self) -> dict[str, Any]:
        return {"class" if name == "label" else name: value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Said:
    """One answer and its verdict."""

    prompt: str
    label: str
    query: str
    answer: str
    verdict: str

    def as_dict(self) -> dict[str, str]:
        return {"prompt": self.prompt, "class": self.label, "query": self.query,
                "answer": self.answer, "verdict": self.verdict}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """Rates, prompt by prompt, harmful before harmless; and everything that was said, in that order."""

    rates: tuple[Rate, ...]
    said: tuple[Said, ...]


def evaluate(
    model: ChatModel,
    prompts: Sequence[SafetyPrompt],
    queries: Sequence[QuerySet],
    decoding: Decoding = Decoding(),
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
    judge: Judge = Phrases(),
    shards: Shards | None = None,
) -> Report:
    """Answer every query under every prompt and judge the answers.

    shards: where the answers of finished parts are kept, a prompt on a class of a set each (see
        `shards_of`); None: nowhere.
    """
    prefixes = PrefixCache(model)
    keep = shards.part if shards else done_here

    def ask(prompt: SafetyPrompt, texts: Sequence[str], report: Progress) -> list[list[str]]:
        key = part_key(prompt, texts, decoding)
        return keep(key, lambda: answers(model, prompt, texts, decoding, prefixes, report, checkpoint))

    return collect(ask, prompts, queries, decoding.seed, progress, judge)


def collect(
    ask: Ask,
    prompts: Sequence[SafetyPrompt],
    queries: Sequence[QuerySet],
    seed: int = 0,
    progress: Progress = silent,
    judge: Judge = Phrases(),
) -> Report:
    """`evaluate`, whoever answers."""
    parts = [(q.of(label), label) for q in queries for label in CLASSES if len(q.of(label))]
    total = len(prompts) * sum(len(q) for q, _ in parts)
    rates: list[Rate] = []
    said: list[Said] = []
    done = 0
    for prompt in prompts:
        for part, label in parts:

            def report(text: str, fraction: float, done: int = done, size: int = len(part)) -> None:
                progress(text, (done + fraction * size) / total)

            spoken = ask(prompt, part.texts, report)
            asked = [query for query, each in zip(part.texts, spoken, strict=True) for _ in each]
            judged = iter(judge(asked, [answer for each in spoken for answer in each]))
            verdicts = [[next(judged).outcome for _ in each] for each in spoken]
            rates.append(rate(prompt.name, part.name, label, verdicts, judge.name, seed))
            said += [
                Said(prompt.name, label, query, answer, verdict)
                for query, each, judged in zip(part.texts, spoken, verdicts, strict=True)
                for answer, verdict in zip(each, judged, strict=True)
            ]
            done += len(part)
    return Report(tuple(rates), tuple(said))


def ground_of(model: ChatModel) -> dict[str, Any]:
    """What every part of an evaluation of this model depends on."""
    return {
        "work": "evaluate", "model": model.name, "revision": model.revision, "precision": model.precision,
        "rendering": asdict(model.rendering),
    }  # fmt: skip


def part_key(prompt: SafetyPrompt, texts: Sequence[str], decoding: Decoding) -> dict[str, Any]:
    """What names the answers to queries under a prompt."""
    return {"prompt": prompt.digest, "queries": content_hash(list(texts)), **asdict(decoding)}


def shards_of(model: ChatModel) -> Shards:
    """The parts of evaluations of this model; clear them once the report is written."""
    return Shards(ground_of(model))


def rate(
    prompt: str, set_name: str, label: str, verdicts: Sequence[Sequence[str]], judge: str, seed: int = 0
) -> Rate:
    """Count verdicts (queries × samples) and put an interval around the refusal rate."""
    samples = len(verdicts[0])
    counts = Counter(v for each in verdicts for v in each)
    refused, answered, broken = (_count(counts[o], samples) for o in ("refused", "answered", "broken"))
    shares = np.array([np.mean([v == "refused" for v in each]) for each in verdicts])
    low, high = interval(shares, samples, seed)
    return Rate(prompt, set_name, label, len(verdicts), refused, answered, broken,
                float(shares.mean()), low, high, judge)  # fmt: skip


def interval(shares: np.ndarray, samples: int = 1, seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean of per-query shares.

    One sample a query: Wilson. Several: percentile bootstrap over queries, since a query's answers
    hang together; where all queries agree it would have no width, and Wilson over queries is given.
    """
    from scipy import stats

    if samples == 1 or np.ptp(shares) == 0:
        successes = round(float(shares.sum()))
        found = stats.binomtest(successes, len(shares)).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)
    drawn = stats.bootstrap(
        (shares,),
        np.mean,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(drawn.low), float(drawn.high)


def _count(answers_counted: int, samples: int) -> float:
    """Answers over samples; a whole number stays one."""
    value = answers_counted / samples
    return int(value) if value.is_integer() else value
