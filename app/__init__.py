"""LLM Agent Execution Core: a goal in, a traced run of tools out; a library and an HTTP service."""

__version__ = "0.1.0"
