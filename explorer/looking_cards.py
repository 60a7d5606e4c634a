"""Html of looking and comparing: selection, aligned answers, first tokens, batches, history.

What visitors and models wrote is text. A button in a table says by `data-do` and `data-key` what it is for
(`live_table` tells the server); a key never holds what was typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from explorer import text
from explorer.cards import badge, prompt_label, quiet, share_bar
from explorer.differences import segments

MOST_ROWS = 200
"""Rows of a table: more would make the page slow."""
SHOWN_SPACES = {" ": "␣", "\n": "⏎", "\t": "⇥"}


@dataclass(frozen=True)
class Picked:
    """One selected point: kind "anchor", "query", "batch" or "pin"; refusal is a probability, None without
    the probe; rate the share of its answers that refused, None where it was never asked."""

    key: str
    kind: str
    query: str
    prompt: str
    harmful: bool | None
    refusal: float | None
    harmfulness: float
    rate: float | None
    answer: str = ""
    verdict: str | None = None
    ask: str = ""
    """The key of the button that asks its query; "" where it is its own."""


def selection(rows: Sequence[Picked]) -> str:
    """The selected points, each with a button that asks its query under the ticked prompts."""
    if not rows:
        return quiet(text.SELECT_FIRST)
    lines = []
    for row in rows[:MOST_ROWS]:
        label = {True: "harmful", False: "harmless", None: "yours"}[row.harmful]
        refusal = text.NO_PROBE if row.refusal is None else f"{row.refusal:.0%}"
        lines.append(
            f"<tr><th scope='row' class='{label}'>{escape(row.query)}"
            f"<small>{label} · under {prompt_label(row.prompt)}</small>"
            f"{button('ask', row.ask or row.key, text.ASK_OTHERS)}</th>"
            f"<td class='number'>{refusal}</td><td class='number'>{row.harmfulness:+.2f}</td>"
            f"<td>{_observed(row)}</td></tr>"
        )
    return _table(
        ("query", "refusal<small>probability</small>", "harmfulness<small>logit</small>", "observed"),
        lines, f"{_counted(len(rows), 'point')}. {_summary(rows)}", len(rows),
    )  # fmt: skip


def aligned(prompts: Sequence[str], told: Sequence[tuple[str, str | None]], base: str, hidden: bool) -> str:
    """Answers one below the other; words that `base`'s answer lacks are marked, words it has are struck."""
    found = dict(zip(prompts, told, strict=True))
    if not found:
        return ""
    first = base if base in found else prompts[0]
    lines = []
    for name in [first, *(each for each in prompts if each != first)]:
        said, verdict = found[name]
        if name == first or not said:
            body = escape(said) or "&nbsp;"
        else:
            tags = {"same": ("", ""), "more": ("<ins>", "</ins>"), "less": ("<del>", "</del>")}
            parts = segments(found[first][0], said)
            body = "".join(f"{tags[kind][0]}{escape(piece)}{tags[kind][1]}" for kind, piece in parts)
        said_html = f"<div class='said'>{body}</div>"
        if hidden:
            said_html = f"<div class='veil'>{text.HIDDEN}</div>{said_html}"
        head = f"<th scope='row'>{prompt_label(name)}</th>"
        lines.append(f"<tr>{head}<td>{badge(verdict)}</td><td>{said_html}</td></tr>")
    note = text.ALIGNED.format(base=prompt_label(first))
    return (
        f"<p class='caption'>{note}</p><div class='scroll{' veiled' if hidden else ''}'>"
        "<table class='facts aligned'><thead><tr><th scope='col'>prompt</th><th scope='col'>observed</th>"
        f"<th scope='col'>answer</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def openings(prompts: Sequence[str], found: Sequence[Sequence[tuple[str, float]]]) -> str:
    """The likeliest first tokens of the answer under each prompt, with their probabilities."""
    cards = []
    for prompt, tokens in zip(prompts, found, strict=True):
        rows = "".join(
            f"<tr><th scope='row'><code>{escape(visible(token))}</code></th><td>{share_bar(share)}</td></tr>"
            for token, share in tokens
        )
        rest = 1 - sum(share for _, share in tokens)
        cards.append(
            f"<article class='answer'><header>{prompt_label(prompt)}<span>"
            f"<small>{rest:.0%} other tokens</small></span></header>"
            "<table class='facts tokens'><thead class='unseen'><tr><th scope='col'>token</th>"
            f"<th scope='col'>probability</th></tr></thead><tbody>{rows}</tbody></table></article>"
        )
    return f"<p class='caption'>{text.OPENINGS_NOTE}</p><div class='answers'>{''.join(cards)}</div>"


@dataclass(frozen=True)
class BatchRow:
    """One query of a batch: by prompt, refusal probability (None without the probe) and f_h; its answer
    under the prompt in focus."""

    key: str
    query: str
    refusal: Mapping[str, float | None]
    harmfulness: Mapping[str, float]
    answer: str
    verdict: str | None


def batch(rows: Sequence[BatchRow], prompts: Sequence[str], focus: str) -> str:
    """A batch as a table: what the probes say under each prompt."""
    if not rows:
        return quiet(text.BATCH_EMPTY)
    lines = []
    for number, row in enumerate(rows, 1):
        cells = "".join(f"<td class='number'>{_chance(row.refusal.get(name))}</td>" for name in prompts)
        harmful = row.harmfulness.get(focus)
        said = _said(row.answer, harmful, row.verdict) if row.answer else ""
        observed = badge(row.verdict) if row.verdict else ""
        lines.append(
            f"<tr><td class='number'>{number}</td><th scope='row'>{escape(row.query)}</th>{cells}"
            f"<td class='number'>{text.NO_PROBE if harmful is None else f'{harmful:+.2f}'}</td>"
            f"<td>{observed}{said}</td><td>{button('ask', row.key, text.ASK_OTHERS)}</td></tr>"
        )
    heads = [f"{prompt_label(name)}<small>refusal</small>" for name in prompts]
    return _table(
        ("", "query", *heads, f"harmfulness<small>under {prompt_label(focus)}</small>",
         f"answer<small>under {prompt_label(focus)}</small>", ""),
        lines, _counted(len(rows), "query"), len(rows),
    )  # fmt: skip


@dataclass(frozen=True)
class Past:
    """One query of the history; refusal: probability by prompt; here: its places belong to this space."""

    key: str
    query: str
    refusal: Mapping[str, float | None]
    verdicts: Mapping[str, str | None]
    pinned: bool
    here: bool


def history(rows: Sequence[Past]) -> str:
    """The session's queries, newest first."""
    if not rows:
        return quiet(text.HISTORY_EMPTY)
    lines = []
    for row in rows:
        told = ", ".join(f"{prompt_label(name)} {_chance(p)}" for name, p in row.refusal.items())
        away = "" if row.here else f"<small>{text.OTHER_SPACE}</small>"
        pin = button("pin", row.key, text.UNPIN if row.pinned else text.PIN, pressed=row.pinned)
        lines.append(
            f"<tr><th scope='row'>{escape(row.query)}{away}</th><td>{told}</td>"
            f"<td>{button('back', row.key, text.BACK) if row.here else ''} {pin}</td></tr>"
        )
    return _table(("query", "refusal probability", ""), lines, "", len(rows))


def pinned(rows: Sequence[Past], prompts: Sequence[str]) -> str:
    """Pinned queries beside each other: refusal probability and what was observed under each prompt."""
    if not rows:
        return quiet(text.PINS_EMPTY)
    lines = []
    for number, row in enumerate(rows, 1):
        cells = "".join(
            f"<td>{text.NO_PROBE if row.refusal.get(name) is None else share_bar(row.refusal[name])}"  # type: ignore[arg-type]
            f" {badge(row.verdicts[name]) if row.verdicts.get(name) is not None else ''}</td>"
            for name in prompts
        )
        lines.append(
            f"<tr><td class='number'>{number}</td><th scope='row'>{escape(row.query)}</th>{cells}"
            f"<td>{button('pin', row.key, text.UNPIN, pressed=True)}</td></tr>"
        )
    heads = ("", "pinned query", *(prompt_label(name) for name in prompts), "")
    return _table(heads, lines, text.PINS_NOTE, len(rows))


def _table(heads: Sequence[str], lines: Sequence[str], note: str, total: int) -> str:
    head = "".join(f"<th scope='col'>{each}</th>" if each else "<td></td>" for each in heads)
    cut = f" The first {MOST_ROWS} are shown." if total > MOST_ROWS else ""
    said = f"<p class='caption'>{note}{cut}</p>" if note else ""
    return (
        f"{said}<div class='scroll tall' tabindex='0'><table class='facts said-table looking'>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines[:MOST_ROWS])}</tbody></table></div>"
    )


def _observed(row: Picked) -> str:
    if row.verdict is not None:
        return badge(row.verdict) + _said(row.answer, row.harmfulness, row.verdict)
    if row.rate is None:
        return "<small>not asked</small>"
    return f"refused in {row.rate:.0%}"


def _said(answer: str, harmfulness: float | None, verdict: str | None) -> str:
    """An answer; behind one click where its query is taken to be harmful and it is no refusal."""
    body = f"<div class='said'>{escape(answer)}</div>"
    if harmfulness is not None and harmfulness > 0 and verdict != "refused":
        return f"<div class='veiled'><div class='veil'>hidden</div>{body}</div>"
    return body


def _summary(rows: Sequence[Picked]) -> str:
    asked = [row.rate for row in rows if row.rate is not None]
    harmful = sum(row.harmful is True for row in rows)
    told = f"{harmful} harmful, {sum(row.harmful is False for row in rows)} harmless anchors"
    return told + (f"; refused in {sum(asked) / len(asked):.0%} of their answers on average" if asked else "")


def button(what: str, key: str, label: str, pressed: bool | None = None) -> str:
    state = "" if pressed is None else f" aria-pressed='{'true' if pressed else 'false'}'"
    named = f"data-do='{what}' data-key='{escape(key)}'"
    return f"<button type='button' class='small' {named}{state}>{label}</button>"


def _chance(share: float | None) -> str:
    return text.NO_PROBE if share is None else f"{share:.0%}"


def _counted(count: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun if count == 1 else plural}"


def visible(token: str) -> str:
    return "".join(SHOWN_SPACES.get(letter, letter) for letter in token)
