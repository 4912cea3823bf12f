"""How a run reaches a worker: in this process, or through an existing engine."""
