"""LLM Agent Execution Core: a goal in, a traced run of tools out; a library and an HTTP service."""

import logging

__version__ = "0.1.0"

# a library says nothing unless the program that uses it has set up logging
logging.getLogger(__name__).addHandler(logging.NullHandler())
