"""The migrations that lead any older database to the tables of today; they import nothing of this package."""
