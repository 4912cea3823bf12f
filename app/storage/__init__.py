"""SQL: tables, migrations, the stores, and the writer that commits in groups."""
