"""`uv run main.py` serves the HTTP API."""

import sys

from app.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
