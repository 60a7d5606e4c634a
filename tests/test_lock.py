"""The locked requirements: every package has a hash and a licence, and names no registry."""

import re
from pathlib import Path

from licences import LOCK, locked
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def test_everything_that_is_asked_for_is_locked_within_its_range():
    there = locked()
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            asked = Requirement(line)
            name = re.sub(r"[-_.]+", "-", asked.name).lower()
            assert asked.specifier.contains(there[name].split("+")[0]), name


def test_every_package_has_a_hash_and_no_registry_is_named():
    text = LOCK.read_text(encoding="utf-8")
    for block in re.split(r"\n(?=[a-z0-9-]+==)", text):
        if re.match(r"[a-z0-9-]+==", block):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:60]
    assert "://" not in text and "index-url" not in text and "find-links" not in text


def test_every_licence_is_listed():
    listed = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    assert all(f"| {name} | {version} |" in listed for name, version in locked().items())
