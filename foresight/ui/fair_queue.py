"""The queue of the app's events: each client has a share of it, and whoever is gone has none."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from foresight.ui import limits
from foresight.ui.gradio_internals import (
    Event,
    ProcessCompletedMessage,
    Queue,
    get_fn,
    oldest_message,
    run_coro_in_background,
)
from foresight.ui.guard import client_of

FULL = "This app is busy: try again in a minute."
SHARED = "You have {} calls waiting here already: wait for one of them to end."
Unread = tuple[Any, float]  # a message, and for how many seconds it has waited to be fetched
GONE = "Nobody fetched the answers of this call, so it was ended: ask again, and stay."


class FairQueue(Queue):
    """Gradio's queue, whose limit is one for all events together and whose order is that of arrival.

    Here each event's own queue is limited, so that what is light never waits for the models; in each, clients take
    turns, whoever asked more often last; and calls end whose answers nobody fetches.
    """

    def __init__(self, blocks: Any, share: int) -> None:
        """share: how many calls of one queue a client may have."""
        super().__init__(
            live_updates=True,
            concurrency_count=blocks.max_threads,
            update_intervals=1,
            max_size=None,
            blocks=blocks,
        )
        self.share = share

    def start(self) -> None:
        super().start()
        run_coro_in_background(self._end_absent)

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        name, client = get_fn(self.blocks, None, body).concurrency_id, client_of(request)
        of_client = [event for event in self.event_ids_to_events.values() if client_of(event.request) == client]
        in_queue = [event for event in of_client if event.concurrency_id == name]
        if len(in_queue) >= self.share or len(of_client) >= limits.WAITING:
            return False, SHARED.format(len(of_client)), "queue_full"
        if name in self.event_queue_per_concurrency_id and len(self._queued(name)) >= limits.WAITING:
            return False, FULL, "queue_full"
        pushed = await super().push(body, request, username)
        self._queued(name)[:] = in_turns(self._queued(name))
        self.broadcast_estimations(name)
        return pushed

    def _queued(self, name: str) -> list[Event]:
        return self.event_queue_per_concurrency_id[name].queue

    async def _end_absent(self) -> None:
        unread: dict[str, Unread] = {}
        while not self.stopped:
            tick = min(2.0, limits.ABSENT / 4)
            await asyncio.sleep(tick)
            pending = self.pending_messages_per_session
            unread = still_unread(unread, {s: oldest_message(pending[s]) for s in pending if pending[s].qsize()}, tick)
            for session, (_, seconds) in unread.items():
                if seconds > limits.ABSENT:
                    await self._end(session)
                if seconds > limits.FORGOTTEN:
                    del pending[session]
                    self.pending_event_ids_session.pop(session, None)

    async def _end(self, session: str) -> None:
        """Ends a session's calls: those that wait now, a running one at its next step."""
        for event in [e for e in self.event_ids_to_events.values() if e.session_hash == session]:
            self.send_message(event, ProcessCompletedMessage(output={"error": GONE}, success=False))
        await self.clean_events(session_hash=session)
        self.pending_event_ids_session.setdefault(session, set())  # for whoever comes after all


def still_unread(before: dict[str, Unread], oldest: dict[str, Any], tick: float) -> dict[str, Unread]:
    """The oldest message of each session and for how long it has lain there, a tick after `before`.

    Ticks are counted, not timed: where the app is so busy that they come late, whoever listens comes late too.
    """
    return {
        session: (message, before[session][1] + tick if session in before and before[session][0] is message else 0.0)
        for session, message in oldest.items()
    }


def in_turns(events: list[Event]) -> list[Event]:
    """Events in the order in which they are run: every client's first, then every client's second, and so on."""
    turns: Counter[str] = Counter()
    order = []
    for event in events:
        client = client_of(event.request)
        order.append(turns[client])
        turns[client] += 1
    return [event for _, event in sorted(zip(order, events, strict=True), key=lambda pair: pair[0])]
