"""Run a small Python function that a model wrote, and compare what it returns.

The code is read first: only harmless modules may be imported, and nothing that reaches for files, the
system or the interpreter's insides. It then runs in a process of its own without environment, in an empty
folder, with limits on time, memory and files. That keeps a small model's mistakes in; it is no wall against
an adversary.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

SECONDS = 5
_MEMORY = 512 << 20
_MODULES = frozenset({"math", "re", "string", "itertools", "functools", "collections", "operator", "typing",
                      "statistics", "fractions", "decimal"})  # fmt: skip
_FORBIDDEN = frozenset({"open", "exec", "eval", "compile", "__import__", "input", "globals", "locals", "vars",
                        "getattr", "setattr", "delattr", "breakpoint", "help", "exit", "quit"})  # fmt: skip
# The limits are set by the child itself: a fork of a process with torch's threads must not run Python.
_RUNNER = f"""
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY}, {_MEMORY}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
except ImportError:  # no such limits on Windows
    pass
task = json.loads(sys.stdin.read())
space = {{"__name__": "answer"}}
exec(task["code"], space)
found = space[task["function"]]
for arguments, wanted in task["tests"]:
    got = found(*arguments)
    got = list(got) if isinstance(got, tuple) else got
    same = abs(got - wanted) < 1e-6 if isinstance(wanted, (int, float)) and not isinstance(wanted, bool) \\
        and isinstance(got, (int, float)) and not isinstance(got, bool) else got == wanted
    if not same:
        sys.exit(1)
print("all passed")
"""


def passes(code: str, function: str, tests: Sequence[Sequence[Any]]) -> bool:
    """Whether `code` defines `function` and that passes `tests`, each (arguments, wanted)."""
    if not allowed(code):
        return False
    task = json.dumps({"code": code, "function": function, "tests": list(tests)})
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _RUNNER], input=task, capture_output=True, text=True,
                timeout=SECONDS, cwd=folder, env={}, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0 and done.stdout.endswith("all passed\n")


def allowed(code: str) -> bool:
    """Whether the code parses and reaches for nothing but values."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(a.name.split(".")[0] not in _MODULES for a in node.names):
            return False
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in _MODULES:
            return False
        if isinstance(node, ast.Name) and node.id in _FORBIDDEN:
            return False
        if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
            return False
    return True
