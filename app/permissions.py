"""Permissions: the scopes of whoever asks, the rules on the arguments of tools, and what these decide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from .errors import InvalidPermissionsError

EVERYTHING: Final = "*"
RUNS_READ: Final = "runs:read"
RUNS_WRITE: Final = "runs:write"
NOTES_READ: Final = "notes:read"
NOTES_WRITE: Final = "notes:write"
KEYS_READ: Final = "keys:read"
KEYS_WRITE: Final = "keys:write"
METRICS_READ: Final = "metrics:read"
ALL_TOOLS: Final = "tools:*"

FIXED_SCOPES: Final = (
    EVERYTHING,
    RUNS_READ,
    RUNS_WRITE,
    NOTES_READ,
    NOTES_WRITE,
    KEYS_READ,
    KEYS_WRITE,
    METRICS_READ,
    ALL_TOOLS,
)
"""Every scope there is, besides `tools:NAME` for each tool."""

_SCOPE: Final = re.compile(r"tools:[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_RULE: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,63}):([^=\s]{1,100})=(\S.{0,499})", re.DOTALL)

SCOPE_PATTERN: Final = f"^({'|'.join(map(re.escape, FIXED_SCOPES))}|{_SCOPE.pattern})$"
RULE_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,63}:[^=\s\u0000]{1,100}=[^\s\u0000][^\u0000]{0,499}$"
"""What scopes and rules look like, for who reads a schema."""

MAX_SCOPES: Final = 200
MAX_RULES: Final = 100


class ArgumentRule(Struct, frozen=True):
    """A tool may be called only with a text in this argument that matches the pattern.

    In a pattern `*` stands for any characters, none included; everything else, case included, for itself.
    """

    tool: str
    argument: str
    pattern: str

    @classmethod
    def parse(cls, text: str) -> ArgumentRule:
        """Read `TOOL:ARGUMENT=PATTERN`, such as `governance_note:proposal_id=PROP-2025-*`.

        Raises:
            InvalidPermissionsError
        """
        found = _RULE.fullmatch(text)
        if found is None or "\0" in text:
            raise InvalidPermissionsError(
                f"{text[:100]!r} is no rule; a rule looks like governance_note:proposal_id=PROP-2025-*"
            )
        return cls(found[1], found[2], found[3])

    def __str__(self) -> str:
        return f"{self.tool}:{self.argument}={self.pattern}"

    def is_kept_by(self, arguments: Mapping[str, object]) -> bool:
        """Say whether a call of the tool with these arguments is one that the rule allows."""
        value = arguments.get(self.argument)
        return isinstance(value, str) and _matches(value, self.pattern)


class Permissions(Struct, frozen=True):
    """What somebody may do: scopes, sorted and without repetition, and rules of which every single one holds.

    Whoever is given permissions by another never has more than that one: fewer scopes, and all of the rules.
    """

    scopes: tuple[str, ...] = (EVERYTHING,)
    rules: tuple[ArgumentRule, ...] = ()

    @classmethod
    def of(cls, scopes: Iterable[str], rules: Iterable[ArgumentRule] = ()) -> Permissions:
        """Return the permissions of these scopes and rules.

        Raises:
            InvalidPermissionsError: a scope is unknown, or there are too many.
        """
        wanted, kept = tuple(sorted(set(scopes))), tuple(dict.fromkeys(rules))
        for scope in wanted:
            if not is_scope(scope):
                raise InvalidPermissionsError(
                    f"{scope[:100]!r} is no scope; there are {', '.join(FIXED_SCOPES)} and tools:NAME."
                )
        if len(wanted) > MAX_SCOPES or len(kept) > MAX_RULES:
            raise InvalidPermissionsError(f"At most {MAX_SCOPES} scopes and {MAX_RULES} rules can be given.")
        return cls(wanted, kept)

    @property
    def are_everything(self) -> bool:
        """Whether nothing is forbidden."""
        return EVERYTHING in self.scopes and not self.rules

    def allows(self, scope: str) -> bool:
        """Say whether what needs this scope may be done."""
        mine = self.scopes
        return scope in mine or EVERYTHING in mine or (scope.startswith("tools:") and ALL_TOOLS in mine)

    def narrowed(self, scopes: Iterable[str], rules: Iterable[ArgumentRule] = ()) -> Permissions:
        """Return the permissions of a child that is to have these scopes and rules, besides all of ours.

        Raises:
            InvalidPermissionsError: a scope is unknown, or one that we do not have.
        """
        child = Permissions.of(scopes, (*self.rules, *rules))
        beyond = [scope for scope in child.scopes if not self.allows(scope)]
        if beyond:
            raise InvalidPermissionsError(f"Nobody can give what they do not have: {', '.join(beyond)[:500]}.")
        return child

    def refusal(self, tool: str, needs: Sequence[str], arguments: Mapping[str, object]) -> str | None:
        """Return why a tool may not be called with these arguments, or None if it may.

        `needs` are the scopes that this call takes besides `tools:NAME`.
        """
        for scope in (f"tools:{tool}", *needs):
            if not self.allows(scope):
                return f"The scope {scope} is missing."
        for rule in self.rules:
            if rule.tool == tool and not rule.is_kept_by(arguments):
                return f"Only a text in {rule.argument!r} that matches {rule.pattern!r} is allowed here."
        return None


def is_scope(text: str) -> bool:
    """Say whether there is such a scope; of tools, whether the name could be one."""
    return text in FIXED_SCOPES or _SCOPE.fullmatch(text) is not None


def _matches(text: str, pattern: str) -> bool:
    """Say whether a pattern matches a text, without the backtracking that a regular expression of many stars does.

    What stands between two stars may be taken where it is found first.
    """
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *middle, last = others
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
