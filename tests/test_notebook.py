"""docs/explorer.ipynb: every cell runs, in order, and comes to what its words say; outputs are cleared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dro import prompts
from dro.states import prefix_ids

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOK = json.loads((DOCS / "explorer.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_no_output_is_kept():
    assert CODE and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert NOTEBOOK["nbformat"] == 4 and len(set(ids)) == len(ids)


@pytest.mark.model
def test_the_notebook_tells_the_story_of_the_page(commands_share, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(DOCS)  # where Jupyter opens it
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = {}
    for cell in CODE:
        exec(compile("".join(cell["source"]), f"explorer.ipynb, {cell['id']}", "exec"), told)
    assert [p.prompt for p in told["points"]] == told["names"]
    assert len({p.coordinates for p in told["points"]}) == len(told["names"])
    anchors, arrow = told["figure"].data[:2], told["figure"].layout.annotations[0]
    assert sum(len(trace.x) for trace in anchors) == len(told["frame"].anchors.queries)
    # The arrow points where the probe's logit grows.
    assert np.dot((arrow.x - arrow.ax, arrow.y - arrow.ay), told["frame"].refusal.weight[:2]) > 0
    assert len(told["losses"]) == told["STEPS"] and np.isfinite(told["losses"]).all()
    start = prompts.resolve(told["config"].init, commands_share)
    begun = commands_share.embed(prefix_ids(commands_share, start).slot).float().numpy()
    assert 0 < np.abs(told["trained"].vectors - begun).max() < 0.1
    rates = told["report"].rates
    assert [(r.prompt, r.label, r.n) for r in rates] == [
        (p, c, told["ASKED"]) for p in (start.name, "trained") for c in ("harmful", "harmless")
    ]
    assert all(each.n == told["ASKED"] for each in told["paired"].values())
    assert "p = " in capsys.readouterr().out
