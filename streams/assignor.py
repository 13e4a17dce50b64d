"""The range assignor with two habits added: who owns a partition keeps it, and only what moves is taken away.

Kafka's own range assignor sorts members by name and takes everything from everybody at each change. With a
model behind every shard both are dear: a member that joins would stop all others until they have written and
read their state, and one whose name sorts first would take the shards of a running one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor, RebalanceProtocol
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription


def place(partitions: Sequence[int], owned: Mapping[str, Collection[int]]) -> dict[str, list[int]]:
    """Nearly equal shares for all members: each keeps what it owns of its share, the rest goes out in ranges.

    partitions: ascending. owned: member → the partitions it has now, members in the order of their names.

    >>> place([0, 1, 2], {"a": [], "b": []})
    {'a': [0, 1], 'b': [2]}
    >>> place([0, 1, 2], {"a": [], "b": [0, 1, 2]})
    {'a': [2], 'b': [0, 1]}
    >>> place([0, 1, 2], {"a": [], "b": [2], "c": [1]})
    {'a': [0], 'b': [2], 'c': [1]}
    """
    each, more = divmod(len(partitions), len(owned))
    larger = sorted(owned, key=lambda member: -len(owned[member]))[:more]
    share = {member: each + (member in larger) for member in owned}
    there, kept = set(partitions), {}
    for member, have in owned.items():
        kept[member] = sorted(there.intersection(have))[: share[member]]
        there -= set(kept[member])
    free = iter(sorted(there))
    return {m: sorted([*have, *islice(free, share[m] - len(have))]) for m, have in kept.items()}


def withhold(
    wanted: Mapping[str, Sequence[int]], owned: Mapping[str, Collection[int]]
) -> dict[str, list[int]]:
    """What of it can be given now: a partition that another member has must be released first.

    >>> withhold({"a": [2], "b": [0, 1]}, {"a": [], "b": [0, 1, 2]})
    {'a': [], 'b': [0, 1]}
    """
    taken = {partition for have in owned.values() for partition in have}
    return {
        member: [partition for partition in have if partition in owned[member] or partition not in taken]
        for member, have in wanted.items()
    }


class StickyRange(AbstractPartitionAssignor):  # type: ignore[misc]  # kafka-python carries no types
    """Ranges per topic that stay where they are as far as shares allow, handed over one step at a time.

    owned: asked for the partitions (topic, number) of this member whenever it joins. assigned: told what the
    member was given, and in which generation of the group.
    """

    name = "everlearn-range"
    version = 1  # of the members' metadata: the first that says what a member owns

    def __init__(
        self,
        owned: Callable[[], Collection[tuple[str, int]]],
        assigned: Callable[[Collection[tuple[str, int]], int], None],
    ) -> None:
        self._owned = owned
        self._assigned = assigned

    def supported_protocols(self) -> list[RebalanceProtocol]:
        """Members keep what they have while a group changes, and give back only what moves."""
        return [RebalanceProtocol.COOPERATIVE]

    def metadata(self, topics: Collection[str]) -> Any:
        """What this member tells the group's leader: its topics and what it owns."""
        entry = ConsumerProtocolSubscription.TopicPartition
        owned = self._owned()
        return ConsumerProtocolSubscription(
            version=self.version,
            topics=sorted(topics),
            user_data=b"",
            owned_partitions=[
                entry(topic=topic, partitions=sorted(number for name, number in owned if name == topic))
                for topic in sorted({name for name, _ in owned})
            ],
        )

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """Member id → assignment; run by the group's leader for all."""
        named = sorted(members, key=lambda m: (m.group_instance_id is None, m.group_instance_id, m.member_id))
        found: dict[str, list[tuple[str, list[int]]]] = {member.member_id: [] for member in members}
        for topic in sorted({topic for member in members for topic in member.metadata.topics}):
            owned = {m.member_id: _of(m.metadata, topic) for m in named if topic in m.metadata.topics}
            wanted = place(sorted(cluster.partitions_for_topic(topic) or ()), owned)
            for member, numbers in withhold(wanted, owned).items():
                found[member].append((topic, numbers))
        return {
            member: ConsumerProtocolAssignment(self.version, given, b"") for member, given in found.items()
        }

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Passed on."""
        self._assigned([(topic, number) for topic, number in assignment.partitions()], generation)


def _of(metadata: Any, topic: str) -> list[int]:
    """The partitions of a topic that a member says it owns."""
    return [
        number for name, numbers in metadata.owned_partitions or () if name == topic for number in numbers
    ]
