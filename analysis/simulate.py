"""Lookups → what caches would have answered: one cache for each point, a TTL from the last write and one from the last use.

All points are played at once, as columns of arrays. Nothing here reads or writes anything.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

FOREVER, NEVER = 1 << 61, -(1 << 62)  # microseconds; every instant of evidence lies well between
UNKNOWN, FAILED = -2, -1  # beside 0, refused, and 1, confirmed
_CELLS = 1 << 16  # of one step, so that its arrays stay in the processor's cache


class Lookups(NamedTuple):
    """Every lookup, those of one key together and in the order of time."""

    numbers: NDArray[np.int64]
    bookings: NDArray[np.int64]
    keys: NDArray[np.int64]
    instants: NDArray[np.int64]  # microseconds
    answers: NDArray[np.int8]  # what the check came to: 0 refused, 1 confirmed, -1 failed
    begin: int  # the instant of the first lookup of all; 0 where there is none

    def where(self, rows: NDArray[np.bool_]) -> "Lookups":
        """Return some of the lookups, all or none of a key."""
        return Lookups(
            self.numbers[rows], self.bookings[rows], self.keys[rows], self.instants[rows], self.answers[rows], self.begin
        )


class Step(NamedTuple):
    """Lookups, one of each of several keys, against as many caches as there are points: arrays of lookups × points."""

    rows: NDArray[np.int64]
    hit: NDArray[np.bool_]
    answers: NDArray[np.int8]  # what stood in the cache
    written: NDArray[np.int64]  # since when


def gaps_of(lookups: Lookups) -> NDArray[np.int64]:
    """Return the microseconds since the lookup of the same key before, for the first of a key since the first of all."""
    return np.where(firsts(lookups), lookups.instants - lookups.begin, np.diff(lookups.instants, prepend=0))


def firsts(lookups: Lookups) -> NDArray[np.bool_]:
    """Say which lookups are the first of their keys."""
    return np.not_equal(np.diff(lookups.keys, prepend=-1), 0)


def reached(lookups: Lookups, ttl: int) -> NDArray[np.bool_]:
    """Say on which lookups an older answer than the first recorded check has a bearing: until a gap longer than the TTL."""
    asked = pl.DataFrame({"key": lookups.keys, "over": gaps_of(lookups) > ttl})
    return asked.select(pl.col("over").cum_sum().over("key") == 0).to_series().to_numpy()


class Counts(NamedTuple):
    """At each point."""

    hits: NDArray[np.int64]
    stale: NDArray[np.int64]
    answered: NDArray[np.int64]  # hits of lookups whose check did not fail


def count(lookups: Lookups, written_us: Sequence[int], used_us: Sequence[int], *, warm: bool = False) -> Counts:
    """Count at each point; keys of which the gaps tell all are not played."""
    limits = np.minimum(written_us, used_us)
    if not len(lookups.keys):
        return Counts(*np.zeros((3, len(limits)), dtype=np.int64))
    first, gaps = firsts(lookups), gaps_of(lookups)
    starts = np.flatnonzero(first)
    sizes = np.diff(starts, append=len(first))
    least, most = (np.minimum.reduceat(lookups.answers, starts), np.maximum.reduceat(lookups.answers, starts))
    # Asked once; or, where every use prolongs it, answered alike each time.
    by_use = all(limit == FOREVER for limit in written_us)
    told = np.repeat((sizes == 1) | ((least == most) & (least != FAILED) & by_use), sizes)
    asked = told if warm else told & ~first
    answered = asked & (lookups.answers != FAILED)
    hits, known = (np.searchsorted(np.sort(gaps[which]), limits, side="right") for which in (asked, answered))
    stale = np.zeros(len(limits), dtype=np.int64)
    rest = lookups.where(~told)
    for step in play(rest, written_us, used_us, warm=warm):
        fresh = rest.answers[step.rows, None]
        sure = step.hit & (fresh != FAILED)
        hits += step.hit.sum(axis=0, dtype=np.uint32)
        known += sure.sum(axis=0, dtype=np.uint32)
        stale += (sure & (step.answers != fresh)).sum(axis=0, dtype=np.uint32)
    return Counts(hits, stale, known)


def play(lookups: Lookups, written_us: Sequence[int], used_us: Sequence[int], *, warm: bool = False) -> Iterator[Step]:
    """Play the lookups against caches, one for each point: a TTL from the last write, and one from the last use.

    Keys do not meet in a cache without limit, so the n-th lookups of many keys are one step, and all points are one array.
    ``warm``: every key was written at the instant of the first lookup of all. No unrecorded past gives more hits on lookups
    whose checks did not fail: of two caches that differ only in how fresh one answer is, the fresher is never behind, nor
    ahead by more than one hit, after which it may be the other that is fresher.
    """
    if not len(lookups.keys):
        return
    written_ttl, used_ttl = np.array(written_us, dtype=np.int64), np.array(used_us, dtype=np.int64)
    by_use = bool((written_ttl == FOREVER).all())
    starts = np.flatnonzero(np.diff(lookups.keys, prepend=lookups.keys[0] - 1))
    sizes = np.diff(starts, append=len(lookups.keys))
    longest_first = np.argsort(-sizes, kind="stable")
    starts, sizes = starts[longest_first], sizes[longest_first]
    block = max(1, _CELLS // max(1, len(written_ttl)))
    begin = lookups.begin if warm else NEVER
    for first in range(0, len(starts), block):
        at, size = starts[first : first + block], sizes[first : first + block]
        shape = (len(at), len(written_ttl))
        written, answers = np.full(shape, begin), np.full(shape, UNKNOWN, dtype=np.int8)
        until = np.minimum(written + written_ttl, written + used_ttl)
        for n in range(size[0]):
            rows = at[: np.searchsorted(-size, -n)] + n
            here = slice(len(rows))
            now, fresh = lookups.instants[rows, None], lookups.answers[rows, None]
            hit = now <= until[here]
            yield Step(rows, hit, answers[here], written[here])
            failed = fresh == FAILED
            write = ~hit & ~failed
            np.copyto(answers[here], fresh, where=write)
            np.copyto(written[here], now, where=write)
            again = now + used_ttl if by_use else np.minimum(written[here] + written_ttl, now + used_ttl)
            np.copyto(until[here], again, where=hit | ~failed)
