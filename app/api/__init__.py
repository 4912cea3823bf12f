"""The HTTP adapter: thin routes, wire shapes, and the only place where HTTP statuses stand."""
