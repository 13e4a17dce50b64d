"""What can go wrong at the edges, each as an error that says what was found and what to do."""

from __future__ import annotations


class StreamError(Exception):
    """Anything that a source, a sink or a log cannot go on from."""


class LogDamaged(StreamError):
    """The file of an embedded log is not one, or can no longer be read."""


class LogFull(StreamError):
    """The embedded log's disk has no room left; what is in the log is whole."""


class PositionLost(StreamError, LookupError):
    """A position that the log does not hold (any more): it was cut, has expired or is another log."""


class LogChanged(PositionLost):
    """A log that holds other records than those that were taken from it, or fewer: cut back or made anew."""


class BrokerUnavailable(StreamError, ConnectionError):
    """No broker answers at the address."""


class BrokerConfigError(StreamError, ValueError):
    """A setting for connections to a broker that is unknown or cannot be used."""


class RegistryUnavailable(StreamError, ConnectionError):
    """A schema registry that gives no schema: it cannot be reached, refuses the login or is none."""


class MissingExtra(StreamError, ImportError):
    """A package that is not installed because its extra was not asked for."""


class GroupError(StreamError):
    """A consumer group that this process cannot be a member of, or cannot remain one of."""


class FencedMember(GroupError):
    """Another process has joined the group under the same instance name; this one must stop."""


class UnequalPartitions(StreamError, ValueError):
    """Topics that are to be split into shards partition by partition, with different numbers of them."""


class Fenced(StreamError):
    """Another writer with the same transactional id has begun; this one must stop."""


class MessageTooLarge(StreamError, ValueError):
    """A message above what the client or the broker takes."""


class TableError(StreamError, ValueError):
    """A file of rows that cannot be read as a stream: missing, empty, of unknown form, without its target."""


class UnknownStream(StreamError, LookupError):
    """A name that is neither a built-in stream nor a file, or whose data is not there."""


class MessyTable(UserWarning):
    """Values of a table that could not be read as their column's kind; they count as missing."""
