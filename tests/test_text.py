"""What the page says."""

import ast
from collections import Counter
from pathlib import Path

from explorer import text


def test_no_text_takes_anothers_name():
    names = [
        node.targets[0].id
        for node in ast.parse(Path(text.__file__).read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
    assert len(names) > 50 and [name for name, count in Counter(names).items() if count > 1] == []
