"""Reading a kept run back: the check and the fold of its stored events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ..agent.state import AgentState
from ..errors import FencedError, StorageError, UnreadableRunError
from .chain import GENESIS, link
from .codec import read_all
from .models import Claim, StoredEvent
from .ports import RunStore

PAGE: Final = 500


async def folded(store: RunStore, claim: Claim) -> AgentState:
    """Return the state of a claimed run, whose events are the chain that was written.

    Raises:
        msgspec.DecodeError: a newer version of this program has written to it.
        UnreadableRunError: its events are damaged, missing, or not those that were written.
        FencedError: somebody else has it by now, and has written to it.
        StorageError: the database does not answer.
    """
    state = AgentState()
    seq, head = 0, GENESIS
    while seq < claim.head_seq:
        page = await _page(store, claim, seq)
        head = _checked(claim, page, seq, head)
        seq += len(page)
        try:
            for event in read_all(page):
                state.apply(event)
        except msgspec.DecodeError:
            raise  # it is as it was written, and means nothing to this version
        except Exception as error:
            raise _unreadable(claim, f"events up to {seq} do not follow from each other ({error!r})") from error
    if head != claim.head_hash:
        run = await store.get(claim.key)
        if run is not None and run.head_hash != claim.head_hash:
            raise FencedError(f"The run {claim.key.run_id} is in other hands.")
        raise _unreadable(claim, f"event {seq} is not its head")
    return state


async def _page(store: RunStore, claim: Claim, after: int) -> Sequence[StoredEvent]:
    try:
        return await store.events(claim.key, after, PAGE)
    except StorageError:
        raise
    except Exception as error:  # the database answers, and what it says is that it cannot: a damaged page
        raise _unreadable(claim, f"events after {after} cannot be read ({type(error).__name__})") from error


def _checked(claim: Claim, page: Sequence[StoredEvent], seq: int, head: bytes) -> bytes:
    """Return the hash of the last event of a page that goes on after event `seq` with the hash `head`."""
    if not page:
        raise _unreadable(claim, f"event {seq + 1} is missing")
    for seq, stored in enumerate(page, seq + 1):  # noqa: B020 - it goes on from where it stood
        if stored.seq != seq or stored.prev_hash != head or not _is_as_written(stored):
            raise _unreadable(claim, f"event {seq} is not the one that was written")
        head = stored.hash
    return head


def _is_as_written(stored: StoredEvent) -> bool:
    try:
        return link(stored.prev_hash, stored.body.encode()) == stored.hash
    except (UnicodeError, AttributeError):  # what a damaged database has in the place of a text
        return False


def _unreadable(claim: Claim, what: str) -> UnreadableRunError:
    return UnreadableRunError(f"The run {claim.key.run_id} cannot be read: {what}.")
