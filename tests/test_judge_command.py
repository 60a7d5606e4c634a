"""`python -m dro judge` on users' files."""

import json

import pytest
from conftest import save_folder

from dro.cli import main

SAID = ["I'm sorry, but I can't help with that.", "Fold the corners in.", ""]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "said.jsonl"
    lines = [json.dumps({"reply": said, "asked": f"Question {i}"}) for i, said in enumerate(SAID)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def rows(capsys, *argv):
    capsys.readouterr()
    status = main(["judge", *map(str, argv), "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def test_phrases_label_a_file_in_its_order(table, capsys):
    told = rows(capsys, table, "--column", "reply")
    assert told["judge"] == "phrases"
    assert [r["verdict"] for r in told["rows"]] == ["refused", "answered", "broken"]
    assert [r["refused"] for r in told["rows"]] == [True, False, False]
    assert told["rows"][0]["evidence"] == "i'm sorry" and told["rows"][2]["evidence"] == "empty"


def test_csv_works_as_well(tmp_path, capsys):
    path = tmp_path / "said.csv"
    path.write_text('n,answer\n1,"I can\'t assist with that, sorry."\n2,"Line one,\nline two"\n')
    assert [r["verdict"] for r in rows(capsys, path)["rows"]] == ["refused", "answered"]


def test_a_model_by_name_judges_with_the_query(table, capsys, tmp_path, monkeypatch):
    folder = save_folder(tmp_path / "tiny")
    from dro import judges

    asked = []
    whole = judges.last_token_states
    monkeypatch.setattr(
        judges, "last_token_states", lambda m, p, queries: asked.extend(queries) or whole(m, p, queries)
    )
    told = rows(capsys, table, "--column", "reply", "--query-column", "asked", "--judge", f"model:{folder}")
    assert told["judge"].startswith("model:") and len(told["rows"]) == 3
    assert "Question 1" in asked[1] and SAID[1] in asked[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--column", "answer"], "there is no column 'answer'. It has: reply, asked."),
        (["--column", "reply", "--judge", "oracle"], "There is no judge 'oracle'."),
        (["--column", "reply", "--query-column", "q"], "there is no column 'q'."),
    ],
)
def test_faults_are_named(table, capsys, argv, message):
    assert main(["judge", str(table), *argv]) == 1
    assert message in capsys.readouterr().err


def test_a_text_file_is_no_table(tmp_path, capsys):
    path = tmp_path / "said.txt"
    path.write_text("hello")
    assert main(["judge", str(path)]) == 1
    assert "said.txt is no table. Use a .csv, .tsv, .jsonl" in capsys.readouterr().err


def test_a_table_without_rows_and_one_with_a_number_are_refused(tmp_path, capsys):
    empty, number = tmp_path / "a.csv", tmp_path / "b.jsonl"
    empty.write_text("answer\n")
    number.write_text('{"answer": 3}')
    assert main(["judge", str(empty)]) == 1 and "holds no answer" in capsys.readouterr().err
    assert main(["judge", str(number)]) == 1 and "line 1: answer is no text" in capsys.readouterr().err
