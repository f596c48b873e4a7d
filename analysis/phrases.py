"""Instants, lengths and names as people write them. Nothing here reads or writes anything."""

from datetime import datetime
from string import ascii_uppercase
from unicodedata import category
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# Request is C, as in the story; rivals take the other letters.
_RIVAL_NAMES = ascii_uppercase.replace("C", "")


def rival_names(count: int) -> list[str]:
    """Return a letter for each rival, with a number where the letters run out; C stays free for the request.

    >>> rival_names(27)[1:4], rival_names(27)[-2:]
    (['B', 'D', 'E'], ['A2', 'B2'])
    """
    return [_RIVAL_NAMES[i % 25] + (str(i // 25 + 1) if i >= 25 else "") for i in range(count)]


def local_zone(name: str | None) -> tuple[ZoneInfo, str]:
    """Return a restaurant's time zone and how to call it; UTC where its name is unknown.

    >>> local_zone("America/New_York")[1], local_zone("Mars/Olympus")[1]
    ('New York', 'UTC')
    """
    try:
        return ZoneInfo(name or "UTC"), (name or "UTC").rpartition("/")[2].replace("_", " ")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        return ZoneInfo("UTC"), "UTC"


def counted(number: int, things: str) -> str:
    """Write how many things there are, of which this is the plural.

    >>> counted(1, "ledger entries"), counted(1, "checks"), counted(2100, "checks")
    ('1 ledger entry', '1 check', '2,100 checks')
    """
    one = f"{things.removesuffix('ies')}y" if things.endswith("ies") else things.removesuffix("s")
    return f"{number:,} {one if number == 1 else things}"


def printable(text: str, keep: str = "") -> str:
    r"""Replace by a visible mark what a terminal would obey and no SVG may hold; spaces of every width stay.

    >>> printable("T7\x1b[31m\u202e, a\xa0bar") == "T7\ufffd[31m\ufffd, a\xa0bar"
    True
    """
    return "".join(c if c.isprintable() or c in keep or category(c) == "Zs" else "\N{REPLACEMENT CHARACTER}" for c in text)


def weekday(local: datetime) -> str:
    """Write the day of a local instant, as Sat 15 Nov."""
    return f"{local:%a} {local.day} {local:%b}"


def clock(instant: datetime | None, zone: ZoneInfo) -> str:
    """Write an instant as the clocks of a zone show it, no finer than it is."""
    if instant is None:
        return "no bound"
    local = instant.astimezone(zone)
    form = "%H:%M:%S.%f" if local.microsecond else "%H:%M:%S" if local.second else "%H:%M"
    # An hour that the clocks show twice is told apart by its offset's name.
    twice = local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset()
    return local.strftime(f"{form} %Z" if twice else form)


def length(seconds: float | None) -> str:
    """Write how long an overlap is; null is without end."""
    if seconds is None:
        return "without end"
    if seconds == 0:
        return "a single instant"
    if seconds < 0.001:
        return f"{seconds * 1_000_000:.0f} microseconds"
    minutes, rest = divmod(seconds, 60)
    return f"{seconds:g} s" if rest else f"{minutes:.0f} minute{'' if minutes == 1 else 's'}"


def elapsed(seconds: float) -> str:
    """Write a time between two instants as people read it, to the millisecond where it is short.

    >>> elapsed(0.0004), elapsed(0.412), elapsed(75.2), elapsed(7_500), elapsed(400_000)
    ('0.4 ms', '0.412 s', '75.2 s', '2 h 5 min', '4.6 days')
    """
    if seconds < 0.001:
        return f"{1000 * seconds:g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return hours(60 * round(seconds / 60)) if seconds < 2 * 86_400 else f"{seconds / 86_400:.1f} days"


def shift(seconds: float) -> str:
    """Write how much later a start is, or earlier."""
    return f"{hours(seconds)} {'later' if seconds > 0 else 'earlier'}"


def hours(seconds: float) -> str:
    """Write a length in hours and minutes."""
    hours, minutes = divmod(abs(seconds) / 60, 60)
    parts = [f"{hours:g} h"] * (hours > 0) + [f"{minutes:g} min"] * (minutes > 0)
    return " ".join(parts)
