"""`python -m tests.licences`: the packages of requirements.lock and their licences, as a table."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"


def locked() -> dict[str, str]:
    """Name and version of every package of the lock."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)


def licence(name: str) -> str:
    """What a package says of its licence: an expression, else its classifiers, else its first words."""
    told = importlib.metadata.metadata(name)
    classified = [c.split(" :: ")[-1] for c in told.get_all("Classifier") or () if c.startswith("License ::")]
    words = (told.get("License") or "").strip().splitlines()
    return (
        told.get("License-Expression") or ", ".join(classified) or (words[0][:60] if words else "not stated")
    )


def main() -> int:
    """Print the table."""
    print("# Licences\n\nPackages in `requirements.lock`, as they state them (`python -m tests.licences`).")
    print("\n| package | version | licence |\n|---|---|---|")
    for name, version in locked().items():
        print(f"| {name} | {version} | {licence(name)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
