"""Real models by name: the one room that knows a provider's library. Importing it loads none."""
