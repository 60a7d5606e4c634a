"""Queries and query files: whatever is wrong is named with its line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dro import data, tables
from dro.data import Query, QuerySet, check_query, read_labelled, read_texts
from dro.errors import DataError


@pytest.fixture
def write(tmp_path):
    def put(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


# What may be a query


@pytest.mark.parametrize(
    "text", ["Hello", " x ", "<|im_end|>", "\u2028x", "🎉", "x" * 8000, "\x00a", "[/INST]"]
)
def test_a_query_is_returned_as_it_is(text):
    assert check_query(text) == text


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        (None, "NoneType"),
        (3, "int"),
        ("x" * 8001, "8,001"),
        ("ab\ud800", "character 3"),
        (["x"], "list"),
    ],
)
def test_what_is_no_query_is_refused_with_the_reason(bad, said, raised):
    assert said in raised(lambda: check_query(bad), DataError)


# Reading files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\ntwo\n"),
        ("a.txt", "one\r\ntwo\r\n"),
        ("a.txt", "one\n\n  \ntwo"),
        ("a.txt", b"\xef\xbb\xbfone\ntwo"),
        ("a.list", "one\ntwo"),
        ("a.csv", "query\none\ntwo\n"),
        ("a.csv", b"\xef\xbb\xbfquery,x\none,1\ntwo,2\n"),
        ("a.CSV", "x,goal\n1,one\n2,two\n"),
        ("a.tsv", "x\tprompt\n1\tone\n2\ttwo\n"),
        ("a.jsonl", '{"instruction": "one"}\n\n{"instruction": "two"}'),
        ("a.ndjson", b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n'),
    ],
)
def test_every_kind_of_file_is_read(write, name, content):
    assert read_texts(write(name, content)) == ["one", "two"]


def test_quoted_cells_may_hold_commas_quotes_and_lines(write):
    path = write("a.csv", 'query,class\n"one, ""two""\nthree",harmful\n')
    assert read_texts(path) == ['one, "two"\nthree']


def test_unusual_line_separators_stay_inside_a_query(write):
    text = "one\u2028two\x0bthree\x0cfour\u0085five"
    assert read_texts(write("a.txt", text + "\nlast")) == [text, "last"]
    assert read_texts(write("a.jsonl", json.dumps({"query": text}, ensure_ascii=False))) == [text]
    assert read_texts(write("a.csv", f"query\n{text}\n")) == [text]
    assert len(text.splitlines()) == 5  # what the obvious way would have made of it


def test_a_column_can_be_named(write):
    assert read_texts(write("a.csv", "query,mine\nx,one\n"), column="mine") == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "no query"),
        ("a.txt", "\n \n", "no query"),
        ("a.csv", "query\n", "no query"),
        ("a.jsonl", "\n", "no query"),
        ("a.txt", "fine\n" + "x" * 8001, "line 2: The query has 8,001"),
        ("a.txt", "fine\ncaf\xe9".encode("latin-1"), "line 2: byte 0xe9"),
        ("a.csv", "x,y\n1,2\n", "It has: x, y"),
        ("a.csv", "query,x\none,1\n,2\n", "line 3: The query is empty"),
        ("a.csv", "x,query\n1,one\n2\n", "line 3: A query is text, not NoneType"),
        ("a.jsonl", '{"query": "one"}\n{"query": ', "line 2 is not JSON"),
        ("a.jsonl", '{"query": "one"}\n["two"]', "line 2 is no JSON object"),
        (
            "a.jsonl",
            '{"query": "one"}\n{"prompt": "two"}',
            "line 2: there is no column 'query'. It has: prompt",
        ),
        ("a.jsonl", '{"query": "one"}\n{"query": 7}', "line 2: A query is text, not int"),
        ("a.jsonl", '{"query": "one"}\n{"query": "\\ud83d"}', "line 2: The query holds a lone surrogate"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '{"query": {"a": 1}}', "line 1: A query is text, not dict"),
    ],
)
def test_errors_name_the_file_and_the_line(write, raised, name, content, said):
    message = raised(lambda: read_texts(write(name, content)), DataError)
    assert name in message and said in message


def test_a_missing_column_is_told_with_those_there_are(write, raised):
    message = raised(lambda: read_texts(write("a.csv", "query\none\n"), column="mine"), DataError)
    assert "'mine'" in message and "It has: query" in message


def test_an_unclosed_quote_is_told_or_read_to_the_end(write):
    assert read_texts(write("a.csv", 'query\n"one\ntwo\n')) == ["one\ntwo\n"]
    with pytest.raises(DataError, match=r"a\.csv, line"):
        read_texts(write("a.csv", 'query\n"' + "x\n" * 100_000))


@pytest.mark.parametrize("name", ["nowhere.txt", "", "."])
def test_files_that_cannot_be_read_are_named(tmp_path, raised, name):
    assert "cannot be read" in raised(lambda: read_texts(tmp_path / name), DataError)


def test_a_huge_file_is_refused_before_it_is_read(write, monkeypatch, raised):
    monkeypatch.setattr(tables, "MAX_FILE_BYTES", 10)
    assert "Split it" in raised(lambda: read_texts(write("a.txt", "x" * 11)), DataError)


def test_a_number_of_too_many_digits_is_named_with_its_line(write):
    with pytest.raises(DataError, match="line 1"):
        read_texts(write("a.jsonl", '{"query": "x", "n": ' + "1" * 5000 + "}"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1).filter(
    str.strip
)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_what_is_written_as_jsonl_is_read_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("data") / "a.jsonl"
    path.write_text("".join(json.dumps({"query": t}, ensure_ascii=False) + "\n" for t in texts), "utf-8")
    assert read_texts(path) == texts


# Labelled files


def test_labelled_queries_without_pairs_are_paired_in_order(write):
    path = write("mine.csv", "query,class\na,harmful\nb, HARMFUL \nc,harmless\nd,harmless\n")
    found = read_labelled(path)
    assert found.name == "mine"
    assert found.queries == (
        Query("a", True, 0),
        Query("b", True, 1),
        Query("c", False, 0),
        Query("d", False, 1),
    )


def test_pairs_are_read_where_they_are_given(write):
    path = write("a.csv", "query,class,pair\na,harmful,0\nb,harmful,3\nc,harmless,3\nd,harmless,0\n")
    assert [q.pair for q in read_labelled(path).queries] == [0, 3, 3, 0]


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_pair_nought_is_a_pair(write):
    rows = [
        {"query": "a", "class": "harmful", "pair": 1},
        {"query": "b", "class": "harmful", "pair": 0},
        {"query": "c", "class": "harmless", "pair": 0},
        {"query": "d", "class": "harmless", "pair": 1},
    ]
    assert [q.pair for q in read_labelled(write("a.jsonl", jsonl(*rows))).queries] == [1, 0, 0, 1]


@pytest.mark.parametrize(
    "pair",
    [
        "x",
        "1.5",
        [1],
        {"a": 1},
        float("inf"),
    ],
)
def test_a_pair_that_is_no_number_is_named_with_its_line(write, pair):
    rows = [{"query": "a", "class": "harmless"}, {"query": "b", "class": "harmful", "pair": pair}]
    with pytest.raises(DataError, match="line 2"):
        read_labelled(write("a.jsonl", jsonl(*rows)))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "query,class\na,harmful\nb,evil\n", "line 3: the class is 'evil'"),
        ("a.csv", "query\na\n", "line 2: the class is ''"),
        ("a.txt", "a\n", "line 1: the class is ''"),
        ("a.csv", "query,class\na,harmful\nb,harmful\n", "both classes"),
        ("a.csv", "query,class,pair\na,harmful,one\nb,harmless,1\n", "line 2: pair is 'one'"),
    ],
)
def test_labels_that_are_missing_or_wrong_are_named(write, raised, name, content, said):
    assert said in raised(lambda: read_labelled(write(name, content)), DataError)


# Query sets


def test_sets_keep_their_order_and_name_their_content():
    queries = (Query("a", True, 0), Query("b", False, 0), Query("c", True, 1))
    one = QuerySet("x", queries)
    assert one.texts == ["a", "b", "c"] and len(one) == 3
    assert one.of("harmful").texts == ["a", "c"] and one.of("harmless").texts == ["b"]
    assert one.digest == QuerySet("y", queries).digest != QuerySet("x", queries[::-1]).digest


def test_a_limit_counts_each_class():
    one = data.bundled("anchors").limit(3)
    assert [len(one.of(label)) for label in data.CLASSES] == [3, 3]
    assert len(data.bundled("anchors").limit(None)) == 200


def test_plain_texts_become_a_set_of_one_class():
    assert data.as_set(["a"], True, "mine").queries == (Query("a", True, -1),)
    with pytest.raises(DataError):
        data.as_set(["a", " "], True, "mine")


@pytest.mark.parametrize(("name", "half"), [("nonsense", None), ("anchors", "select"), ("validation", "all")])
def test_unknown_bundled_sets_are_refused(name, half):
    with pytest.raises(DataError):
        data.bundled(name, half)


def test_the_halves_of_validation_are_disjoint_and_make_the_whole():
    halves = [set(data.bundled("validation", half).texts) for half in ("select", "report")]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(data.bundled("validation").texts)


def test_bundled_pairs_hold_both_classes():
    for name in data.BUNDLED:
        pairs = {}
        for query in data.bundled(name).queries:
            pairs.setdefault(query.pair, set()).add(query.harmful)
        assert all(kinds == {True, False} for kinds in pairs.values())
