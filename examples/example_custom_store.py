"""A note store of your own: any object with `add_note` and `get_notes`; here a SQLite file that outlives the run.

Run it from the checkout: `uv run examples/example_custom_store.py`
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from app.agent.core import Agent
from app.tools.governance import GovernanceNoteTool


class SqliteNotes:
    """Keeps notes in a file. Its methods may be called on any thread, so each opens a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, proposal TEXT, body TEXT)")

    def add_note(self, proposal_id: str, note: str) -> int:
        with closing(sqlite3.connect(self._path)) as db, db:
            db.execute("INSERT INTO note (proposal, body) VALUES (?, ?)", (proposal_id, note))
            (count,) = db.execute("SELECT count(*) FROM note WHERE proposal = ?", (proposal_id,)).fetchone()
        return int(count)

    def get_notes(self, proposal_id: str) -> list[str]:
        with closing(sqlite3.connect(self._path)) as db:
            rows = db.execute("SELECT body FROM note WHERE proposal = ? ORDER BY id", (proposal_id,))
            return [body for (body,) in rows]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.db"
        agent = Agent(tools=[GovernanceNoteTool(store=SqliteNotes(path))])
        for text in ("Legal review completed", "Quorum reached"):
            result = agent.run(f"Add note to PROP-2025-001: {text}")
            print(f"{result.status}: {result.output}")
        print(f"Read back from {path.name}: {SqliteNotes(path).get_notes('PROP-2025-001')}")


if __name__ == "__main__":
    main()
