"""The repository as a Space: its front matter, what may be imported, and one started for real."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import space
import yaml
from packaging.requirements import Requirement

from dro.sources import DEFAULT_GGUF
from explorer.limits import OWN, PUBLIC, chosen

ROOT = Path(__file__).parent.parent


def front_matter():
    found = re.match(r"---\n(.*?)\n---\n", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found, "README.md has no front matter"
    return yaml.safe_load(found[1])


def requirements(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return {each.name: each for each in map(Requirement, filter(None, lines))}


def test_the_front_matter_is_that_of_a_space():
    told = front_matter()
    assert told["sdk"] == "gradio" and (ROOT / told["app_file"]).is_file()
    assert told["sdk_version"] in requirements("requirements.txt")["gradio"].specifier
    assert told["python_version"] == "3.12"  # as text: 3.10 would become 3.1
    assert len(told["short_description"]) <= 60 and told["license"] == "apache-2.0"
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {told["colorFrom"], told["colorTo"]} <= colours


def test_the_model_that_is_preloaded_is_the_one_that_is_looked_for():
    (line,) = front_matter()["preload_from_hub"]
    assert line.split() == [DEFAULT_GGUF.hub_repo, DEFAULT_GGUF.name]


def test_what_is_installed_satisfies_requirements_and_all_that_they_need():
    names = space.needed()
    assert {"torch", "gradio", "transformers"} <= names
    assert not names & {"ray", "spaces", "pytest", "openai", "peft"}  # the optional ones


def test_a_space_is_a_public_page_unless_it_is_told_otherwise():
    assert chosen(False, False, {"SPACE_ID": "someone/dro"}).name == PUBLIC.name
    assert chosen(True, False, {"SPACE_ID": "someone/dro"}).name == "classroom"
    assert chosen(False, False, {}) == OWN


def test_a_container_holds_what_app_py_needs_and_is_nobody_important():
    told = (ROOT / "Dockerfile").read_text()
    copied = {line.split()[1].rstrip("/") for line in told.splitlines() if line.startswith("COPY")}
    assert copied == {"requirements.txt", "app.py", "assets", "dro", "explorer"}
    assert re.search(r"^USER dro$", told, re.MULTILINE) and "uid 1000" in told
    assert told.index("USER dro") < told.index("ENTRYPOINT")


@pytest.mark.model
def test_a_space_starts_and_locates_within_its_memory_and_writes_nowhere_else(tmp_path):
    try_it = ["unshare", "--mount", "--propagation", "private", "true"]
    if not shutil.which("unshare") or subprocess.run(try_it, capture_output=True).returncode:
        pytest.skip("this system gives no mount namespace")
    found = space.simulate(tmp_path)
    assert found["page"] and [point["prompt"] for point in found["points"]] == ["none", "short"]
    assert found["peak_gb"] < found["limit_gb"] == 16
    assert found["wrote_into_code"] == []
