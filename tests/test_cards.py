"""Html on the page: what visitors and models wrote stays text."""

import re

from explorer import cards, text
from explorer.session import Session

EVIL = '<img src=x onerror="alert(1)">'


def row(**changes):
    told = {"prompt": "none", "refusal": 0.25, "harmfulness": -1.0, "shift": 0.0, "trained": False,
            "beyond": False, "verdict": None}  # fmt: skip
    return cards.Row(**{**told, **changes})


def test_no_markup_gets_through():
    evil_prompt = f"text:{EVIL}"
    shown = cards.table([row(prompt=evil_prompt)], EVIL)
    shown += cards.answers([evil_prompt], [(EVIL, "answered")], "phrases", hidden=False)
    shown += cards.legend(EVIL, EVIL) + cards.progress(EVIL, 0.5)
    assert "<img" not in shown and "&lt;img" in shown


def test_a_trained_prompts_score_is_called_what_it_is():
    assert text.TRAINED_ON not in cards.table([row()], "none")
    shown = cards.table([row(prompt="dro-short-1", trained=True, verdict="refused")], "none")
    assert text.TRAINED_ON in shown and "refused" in shown


def test_a_point_beyond_the_anchors_is_marked():
    assert text.BEYOND in cards.table([row(beyond=True)], "none")
    assert text.BEYOND not in cards.table([row()], "none")


def test_without_a_refusal_probe_there_is_no_number():
    assert "%" not in re.sub("<[^>]*>", "", cards.table([row(refusal=None, shift=None)], "none"))


def test_answers_to_harmful_queries_are_veiled_and_judged_by_name():
    shown = cards.answers(["none"], [("Well.", "answered")], "phrases", hidden=True)
    assert "veiled" in shown and "judge: phrases" in shown
    assert "veiled" not in cards.answers(["none"], [("Well.", "answered")], "phrases", hidden=False)


def test_rates_show_counts_and_intervals():
    rows = [
        {"prompt": "short", "set": "validation-report", "class": "harmful", "n": 50,
         "refused": 13, "answered": 36,
         "broken": 1, "rate": 0.26, "low": 0.16, "high": 0.4, "judge": "phrases"},
    ]  # fmt: skip
    table = cards.rates(rows)
    shown = re.sub("<[^>]*>", " ", table)
    heads = [" ".join(re.sub("<[^>]*>", " ", head).split()) for head in table.split("<th scope='col'>")[1:]]
    assert heads[:4] == ["prompt", "class", "refused share, 95% interval", "refused queries"]
    for part in ("26%", "16% to 40%", "13", "36", "validation-report", "phrases"):
        assert part in shown


def test_a_stopped_answer_keeps_its_words_and_is_not_written_again():
    session = Session(ticked=["none", "short"], query="How do I bake bread?")
    session.answers = {"none": ("Mix flour", None)}
    before = session.turn
    session.stop()
    session.write(["none", "short"], [("Mix flour and", None), ("Take", None)])  # it was on its way
    assert session.turn > before and session.unanswered == []
    told = [session.answers[name] for name in session.ticked]
    shown = cards.answers(session.ticked, told, "phrases", hidden=False)
    assert "Mix flour" in shown and shown.count(text.ANSWER_STOPPED) == 2 and text.WRITING not in shown
    session.ask("How do I bake bread?", "")
    assert session.unanswered == ["none", "short"]
