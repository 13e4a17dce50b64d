"""Events whose label was learned, kept for a while so that a corrected label can be learned from them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
from numpy.typing import NDArray

from streams.event import Event
from streams.packed import pack, unpack


class KeptEvents:
    """The last `limit` events by id, as JSON; bytes: what they take. The oldest gives way.

    >>> kept = KeptEvents(limit=1)
    >>> kept.add("a", b'{"id":"a","time":1.0,"features":{"x":2.0}}')
    >>> kept["a"]
    Event(id='a', time=1.0, features={'x': 2.0}, label=None, weight=1.0)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._events: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def __contains__(self, id: str) -> bool:
        return id in self._events

    def __getitem__(self, id: str) -> Event:
        return msgspec.json.decode(self._events[id], type=Event)

    def add(self, id: str, event: bytes) -> None:
        """Keep an event, encoded as JSON, under its id."""
        self.bytes += len(event) - len(self._events.pop(id, b""))
        self._events[id] = event
        if len(self._events) > self.limit:
            self.drop()

    def drop(self) -> None:
        """Give up the oldest."""
        self.bytes -= len(self._events.popitem(last=False)[1])

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Ids and events, packed, oldest first."""
        return {"ids": pack(list(self._events)), "events": pack(list(self._events.values()))}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a snapshot; of one with a larger limit the latest are kept."""
        ids, events = unpack(arrays["ids"], list[str]), unpack(arrays["events"], list[bytes])
        self._events = OrderedDict(zip(ids[-self.limit :], events[-self.limit :], strict=True))
        self.bytes = sum(map(len, self._events.values()))
