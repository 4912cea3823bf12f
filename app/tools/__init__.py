"""The door to the world: the tool protocol and the built-in tools, one a file."""
