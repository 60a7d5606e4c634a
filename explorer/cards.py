"""Small pieces of html: legend, table, answers, rates, health. What visitors and models wrote is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from explorer import text
from explorer.palette import PROMPT_SHAPES, PROMPTS, Colour
from explorer.views import Scatter

_MARKS = {"pass": "✓", "weak": "~", "fail": "✗"}


@dataclass(frozen=True)
class Row:
    """A query under one prompt: a probability, a logit, a shift in the anchors' standard deviations."""

    prompt: str
    refusal: float | None
    harmfulness: float
    shift: float | None
    trained: bool
    beyond: bool
    verdict: str | None = None


def legend(
    faint: str | None, focus: str | None, colour: Colour = "class", unasked: bool = False,
    prompts: Sequence[str] = (),
) -> str:  # fmt: skip
    """What the colours and shapes of the cloud mean."""
    parts = []
    if colour == "verdict":
        shapes = [("◆", "refused", "refused"), ("●", "answered", "answered")]
        parts += [_key(f"<i class='{kind}'>{sign}</i>{label}") for sign, kind, label in shapes]
    elif colour == "prompt":
        signs = dict(zip(PROMPT_SHAPES, "●◆▲⬟▼⬢", strict=True))
        for number, name in enumerate(prompts):
            sign = signs[PROMPT_SHAPES[(number + number // len(PROMPTS)) % len(PROMPT_SHAPES)]]
            mark = f"<i style='color:{PROMPTS[number % len(PROMPTS)]};font-style:normal'>{sign}</i>"
            parts.append(_key(f"{mark}{prompt_label(name)}"))
    elif colour == "refusal":
        parts.append(_key("0%<i class='scale'></i>100% refusal<i class='shape'>◆</i>50% or more"))
    if colour == "class":
        parts += [_key('<i class="dot harmful"></i>harmful'), _key('<i class="dot ring"></i>harmless')]
        parts += [_key('<i class="shape">◆◇</i>refused'), _key('<i class="shape">●○</i>answered')]
    else:
        parts += [
            _key('<i class="shape">●</i>harmful, filled'),
            _key('<i class="shape">○</i>harmless, a ring'),
        ]
    parts += [_key('<i class="shape">■</i>group mean'), _key('<i class="query">★</i>your question')]
    if unasked and colour in ("class", "verdict"):
        parts.append(_key('<i class="shape">▲</i>answers not sampled'))
    if focus and colour != "prompt":
        told = f"cloud: <b>{escape(focus)}</b>"
        if faint:
            told += f" over <span class='faint'>{escape(faint)}</span> (faint)"
        parts.append(_key(told))
    return f'<div class="legend">{"".join(parts)}</div>'


def _key(told: str) -> str:
    return f'<span class="key">{told}</span>'


def caption(view: Scatter | None) -> str:
    """What the drawn boundary hides, in words."""
    if view is None or (view.arrow is None and view.boundary is None):
        return '<p class="caption">This space has no refusal direction.</p>' if view else ""
    if view.axes == "three":
        return '<p class="caption">The purple arrow is the refusal direction. Drag to turn.</p>'
    if view.axes == "probes":
        return (
            '<p class="caption">Both axes are probe logits over all components: right of the dashed line '
            "the probe expects a refusal, above zero it takes the query to be harmful.</p>"
        )
    shadow = view.shadow
    assert shadow is not None
    return (
        '<p class="caption">Dashed: f_r = 0 where the unseen components have the anchors\' mean. '
        f"{shadow.wrong:,} of {shadow.total:,} anchors lie on its wrong side, since this plane holds "
        f"{shadow.share:.0%} of the length of w_r.</p>"
    )


def table(rows: Sequence[Row], base: str) -> str:
    """Refusal probability, harmfulness, shift and verdict for each prompt."""
    if not rows:
        return quiet(text.ASK_FIRST)
    lines = []
    for row in rows:
        refusal = text.NO_PROBE if row.refusal is None else share_bar(row.refusal)
        if row.trained:
            refusal += (
                f'<small title="This prompt was trained to raise this very score">{text.TRAINED_ON}</small>'
            )
        shift = text.NO_PROBE if row.shift is None else f"{row.shift:+.2f}"
        mark = f' <span class="beyond" title="{text.BEYOND}">⚠</span>' if row.beyond else ""
        lines.append(
            f"<tr><th scope='row'>{prompt_label(row.prompt)}{mark}</th><td>{refusal}</td>"
            f"<td class='number'>{row.harmfulness:+.2f}</td><td class='number'>{shift}</td>"
            f"<td>{badge(row.verdict)}</td></tr>"
        )
    beyond = f'<p class="caption">⚠ {text.BEYOND}: no score there is evidence.</p>'
    return (
        "<div class='scroll'><table class='facts'><thead><tr><th scope='col'>prompt</th>"
        "<th scope='col'>refusal<small>probability</small></th>"
        "<th scope='col'>harmfulness<small>logit</small></th>"
        f"<th scope='col'>shift<small>sd from {escape(base)}</small></th>"
        f"<th scope='col'>observed</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        + (beyond if any(r.beyond for r in rows) else "")
    )


def answers(prompts: Sequence[str], told: Sequence[tuple[str, str | None]], judge: str, hidden: bool) -> str:
    """Answers side by side, each with its verdict; behind one click where `hidden`."""
    cards = []
    for prompt, (said, verdict) in zip(prompts, told, strict=True):
        told_by = f" <small>judge: {judge}</small>" if verdict else ""
        state = text.WRITING if verdict is None else f"{badge(verdict)}{told_by}"
        body = f'<div class="said">{escape(said) or "&nbsp;"}</div>'
        if hidden:
            body = f'<div class="veil">{text.HIDDEN}</div>{body}'
        cards.append(
            f'<article class="answer"><header>{prompt_label(prompt)}<span>{state}</span></header>'
            f"{body}</article>"
        )
    return f'<div class="answers{" veiled" if hidden else ""}">{"".join(cards)}</div>'


def rates(rows: Sequence[Mapping[str, Any]]) -> str:
    """Refused, answered, broken on harmful and harmless queries, with intervals."""
    if not rows:
        return ""
    lines = [
        f"<tr><th scope='row'>{prompt_label(row['prompt'])}</th><td>{row['class']}</td>"
        f"<td>{_interval(row)}</td><td class='number'>{row['refused']:g}</td>"
        f"<td class='number'>{row['answered']:g}</td><td class='number'>{row['broken']:g}</td></tr>"
        for row in rows
    ]
    kinds = ("refused", "answered", "broken")
    counted = "".join(f"<th scope='col'>{kind} <small>queries</small></th>" for kind in kinds)
    first = rows[0]
    counts = " and ".join(f"{n} {label}" for label, n in {row["class"]: row["n"] for row in rows}.items())
    return (
        "<div class='scroll'><table class='facts'><thead><tr><th scope='col'>prompt</th>"
        "<th scope='col'>class</th>"
        "<th scope='col'>refused <small>share, 95% interval</small></th>"
        f"{counted}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div><p class='caption'>{counts} queries of "
        f"{escape(first['set'])}; greedy answers of 24 tokens, judge: {escape(first['judge'])}, Wilson "
        "intervals.</p>"
    )


def region(told: Mapping[str, Any]) -> str:
    """What the probe that a run was trained on is worth on the run's own held-out states."""
    auc = "is not defined" if told["auc"] is None else f"is {told['auc']:.3f}"
    return (
        "<p class='caption'>The refusal score was trained on, so only the answers count as evidence. Held "
        f"against them, its AUC {auc}; it predicts {told['predicted']:.0%} refusals where "
        f"{told['observed']:.0%} were seen. {told['beyond']:.0%} of these states are {text.BEYOND}.</p>"
    )


def comparison(first: str, second: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Exact McNemar test between two prompts, class by class."""
    lines = "".join(
        f"<tr><th scope='row'>{label}</th><td class='number'>{told['only_first']}</td>"
        f"<td class='number'>{told['only_second']}</td><td class='number'>{told['both']}</td>"
        f"<td class='number'>{told['neither']}</td><td class='number'>{_probability(told['p'])}</td></tr>"
        for label, told in found.items()
    )
    return (
        "<div class='scroll'><table class='facts'><thead><tr><th scope='col'>queries refused by</th>"
        f"<th scope='col'>only {prompt_label(first)}</th><th scope='col'>only {prompt_label(second)}</th>"
        "<th scope='col'>both</th><th scope='col'>neither</th>"
        "<th scope='col'>p<small>exact McNemar</small></th>"
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def evaluated(
    rows: Sequence[tuple[str, str, Mapping[str, str], Mapping[str, str], Mapping[str, str]]],
    prompts: Sequence[str],
    total: int,
) -> str:
    """Queries with what was said under each prompt: (query, class, answers, verdicts, other verdicts).

    Answers to harmful queries that were not refused stay hidden until they are asked for.
    """
    head = "".join(f"<th scope='col'>{prompt_label(name)}</th>" for name in prompts)
    lines = []
    for query, label, answers, verdicts, others in rows:
        cells = []
        for name in prompts:
            verdict, other = verdicts.get(name), others.get(name)
            doubt = f" <small>first token: {other}</small>" if other and other != verdict else ""
            said = f'<div class="said">{escape(answers.get(name, ""))}</div>'
            veiled = label == "harmful" and verdict != "refused"
            body = f'<div class="veiled"><div class="veil">hidden</div>{said}</div>' if veiled else said
            cells.append(f"<td>{badge(verdict)}{doubt}{body if verdict else ''}</td>")
        asked = f"<th scope='row' class='{label}'>{escape(query)}<small>{label}</small></th>"
        lines.append(f"<tr>{asked}{''.join(cells)}</tr>")
    shown = f"{len(rows)} of {total} queries" if len(rows) < total else f"{total} queries"
    return (
        f"<p class='caption'>{shown}. Verdicts by the judge phrases; where the judge first-token sees it "
        "otherwise, it says so.</p><div class='scroll tall'><table class='facts said-table'><thead><tr>"
        f"<th scope='col'>query</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def health(checks: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> str:
    """The health report in plain words, and where the space comes from."""
    items = []
    for check in checks:
        value = check["value"]
        told = "" if value is None else f"{value:.0f}" if abs(value) >= 10 else f"{value:.3g}"
        shown = f" <span class='number'>{told}</span>" if told else ""
        items.append(
            f"<li class='{check['verdict']}'><b><span class='mark' aria-label='{check['verdict']}'>"
            f"{_MARKS[check['verdict']]}</span> {escape(check['name'])}</b>{shown} "
            f"<em>{check['verdict']}</em><br>{escape(check['meaning'])}</li>"
        )
    anchors, labels = provenance["anchors"], provenance["labels"]
    facts = {
        "space": provenance["name"],
        "model": f"{provenance['model']}, revision {str(provenance['revision'])[:12]}, "
        f"{provenance['precision']}",
        "states": provenance["states"],
        "prompts": ", ".join(provenance["prompts"]),
        "anchors": f"{anchors['queries']} of {anchors['name']} (sha256 {anchors['sha256'][:12]})",
        "labels": f"{labels['greedy']} greedy and {labels['samples']} sampled answers of "
        f"{labels['max_tokens']} tokens each, judge: {labels['judge']}, answered in {labels['precision']}",
        "projection": f"{provenance['projection']}, m = {provenance['m']}",
    }
    rows = "".join(f"<dt>{k}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return f"<ul class='health'>{''.join(items)}</ul><dl class='provenance'>{rows}</dl>"


def quiet(told: str) -> str:
    """A remark in a small voice."""
    return f'<p class="quiet">{escape(told)}</p>'


def duration(seconds: float) -> str:
    """Seconds or minutes, with no more digits than they deserve."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"


def progress(label: str, share: float, kind: str = "") -> str:
    """One line with a bar: where something stands."""
    done = max(0.0, min(1.0, share))
    bar = "" if kind in ("ready", "failed", "no space") else (
        f"<span class='track'><span style='width:{done:.1%}'></span></span>"
    )  # fmt: skip
    return (
        f"<div class='status {kind.replace(' ', '-')}' role='status'><span>{escape(label)}</span>{bar}</div>"
    )


def prompt_label(name: str) -> str:
    """A prompt's name, cut where it is long; whole on hover."""
    shown = name.removeprefix("text:")
    short = shown if len(shown) <= 40 else f"{shown[:39]}…"
    return f'<span title="{escape(shown)}">{escape(short)}</span>'


def share_bar(share: float) -> str:
    """A share in [0, 1] as a bar and a percentage."""
    return (
        f"<span class='meter' role='img' aria-label='{share:.0%}'>"
        f"<span style='width:{share:.1%}'></span></span>"
        f"<span class='number'>{share:.0%}</span>"
    )


def _interval(row: Mapping[str, Any]) -> str:
    """A rate as a bar with its interval as a whisker."""
    return (
        f"<span class='meter wide'><span style='width:{row['rate']:.1%}'></span>"
        f"<i style='left:{row['low']:.1%};width:{row['high'] - row['low']:.1%}'></i></span>"
        f"<span class='number'>{row['rate']:.0%}</span><small>{row['low']:.0%} to {row['high']:.0%}</small>"
    )


def badge(verdict: str | None) -> str:
    """A verdict as a coloured word; None: not yet, "": stopped before there was one."""
    if verdict == "":
        return f"<span class='verdict none'>{text.ANSWER_STOPPED}</span>"
    if verdict is None:
        return "<span class='verdict none'>…</span>"
    return f"<span class='verdict {verdict}'>{verdict}</span>"
