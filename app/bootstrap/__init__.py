"""Settings in, wired services out; no HTTP."""

from .database import open_database
from .services import Services, build_services
from .session import open_runs

__all__ = ["Services", "build_services", "open_database", "open_runs"]
