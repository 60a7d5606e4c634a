"""To and from the Hub through its own client, against a stand-in of its HTTP API on this machine."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import standins
from test_exports import make_run

from dro import models, prompts
from dro.errors import DataError
from dro.exports import bundle, hub

TOKEN = "hf_" + "x" * 34


@pytest.fixture(scope="module")
def there():
    with standins.hub(TOKEN) as server:
        yield server


@pytest.fixture
def run(tiny_folder, tmp_path):
    return make_run(tmp_path / "run", models.load(str(tiny_folder), "fp32"))


def dro(there, tmp_path, *argv, token=TOKEN):
    """The command in a process of its own: the Hub's client reads its settings when it is imported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    if token:
        environment["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-m", "dro", *argv], capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize("kind", ["safetensors", "model"])
def test_a_prompt_goes_to_the_hub_and_comes_back(there, run, tiny_folder, tmp_path, kind):
    name = f"someone/prompt-{kind}"
    model = ["--model", str(tiny_folder)]
    argv = ["export", str(run), str(tmp_path / "out"), "--to", kind, "--push", name, *model]
    done = dro(there, tmp_path, *argv, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["address"] == f"{there.url}/{name}"
    assert there.private[name] is True
    written = {str(p.relative_to(tmp_path / "out")): p.read_bytes()
               for p in (tmp_path / "out").rglob("*") if p.is_file()}  # fmt: skip
    assert there.files[name] == written and "README.md" in written
    there.files[name]["evil.py"] = b"raise SystemExit"

    done = dro(there, tmp_path, "import", f"hub:{name}", "--out", str(tmp_path / "in"), *model)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(bundle.read(tmp_path / "in").prompt.vectors, bundle.read(run).prompt.vectors)
    names = {p.name for p in (tmp_path / "in").iterdir()}
    assert names == {prompts.SOFT_PROMPT_FILE, prompts.CARD_FILE, "held_out.json"}
    assert not any("evil" in line or "model.safetensors" in line for line in there.asked if "GET" in line)
    # No token anywhere it might be passed on.
    assert not any(TOKEN.encode() in content for content in written.values())


def test_without_a_token_or_a_repository_it_is_said(there, run, tiny_folder, tmp_path):
    model = ["--model", str(tiny_folder)]
    argv = ["export", str(run), str(tmp_path / "out"), "--push", "someone/else", *model]
    done = dro(there, tmp_path, *argv, token="")
    assert done.returncode == 1 and "HF_TOKEN" in done.stderr and "Traceback" not in done.stderr
    done = dro(there, tmp_path, "import", "hub:someone/nothing", "--out", str(tmp_path / "in"), *model)
    assert done.returncode == 1 and "no such repository" in done.stderr and not (tmp_path / "in").exists()


def test_a_repository_without_a_prompt_or_with_a_huge_file_is_refused(there, tiny_folder, tmp_path):
    model = ["--model", str(tiny_folder)]
    there.files["someone/bare"] = {"README.md": b"x"}
    done = dro(there, tmp_path, "import", "hub:someone/bare", "--out", str(tmp_path / "in"), *model)
    assert done.returncode == 1 and "holds no soft_prompt.safetensors" in done.stderr

    class Huge(bytes):
        def __len__(self):
            return 1 << 40

    there.files["someone/huge"] = {"soft_prompt.safetensors": Huge(b"x")}
    done = dro(there, tmp_path, "import", "hub:someone/huge", "--out", str(tmp_path / "in"), *model)
    assert done.returncode == 1 and "no prompt" in done.stderr


def test_a_hub_that_cannot_be_reached_is_told(run, tiny_folder, tmp_path):
    class Nowhere:
        url = "http://127.0.0.1:9"

    argv = ["import", "hub:someone/prompt", "--out", str(tmp_path / "in"), "--model", str(tiny_folder)]
    done = dro(Nowhere, tmp_path, *argv)
    assert done.returncode == 1 and "could not be reached" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["x", "a/b/c", "", "a b/c", "../c", "a/..", "https://x/y"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(DataError, match="ORG/NAME"):
        hub.check_name(name)
