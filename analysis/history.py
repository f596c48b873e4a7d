"""The life of a booking application in virtual time, across the migration: where most of the lab's evidence comes from.

One connection takes bookings, holds tables, confirms, retries, cancels, moves, one transaction after the other.

PostgreSQL stops at the first rival it meets, and a GiST index keeps no fixed order among ties. So that the history
repeats, its application does not ask to confirm where one table already has two rivals.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from psycopg import errors
from psycopg.types.range import TimestamptzRange

from analysis import constraint, query
from analysis.model import ForensicsError

RESTAURANTS = [
    ("The Anchor", "Europe/London"),
    ("Copper Kettle", "America/New_York"),
    ("Chez Mireille", "Europe/Paris"),
    ("Harbour Lights", "Australia/Sydney"),
    ("Little Dumpling", "Asia/Tokyo"),
    ("La Huerta", "America/Los_Angeles"),
]

REQUESTS_A_DAY = 12.5  # per restaurant

SLOTS = ["12:00", "12:30", "13:00", "13:45", "18:00", "18:45", "19:00", "19:30", "20:00", "21:00"]

SLOT_WEIGHTS = [2, 3, 4, 2, 3, 4, 8, 9, 8, 3]

PARTIES = range(1, 11)

PARTY_WEIGHTS = [3, 30, 12, 22, 8, 9, 4, 5, 2, 2]

# What v11 raises, and what a rule raises at commit; v12 records instead.
REFUSALS = (
    errors.ExclusionViolation,
    errors.RaiseException,
    errors.TooManyRows,
    errors.ForeignKeyViolation,
    errors.CheckViolation,
)

# Not asked where one of the tables has more rivals than that.
CONFIRM = """
select confirm_hold_assignment_tx(%(hold)s, %(booking)s) where not exists (
  select from allocations where restaurant_id = %(restaurant)s and "window" && %(window)s and not shadow
  and resource_id = any(%(tables)s) and booking_id is distinct from %(booking)s
  group by resource_id having count(*) > %(rivals)s)"""


@dataclass(frozen=True)
class Plan:
    """What the workload is to be: days of history, two fifths of them before the migration, then rounds of races."""

    seed: int = 20251113
    days: int = 61
    restaurants: int = 6
    race_rounds: int = 30

    def __post_init__(self) -> None:
        if not (2 <= self.restaurants <= len(RESTAURANTS) and self.days >= 3 and self.race_rounds >= 0):
            raise ForensicsError(f"a plan has 2 to {len(RESTAURANTS)} restaurants, 3 days or more, no negative rounds: {self}")

    @property
    def start(self) -> datetime:
        """Return the midnight (UTC) at which the history begins."""
        return datetime.combine(constraint.MIGRATED_AT.date(), clock(), UTC) - timedelta(days=round(0.4 * self.days))

    @property
    def end(self) -> datetime:
        """Return the midnight (UTC) at which the history stops."""
        return self.start + timedelta(days=self.days)


@dataclass(frozen=True)
class Restaurant:
    """A tenant and its tables, smallest first, as the application knows them."""

    id: UUID
    zone: ZoneInfo
    tables: list[UUID]

    def window(self, day: datetime, at: clock, minutes: int) -> TimestamptzRange:
        """Return the half-open window, in UTC, that starts at a local time on the date of a day."""
        lower = datetime.combine(day.date(), at, self.zone).astimezone(UTC)
        return TimestamptzRange(lower, lower + timedelta(minutes=minutes))


@dataclass
class Visit:
    """One booking as the application remembers it, with its latest hold."""

    booking: UUID
    restaurant: UUID
    party: int
    window: TimestamptzRange
    hold: UUID
    tables: list[UUID] = field(default_factory=list)
    attempts: int = 0

    def place(self, conn: psycopg.Connection, uid: Callable[[], UUID]) -> None:
        """Write the booking, its hold, and the shadow rows that mirror the hold."""
        ids = [uid() for _ in range(len(self.tables) + (len(self.tables) > 1))]
        arguments = [self.booking, self.restaurant, self.party, self.window, self.hold, self.tables, ids]
        conn.execute("call lab.place(%s, %s, %s, %s, %s, %s, %s)", arguments)

    def confirm(self, conn: psycopg.Connection, rivals: int = 1) -> bool | None:
        """Confirm the hold and return whether it was; null, without asking, where a table has more rivals."""
        row = conn.execute(CONFIRM, vars(self) | {"rivals": rivals}).fetchone()
        return bool(row[0]["confirmed"]) if row else None

    def shift(self, minutes: int) -> None:
        """Move the requested window."""
        assert self.window.lower
        assert self.window.upper
        by = timedelta(minutes=minutes)
        self.window = TimestamptzRange(self.window.lower + by, self.window.upper + by)


class History:
    """Virtual time: a queue of events, each one transaction at its own instant."""

    def __init__(self, conn: psycopg.Connection, plan: Plan) -> None:
        self.conn, self.plan, self.rng = conn, plan, random.Random(plan.seed)  # noqa: S311 repeatable, not secret
        self.queue: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self.sequence = 0
        self.restaurants = [self.open(name, ZoneInfo(zone)) for name, zone in RESTAURANTS[: plan.restaurants]]
        self.tables = [table for restaurant in self.restaurants for table in restaurant.tables]
        self.schedule()

    def uid(self) -> UUID:
        """Return the next identifier of this history."""
        return UUID(int=self.rng.getrandbits(128), version=4)

    def chance(self, probability: float) -> bool:
        """Throw the dice."""
        return self.rng.random() < probability

    def later(self, at: datetime, low_s: float, high_s: float) -> datetime:
        """Return an instant some seconds later, with microseconds, as real arrivals have."""
        return at + timedelta(seconds=self.rng.uniform(low_s, high_s))

    def push(self, at: datetime, action: Callable[..., None], *args: Any) -> None:
        """Queue an event; what falls after the end of the history never happens."""
        if at < self.plan.end:
            event: tuple[datetime, int, Callable[[datetime], None]] = (at, self.sequence, partial(action, *args))
            heapq.heappush(self.queue, event)
            self.sequence += 1

    @contextmanager
    def at(self, instant: datetime) -> Iterator[None]:
        """Run one transaction of the application at a virtual instant."""
        with self.conn.transaction():
            self.conn.execute("select set_config('lab.now', %s, true)", [instant.isoformat()])
            yield

    def act(self, statement: str, arguments: list[Any], at: datetime) -> None:
        """Run one statement; where the overlap rule refuses it, all stays as it is."""
        with suppress(errors.ExclusionViolation), self.at(at):
            self.conn.execute(statement, arguments)

    def open(self, name: str, zone: ZoneInfo) -> Restaurant:
        """Create a restaurant of 8 to 12 tables that seat 2 to 8."""
        seats = sorted([2, 2, 4, 4, 4, 6, 8, *self.rng.choices(range(2, 7), k=self.rng.randint(1, 5))])
        restaurant = Restaurant(self.uid(), zone, [self.uid() for _ in seats])
        self.conn.execute("insert into restaurants values (%s, %s, %s)", [restaurant.id, name, zone.key])
        for number, (table, capacity) in enumerate(zip(restaurant.tables, seats, strict=True), start=1):
            section = "terrace" if number % 4 == 0 else "main"
            self.conn.execute(
                "insert into table_inventory values (%s, %s, %s, %s, %s, %s, %s)",
                [table, restaurant.id, f"{number:02}", capacity, max(1, capacity // 2), capacity, section],
            )
        return restaurant

    def schedule(self) -> None:
        """Queue what does not depend on a guest's luck: arrivals, nights, closures, the migration, a new policy."""
        start, after = self.plan.start, self.plan.end - constraint.MIGRATED_AT
        for midnight in (start + timedelta(days=day) for day in range(self.plan.days)):
            prune = "select archive_allocations(lab.now() - interval '14 days')"
            self.push(self.later(midnight, 10800, 11000), self.act, prune, [])
            for hour in range(24):
                self.push(self.later(midnight, 3600 * hour, 3600 * hour + 60), self.act, "call lab.sweep()", [])
            for restaurant in self.restaurants:
                opening = datetime.combine(midnight.date(), clock(8), restaurant.zone).astimezone(UTC)
                for _ in range(round(max(0.0, self.rng.gauss(REQUESTS_A_DAY, 3)))):
                    self.push(self.later(opening, 0, 15 * 3600), self.request, restaurant)
                if self.chance(0.15):
                    day = opening + timedelta(days=self.rng.randint(1, 14))
                    window = restaurant.window(day, *self.rng.choice([(clock(9), 480), (clock(0), 1440)]))
                    closure = [self.uid(), self.rng.choice(restaurant.tables), restaurant.id, window]
                    at = self.later(opening, 0, 8 * 3600)
                    self.push(at, self.act, "call lab.close_table(%s, %s, %s, %s)", closure)
        self.push(constraint.MIGRATED_AT, self.migrate)
        # Guests whose holds live across the change of policy find it changed when they confirm.
        change, restaurant = self.later(constraint.MIGRATED_AT + 0.6 * after, 0, 60), self.restaurants[1]
        policy = "update restaurants set policy_version = policy_version + 1 where id = %s"
        self.push(change, self.act, policy, [restaurant.id])
        for _ in range(6):
            self.push(self.later(change, -90, -20), self.request, restaurant)
        # Two restaurants book one terrace at overlapping times: the rule refuses it before the migration only.
        pair = self.restaurants[:2]
        for instant in (
            constraint.MIGRATED_AT - timedelta(hours=30),
            *(constraint.MIGRATED_AT + x * after for x in (0.1, 0.4, 0.7)),
        ):
            windows = [pair[0].window(instant + timedelta(days=3), clock(hour), 120) for hour in (18, 19)]
            shared = [self.uid(), [r.id for r in pair], windows, [self.uid() for _ in range(4)]]
            self.push(self.later(instant, 0, 3600), self.act, "call lab.share(%s, %s, %s, %s)", shared)

    def run(self, say: Callable[[str], None]) -> None:
        """Live through the events in the order of their instants."""
        day = ""
        while self.queue:
            instant, _, action = heapq.heappop(self.queue)
            if day != (day := f"{instant:%Y-%m-%d}"):
                say(day)
            action(instant)

    def migrate(self, at: datetime) -> None:
        """Migrate in one transaction, as documented; the clock must be taken again, for the replaced function."""
        with self.at(at):
            for name in ("postgres/migration_up", "postgres/reader"):
                self.conn.execute(query.text(name))
            self.conn.execute("call lab.take_clock()")

    def request(self, restaurant: Restaurant, at: datetime) -> None:
        """Take a guest's wish: a party, a day up to 45 days ahead, a popular time."""
        party = self.rng.choices(PARTIES, PARTY_WEIGHTS)[0]
        lead = 0.0 if self.chance(0.15) else min(45.0, self.rng.expovariate(1 / 6))
        slot = clock.fromisoformat(self.rng.choices(SLOTS, SLOT_WEIGHTS)[0])
        day = at.astimezone(restaurant.zone) + timedelta(days=int(lead))
        if datetime.combine(day.date(), slot, restaurant.zone) < at + timedelta(minutes=30):
            day += timedelta(days=1)
        window = restaurant.window(day, slot, 90 if party <= 4 else 120)
        self.hold(Visit(self.uid(), restaurant.id, party, window, self.uid()), self.chance(0.18), at)

    def choose(self, visit: Visit, blind: bool) -> list[UUID]:
        """Return the smallest table that seats the party, else two; ``blind`` takes a stale view for the truth."""
        select = "select table_id, seats from lab.tables_to_choose(%s, %s, %s)"
        free = self.conn.execute(select, [visit.restaurant, visit.window, blind]).fetchall()
        singles = [[table] for table, seats in free if seats >= visit.party]
        if blind and singles:
            return self.rng.choice(singles[:3])
        pairs = [(s + u, [a, b]) for i, (a, s) in enumerate(free) for b, u in free[i + 1 :] if s + u >= visit.party]
        return singles[0] if singles else min(pairs)[1] if pairs else []

    def hold(self, visit: Visit, blind: bool, at: datetime) -> None:
        """Hold tables for a visit and let it be confirmed a little later, or never."""
        visit.attempts += 1
        try:
            with self.at(at):
                visit.tables = self.choose(visit, blind)
                if self.chance(0.004):
                    visit.tables = [self.rng.choice(self.tables)]  # most likely another restaurant's
                if not visit.tables:
                    return
                visit.place(self.conn, self.uid)
        except errors.ExclusionViolation:  # the strict rule, at commit: somebody else's hold is in the way
            if visit.attempts < 3:
                self.push(self.later(at, 5, 90), self.again, visit)
            return
        if self.chance(0.97):
            self.push(at + timedelta(seconds=self.rng.lognormvariate(4.5, 0.85)), self.confirm, visit)
        if self.chance(0.004):
            grow = "update bookings set party_size = party_size + 14 where id = %s"
            self.push(self.later(at, 1, 20), self.act, grow, [visit.booking])

    def again(self, visit: Visit, at: datetime) -> None:
        """Try another table or, half the time, another hour, under a new hold; the old hold is released."""
        self.act("call lab.release(%s, %s)", [visit.booking, visit.hold], at)
        visit.hold = self.uid()
        if self.chance(0.5):
            visit.shift(self.rng.choice([-60, -30, 30, 60, 90]))
        self.hold(visit, False, self.later(at, 0.2, 5))

    def confirm(self, visit: Visit, at: datetime) -> None:
        """Confirm the visit's hold for the first time; its later life depends on the answer."""
        try:
            with self.at(at):
                confirmed = visit.confirm(self.conn)
        except REFUSALS:
            confirmed = False
        if confirmed is False and self.chance(0.25):
            self.push(self.later(at, 1, 20), self.check, replace(visit), 0.0)
        elif confirmed is False and self.chance(0.7) and visit.attempts < 3:
            self.push(self.later(at, 5, 120), self.again, visit)
        if not confirmed:
            return
        if self.chance(0.12):  # a double click
            self.push(self.later(at, 0.3, 6), self.check, visit, 0.0)
        self.recheck(visit, 0.25, at)
        assert visit.window.lower
        changed = self.later(at, 60, max(60.0, (visit.window.lower - at).total_seconds()))
        fate = self.rng.random()
        if fate < 0.10:
            self.push(changed, self.act, "call lab.cancel(%s)", [visit.booking])
            self.recheck(visit, 0.05, changed)
        elif fate < 0.16:
            by = timedelta(minutes=self.rng.choice([-90, -30, 30, 60, 1440]))
            self.push(changed, self.act, "call lab.move(%s, %s, %s)", [visit.booking, visit.hold, by])
        elif fate < 0.17:
            self.push(changed, self.act, "delete from bookings where id = %s", [visit.booking])

    def recheck(self, visit: Visit, probability: float, at: datetime) -> None:
        """Perhaps ask again after hours or days, with a heavy tail that ends after 35 days."""
        if self.chance(probability):
            gap_s = min(35 * 86400.0, self.rng.lognormvariate(10.6, 1.9))
            self.push(at + timedelta(seconds=gap_s), self.check, visit, 0.35)

    def check(self, visit: Visit, again: float, at: datetime) -> None:
        """Repeat a confirmation as it was made before, and perhaps once more later."""
        with suppress(*REFUSALS), self.at(at):
            visit.confirm(self.conn)
        self.recheck(visit, again, at)
