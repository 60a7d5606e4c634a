"""`python -m dro`."""

from dro.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
