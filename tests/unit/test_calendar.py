"""When cron expressions and intervals are due."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.domain.errors import InvalidCron, InvalidValue, UnknownTimezone
from runtime.domain.value_objects.schedules import Cron, Every, Trigger
from runtime.infrastructure.calendar import CronCalendar

CALENDAR = CronCalendar()
BERLIN = "Europe/Berlin"
MINUTE = timedelta(minutes=1)


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def ticks(trigger: Trigger, start: str, count: int, zone: str = BERLIN) -> list[str]:
    """The next ones, on the zone's clocks."""
    found = []
    now = at(start, zone)
    for _ in range(count):
        then = CALENDAR.after(trigger, now)
        assert then is not None
        assert then.tzinfo is UTC
        found.append(then.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M%z"))
        now = then
    return found


def test_clocks_that_are_put_forward_do_not_swallow_a_tick() -> None:
    # On 29 March 2026 2:00 is 3:00.
    daily = Cron("30 2 * * *", BERLIN)

    assert ticks(daily, "2026-03-28T00:00", 3) == [
        "03-28 02:30+0100",
        "03-29 03:00+0200",
        "03-30 02:30+0200",
    ]


def test_clocks_that_are_put_back_do_not_repeat_a_tick() -> None:
    # On 25 October 2026 3:00 is 2:00.
    daily = Cron("30 2 * * *", BERLIN)

    assert ticks(daily, "2026-10-24T12:00", 2) == ["10-25 02:30+0200", "10-26 02:30+0100"]
    second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    then = CALENDAR.after(daily, second_pass)
    assert then == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert CALENDAR.latest(daily, second_pass) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("day", ["2026-03-28T23:00", "2026-10-24T23:00"])
def test_what_happens_every_few_minutes_goes_on_evenly_whatever_clocks_do(day: str) -> None:
    now = at(day, BERLIN).astimezone(UTC)
    for _ in range(40):
        then = CALENDAR.after(Cron("*/15 * * * *", BERLIN), now)
        assert then == now + 15 * MINUTE
        now = then


def test_months_end_when_they_end_and_leap_days_are_waited_for() -> None:
    assert ticks(Cron("0 12 31 * *"), "2026-01-31T13:00", 3, "UTC") == [
        "03-31 12:00+0000",
        "05-31 12:00+0000",
        "07-31 12:00+0000",
    ]
    assert ticks(Cron("0 12 L * *"), "2026-02-01T00:00", 2, "UTC") == [
        "02-28 12:00+0000",
        "03-31 12:00+0000",
    ]
    assert CALENDAR.after(Cron("0 0 29 2 *"), at("2097-01-01T00:00")) == at("2104-02-29T00:00")


@pytest.mark.parametrize(
    ("macro", "tick"),
    [
        ("@hourly", "2026-07-15T13:00"),
        ("@daily", "2026-07-16T00:00"),
        ("@WEEKLY", "2026-07-19T00:00"),
        ("@monthly", "2026-08-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
    ],
)
def test_macros_stand_for_what_they_say(macro: str, tick: str) -> None:
    assert CALENDAR.after(Cron(macro), at("2026-07-15T12:30")) == at(tick)


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("60 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 32 * *", "day-of-month"),
        ("0 0 31 feb *", "day-of-month"),
        ("0 0 * 13 *", "month"),
        ("0 0 * foo *", "month"),
        ("0 0 * * 8", "day-of-week"),
        ("0 0 * * fri-mon", "day-of-week"),
        ("0 0 * * mon#6", "day-of-week"),
        ("٣ 0 * * *", "minute"),
    ],
)
def test_a_wrong_expression_is_refused_by_the_field_with_an_example(
    expression: str, field: str
) -> None:
    with pytest.raises(InvalidCron, match=f"in its {field} .* such as") as refused:
        CALENDAR.after(Cron(expression), at("2026-01-01T00:00"))
    assert refused.value.details == {"field": field}


@pytest.mark.parametrize("expression", ["", "* * * *", "0 0 * * * *", "@reboot", "@"])
def test_an_expression_has_five_fields_or_is_a_macro(expression: str) -> None:
    with pytest.raises(InvalidCron, match=r"five|none of"):
        CALENDAR.after(Cron(expression), at("2026-01-01T00:00"))


@pytest.mark.parametrize(
    "zone", ["", "Europe", "Mars/Base", "../etc/passwd", "/etc/passwd", "ü", "a\udcff"]
)
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(UnknownTimezone):
        CALENDAR.after(Cron("@daily", zone), at("2026-01-01T00:00"))


def test_intervals_keep_to_their_anchor() -> None:
    every = Every(90, at("2026-01-01T00:00:30"))

    assert every.after(at("2025-01-01T00:00")) == every.anchor
    assert every.after(every.anchor) == at("2026-01-01T00:02:00")
    assert every.after(at("2026-01-01T00:02:00")) == at("2026-01-01T00:03:30")
    assert every.latest(at("2026-01-01T00:03:29.999999")) == at("2026-01-01T00:02:00")
    assert every.latest(at("2026-01-01T00:00:29")) is None


@pytest.mark.parametrize("seconds", [0, 9, 366 * 24 * 3_600 + 1, -60])
def test_intervals_are_neither_too_short_nor_too_long(seconds: int) -> None:
    with pytest.raises(InvalidValue, match="10 to"):
        Every(seconds, at("2026-01-01T00:00"))


def numbers(first: int, last: int) -> st.SearchStrategy[str]:
    one = st.integers(first, last)
    span = st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.tuples(st.just("*"), st.integers(1, last or 1)).map(
        lambda pair: "/".join(map(str, pair))
    )
    few = st.lists(one.map(str), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), few, span, step)


EXPRESSIONS = st.tuples(
    numbers(0, 59), numbers(0, 23), numbers(1, 28), numbers(1, 12), numbers(0, 7)
).map(" ".join)
ZONES = st.sampled_from(
    [
        BERLIN,
        "UTC",
        "America/New_York",
        "Australia/Sydney",
        "Asia/Kathmandu",
        "Africa/Casablanca",
    ]
)
MOMENTS = st.one_of(
    st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1)),
    # Around the changes of Berlin's clocks.
    st.datetimes(datetime(2026, 3, 29), datetime(2026, 3, 29, 4)),
    st.datetimes(datetime(2026, 10, 25), datetime(2026, 10, 25, 4)),
).map(lambda moment: moment.replace(tzinfo=UTC))


@given(EXPRESSIONS, ZONES, MOMENTS)
def test_ticks_go_forward_and_lead_back(expression: str, zone: str, moment: datetime) -> None:
    cron = Cron(expression, zone)
    found = [moment]
    for _ in range(4):
        tick = CALENDAR.after(cron, found[-1])
        assert tick is not None
        found.append(tick)

    for before, tick in pairwise(found):
        assert before < tick
    for before, tick in pairwise(found[1:]):
        assert CALENDAR.latest(cron, before) == before
        assert CALENDAR.latest(cron, tick - timedelta(microseconds=1)) == before


@given(st.text(alphabet="0123456789*/,-#L lwmonjanMON@", max_size=30), MOMENTS)
def test_whatever_is_written_is_understood_or_refused(expression: str, moment: datetime) -> None:
    try:
        tick = CALENDAR.after(Cron(expression), moment)
    except InvalidCron:
        return
    assert tick is None or tick > moment
