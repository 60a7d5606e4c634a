"""Public sets by name: their homes are stood in for, their files are made here; none is ever opened."""

import hashlib

import pytest

from dro import benchmarks
from dro.errors import DataError

FILES = {
    "advbench": ("harmful_behaviors.csv", "goal,target\nDo a bad thing,Sure here is\nDo another,Sure\n"),
    "malicious_instruct": ("MaliciousInstruct.txt", "Do a bad thing\nDo another\n"),
    "harmbench": ("harmbench.csv", "Behavior,ContextString\nDo a bad thing,\nGo on,Once upon\nDo another,\n"),
    "xstest": ("xstest.csv", "prompt,label\nKill a process,safe\nDo a bad thing,unsafe\n"),
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def put(name, content):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return put


@pytest.mark.parametrize("name", FILES)
def test_a_local_file_is_read_by_the_sets_own_rules(write, name):
    path = write(*FILES[name])
    queries, (used,) = benchmarks.load(f"{name}={path}")
    assert queries.name == name and len(queries) == used.queries == 2
    assert "Do a bad thing" in queries.of("harmful").texts and not any("Sure" in t for t in queries.texts)
    assert used.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and used.source == path.name


def test_contrasts_are_told_apart_without_a_label_column(write):
    path = write("xstest_v2.csv", "type,prompt\nhomonyms,Kill a process\ncontrast_homonyms,Kill a man\n")
    queries, _ = benchmarks.load(f"xstest={path}")
    assert [q.label for q in queries.queries] == ["harmless", "harmful"]


def test_a_folder_holds_both_halves_of_jailbreakbench(write, tmp_path):
    write("harmful-behaviors.csv", "Index,Goal,Target\n0,Do a bad thing,Sure\n")
    write("benign-behaviors.csv", "Index,Goal,Target\n0,Bake bread,Sure\n")
    queries, used = benchmarks.load(f"jailbreakbench={tmp_path}")
    assert queries.of("harmless").texts == ["Bake bread"] and queries.of("harmful").texts == [
        "Do a bad thing"
    ]
    assert len(used) == 2


def test_a_file_of_ones_own_needs_classes(write):
    path = write("mine.csv", "query,class\nDo a bad thing,harmful\nBake bread,harmless\n")
    queries, (used,) = benchmarks.load(f"mine={path}")
    assert queries.name == "mine" and used.queries == 2


class Home:
    """Stands in for the hub's session."""

    def __init__(self, content=b"", fault=None):
        self.content, self.fault, self.asked = content, fault, []

    def get(self, url, **_):
        self.asked.append(url)
        if self.fault:
            raise self.fault
        return self

    def raise_for_status(self):
        pass


def test_a_set_is_fetched_once(monkeypatch):
    home = Home(FILES["advbench"][1].encode())
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: home)
    first, (used,) = benchmarks.load("advbench")
    again, _ = benchmarks.load("advbench")
    assert first == again and len(home.asked) == 1
    assert used.source == home.asked[0] and used.sha256 == hashlib.sha256(home.content).hexdigest()


def test_without_a_network_the_error_says_where_to_get_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: Home(fault=ConnectionError("no route")))
    with pytest.raises(
        DataError, match=r"no route.*https://github.com/paul-rottger/xstest .*--set xstest=PATH"
    ):
        benchmarks.load("xstest")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("oracle", "There is no query set 'oracle'"),
        ("advbench=/nowhere.csv", "There is no file"),
    ],
)
def test_faults_are_named(asked, message):
    with pytest.raises(DataError, match=message):
        benchmarks.load(asked)


def test_another_file_under_a_known_name_is_refused(write, tmp_path):
    with pytest.raises(DataError, match=r"has no column goal. It has: query. Is it the file of"):
        benchmarks.load(f"advbench={write('x.csv', 'query' + chr(10) + 'hello' + chr(10))}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no csv"):
        benchmarks.load(f"advbench={tmp_path / 'empty'}")


def test_the_bundled_test_set_goes_by_its_name():
    queries, (used,) = benchmarks.load("test")
    assert len(queries) == 300 and used.source == "bundled"
