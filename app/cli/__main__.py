"""`python -m` of this package is the command `llm-agent-core`."""

from . import main

raise SystemExit(main())
