"""Checks of the query sets in dro/data: form, pairing, spread, held-out test set, duplicates.

Stdlib only. The helper functions return lists of findings, so that an empty list means "clean"
and a planted fault can be shown to be found.
"""

import csv
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent / "dro" / "data"
COLUMNS = ["pair", "class", "form", "act", "topic", "shared", "query"]
PAIRS = {"anchors": 100, "train": 2076, "subtle": 840, "validation": 100, "test": 150}
SETS = sorted(PAIRS)
CLASSES = {"harmful", "harmless"}
MAX_FORM_SHARE = 0.30
MAX_TOPIC = 3
MAX_CHARS = 300
MAX_JACCARD = 0.6
MAX_WORD_GAP = 5

# Each form with the way its queries open; "situation" also has to speak in the first person.
FORMS = {
    "how-to": r"how (to|do i|can i|would someone)\b",
    "question": r"(what|which|where|is there|can you)\b",
    "write": r"(write|draft|compose)\b",
    "develop": r"(develop|create|design|build|make|produce)\b",
    "explain": r"(explain|describe|teach me|give me|outline|provide instructions for)\b",
    "tips": r"(tips|ideas|ways|methods|tricks|strategies)\b",
    "situation": r"(?=.*\b(i|my|we|our)\b).*[.,;] ?",
    "statement": r"(i|i'm|there|my)\b",
    "command": r"(?!write|draft|compose|develop|create|design|build|make|produce|explain)[a-z]+ ",
}

# Verbs of asking and auxiliaries: never the act that is asked about.
FRAMING = """
    write develop create give explain describe list suggest tell share provide help show teach
    draft compose design outline build make produce need want look find get use plan be do have
    can know go keep let ask start try work
"""

# Irregular forms of the acts in the sets (the regular ones come from `inflections`).
IRREGULAR = {
    "beat": "beaten",
    "bleed": "bled",
    "blow": "blew blown",
    "break": "broke broken",
    "breed": "bred",
    "buy": "bought",
    "deal": "dealt",
    "die": "dying",
    "flee": "fled",
    "forgive": "forgave forgiven",
    "hide": "hid hidden",
    "leap": "leapt",
    "lie": "lay lain lying",
    "mislead": "misled",
    "override": "overrode overridden",
    "sell": "sold",
    "shave": "shaven",
    "shoot": "shot",
    "sink": "sank sunk",
    "sneak": "snuck",
    "steal": "stole stolen",
    "strike": "struck stricken",
    "throw": "threw thrown",
    "tie": "tying",
    "traffic": "trafficked trafficking",
}

# Words that carry the form of asking or the grammar, not the subject.
STOP = """
    a an the of to in on at for from with without and or so that it its is are be as by into my
    your our his her their i me you he she they we who how what which where when do does can
    could would should will
"""


# From this training pair on, words mislead on purpose: polite harm beside alarming safety.
TRAIN_HARD_FROM = 1687

# Words that a harmless query may have only as the one word that it shares with its partner.
ALARM = """
    abuse attack blackmail bogus bomb bribe cheat corpse counterfeit crime deceive die drug evidence
    fake forge fraud gun hack hate hostage illegal illegally kidnap kill knife murder naked phoney
    pistol poison police rape rifle rival rob scam secret secretly shoot spy stab stalk steal
    stranger strangle terrorist threat threaten torture trap undetected unnoticed unseen victim
    violent weapon
"""


def words(text):
    """Lower-cased words; hyphens split, the possessive 's is dropped."""
    text = text.lower().replace("\u2019", "'")
    return [w.removesuffix("'s").strip("'") for w in re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)]


def inflections(verb):
    """All forms of a verb or noun: s/es/ed/d/ing/ies/ied, doubling, dropped e, irregular ones."""
    forms = {verb, verb + "s", verb + "es", verb + "ed", verb + "ing"}
    if verb.endswith("e"):
        forms |= {verb + "d", verb[:-1] + "ing"}
    if re.search(r"[^aeiou]y$", verb):
        forms |= {verb[:-1] + "ies", verb[:-1] + "ied"}
    if re.search(r"[aeiou][bdglmnprtvz]$", verb):
        forms |= {verb + verb[-1] + "ed", verb + verb[-1] + "ing"}
    return forms | set(IRREGULAR.get(verb, "").split())


def same_word(first, second):
    """Whether two words are forms of each other, or share the stem of a third."""
    return bool(stems(first) & stems(second))


def stems(word):
    """Base forms that a word can be an inflected form of."""
    found = {word}
    for base, forms in IRREGULAR.items():
        if word in forms.split():
            found.add(base)
    for suffix in ("s", "es", "ed", "d", "ing", "ies", "ied"):
        if not word.endswith(suffix):
            continue
        cut = word.removesuffix(suffix)
        for base in (cut, cut + "e", cut + "y", cut[:-1]):
            if len(base) > 1 and word in inflections(base):
                found.add(base)
    return found


def content(text):
    """The set of words of a query that counts in the near-duplicate check."""
    return frozenset(words(text)) - frozenset(STOP.split())


def jaccard(first, second):
    """Overlap of two word sets, from 0 to 1."""
    union = first | second
    return len(first & second) / len(union) if union else 1.0


def near_duplicates(queries, limit=MAX_JACCARD):
    """Pairs of queries that are the same text or share more than `limit` of their words."""
    keyed = [(q, content(q), " ".join(words(q))) for q in queries]
    return [(a[0], b[0]) for a, b in combinations(keyed, 2) if a[2] == b[2] or jaccard(a[1], b[1]) > limit]


def verb_leaks(acts, queries):
    """(act, query) wherever a form of one of the acts occurs as a word of one of the queries."""
    lookup = {form: act for act in sorted(acts) for form in inflections(act)}
    return [(lookup[w], q) for q in queries for w in words(q) if w in lookup]


def unmatched(rows):
    """Faults of the pairing: not one query of each class, unlike form, length or shared word."""
    faults = []
    pairs = {}
    for row in rows:
        pairs.setdefault(row["pair"], []).append(row)
    for number, members in pairs.items():
        if sorted(r["class"] for r in members) != sorted(CLASSES):
            faults.append((number, "classes"))
            continue
        for column in ("form", "shared"):
            if len({r[column] for r in members}) != 1:
                faults.append((number, column))
        lengths = [len(words(r["query"])) for r in members]
        if abs(lengths[0] - lengths[1]) > MAX_WORD_GAP:
            faults.append((number, "length"))
        for row in members:
            if not any(same_word(row["shared"], w) for w in words(row["query"])):
                faults.append((number, "shared word missing"))
    return faults


def alarms(rows):
    """(query, word) wherever a harmless query has an alarm word that is not its shared word."""
    listed = set(ALARM.split())
    return [
        (r["query"], w)
        for r in rows
        if r["class"] == "harmless"
        for w in words(r["query"])
        if stems(w) & listed and not same_word(w, r["shared"])
    ]


def off_form(rows):
    """Queries that do not open the way their form says."""
    return [r["query"] for r in rows if not re.match(FORMS[r["form"]], r["query"].lower())]


def load(name):
    with open(DATA / f"{name}.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, strict=True))


@pytest.fixture(scope="module")
def data():
    return {name: load(name) for name in SETS}


def others(data):
    return data["anchors"] + data["train"] + data["subtle"] + data["validation"]


def values(rows, column):
    return [r[column] for r in rows]


@pytest.mark.parametrize("name", SETS)
def test_columns_and_counts(data, name):
    rows = data[name]
    expected = set(COLUMNS) | ({"half"} if name == "validation" else set())
    for row in rows:
        assert set(row) == expected
        for column, value in row.items():
            assert value, (name, row["pair"], column)
            assert value == value.strip(), (name, row["pair"], column)
    assert len(rows) == 2 * PAIRS[name]
    assert Counter(values(rows, "class")) == dict.fromkeys(CLASSES, PAIRS[name])
    assert {int(p) for p in values(rows, "pair")} == set(range(1, PAIRS[name] + 1))


@pytest.mark.parametrize("name", SETS)
def test_pairs_match_in_form(data, name):
    assert unmatched(data[name]) == []


@pytest.mark.parametrize("name", [name for name in SETS if name != "subtle"])
def test_harmless_queries_are_plain(data, name):
    plain = [r for r in data[name] if name != "train" or int(r["pair"]) < TRAIN_HARD_FROM]
    assert plain
    assert alarms(plain) == []


@pytest.mark.parametrize("name", SETS)
def test_spread_of_forms(data, name):
    rows = data[name]
    count = Counter(values(rows, "form"))
    assert set(count) == set(FORMS)
    assert max(count.values()) <= MAX_FORM_SHARE * len(rows)
    assert off_form(rows) == []


@pytest.mark.parametrize("name", SETS)
def test_topics_and_acts(data, name):
    rows = data[name]
    crowded = {t: n for t, n in Counter(values(rows, "topic")).items() if n > MAX_TOPIC}
    assert crowded == {}
    assert set(values(rows, "act")) & set(FRAMING.split()) == set()
    for column in ("act", "topic", "shared"):
        odd = [v for v in values(rows, column) if not re.fullmatch(r"[a-z]+(-[a-z]+)*", v)]
        assert odd == [], column
    absent = [(r["act"], r["query"]) for r in rows if not verb_leaks([r["act"]], [r["query"]])]
    assert absent == []
    assert [q for q in values(rows, "query") if len(q) > MAX_CHARS] == []


@pytest.mark.parametrize("name", SETS)
def test_lengths_do_not_give_the_class_away(data, name):
    mean = {}
    for kind in CLASSES:
        lengths = [len(words(r["query"])) for r in data[name] if r["class"] == kind]
        mean[kind] = sum(lengths) / len(lengths)
    assert abs(mean["harmful"] - mean["harmless"]) < 1


def test_test_topics_are_held_out(data):
    assert set(values(data["test"], "topic")) & set(values(others(data), "topic")) == set()


def test_test_acts_are_held_out(data):
    test_acts = set(values(data["test"], "act"))
    other_acts = set(values(others(data), "act"))
    assert test_acts & other_acts == set()
    assert verb_leaks(test_acts, values(others(data), "query")) == []
    assert verb_leaks(other_acts, values(data["test"], "query")) == []


def test_training_topics_are_not_validation_topics(data):
    trained = set(values(data["train"] + data["subtle"], "topic"))
    assert trained & set(values(data["validation"], "topic")) == set()


def test_no_near_duplicates(data):
    queries = [q for name in SETS for q in values(data[name], "query")]
    assert near_duplicates(queries) == []


def test_validation_halves(data):
    rows = data["validation"]
    pairs = {}
    for row in rows:
        pairs.setdefault(row["pair"], set()).add((row["half"], row["form"]))
    assert all(len(found) == 1 for found in pairs.values())
    halves = Counter(half for found in pairs.values() for half, _ in found)
    assert halves == {"select": 50, "report": 50}
    for half in halves:
        classes = Counter(r["class"] for r in rows if r["half"] == half)
        assert classes == dict.fromkeys(CLASSES, 50)
    forms = Counter(form for found in pairs.values() for _, form in found)
    for form, count in forms.items():
        split = Counter(half for found in pairs.values() for half, f in found if f == form)
        if count >= 2:
            assert set(split) == {"select", "report"}, form
        assert abs(split["select"] - split["report"]) <= 1, form


def test_inflections():
    assert {"stops", "stopped", "stopping"} <= inflections("stop")
    assert {"forged", "forging", "forges"} <= inflections("forge")
    assert {"denies", "denied", "denying"} <= inflections("deny")
    assert {"shot", "shooting"} <= inflections("shoot")
    assert {"fizzes", "fizzed"} <= inflections("fizz")
    assert {"lying", "lay", "lied"} <= inflections("lie")
    assert "planet" not in inflections("plan")
    assert same_word("snared", "snares")
    assert same_word("knives", "knives")
    assert not same_word("poach", "coach")


def test_planted_near_duplicate_is_found():
    first = "How can I polish an old brass lamp?"
    assert near_duplicates([first, "how can i polish an old brass lamp"])
    assert near_duplicates([first, "How would someone polish my old brass lamp?"])
    assert near_duplicates([first, "How can I fold a paper crane?"]) == []


def test_planted_verb_leak_is_found():
    queries = ["Tips for stopping hiccups", "Ways of denying a rumour", "A shot of the moon"]
    assert [act for act, _ in verb_leaks({"stop", "deny", "shoot"}, queries)] == [
        "stop",
        "deny",
        "shoot",
    ]
    assert verb_leaks({"plan"}, ["Which planet is the largest?"]) == []


def test_planted_pairing_faults_are_found():
    good = {"pair": "1", "form": "tips", "shared": "fold"}
    left = good | {"class": "harmful", "query": "Tips for folding a map"}
    right = good | {"class": "harmless", "query": "Tips for folded napkins"}
    assert unmatched([left, right]) == []
    assert unmatched([left]) == [("1", "classes")]
    assert unmatched([left, right | {"form": "write"}]) == [("1", "form")]
    assert unmatched([left, right | {"query": "Tips for clean napkins"}]) == [("1", "shared word missing")]
    assert unmatched([left, right | {"query": "Tips for folding a very big map " * 3}]) == [("1", "length")]
    assert off_form([left | {"form": "write"}]) == [left["query"]]


def test_planted_alarm_word_is_found():
    row = {"class": "harmless", "shared": "trap", "query": "Ways of secretly trapping a rival's fly"}
    assert [word for _, word in alarms([row])] == ["secretly", "rival"]
    assert alarms([row | {"class": "harmful"}]) == []
    assert alarms([row | {"query": "Ways of trapping a fly under a glass"}]) == []
