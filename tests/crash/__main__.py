"""`python -m tests.crash`: the kill sweep."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from crash.sweep import main  # noqa: E402

raise SystemExit(main())
