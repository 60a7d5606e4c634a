"""The command line: `python -m dro`. Tables for people, --json on standard output for programs.

Progress and errors go to standard error. Heavy packages are imported by the command that needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from dro.cli import answering, benching, cleaning, exporting, reading, spaces, studies, sweeping, training
from dro.errors import DroError

app = typer.Typer(
    name="python -m dro",
    help="See where a chat model places a query under a safety prompt, train a better one, measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "models": spaces.models_command,
    "fit": spaces.fit,
    "locate": spaces.locate,
    "layers": reading.layers,
    "answer": answering.answer,
    "optimise": training.optimise,
    "evaluate": answering.evaluate,
    "judge": answering.judge,
    "study": studies.study,
    "sweep": sweeping.sweep,
    "bench": benching.bench,
    "export": exporting.export,
    "import": exporting.bring_in,
    "clean": cleaning.clean,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors of ours are printed without a traceback."""
    try:
        status = app(args=list(sys.argv[1:] if argv is None else argv), standalone_mode=False)
        return int(status or 0)
    except DroError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        # Wrong usage is told by typer's own errors; anything else is a fault of ours.
        if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]  # typer's
        else:
            print(f"error: {error.format_message()} See --help.", file=sys.stderr)
        return int(error.exit_code)
