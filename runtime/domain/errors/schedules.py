"""Schedules."""

from runtime.domain.errors.kinds import Conflict, Invalid, NotFound


class ScheduleNotFound(NotFound):
    code = "schedule_not_found"

    def __init__(self, schedule: object) -> None:
        super().__init__(f"Schedule '{schedule}' does not exist.", param="id")


class InvalidCron(Invalid):
    code = "invalid_cron"

    def __init__(self, problem: str, *, field: str | None = None) -> None:
        super().__init__(
            f"The cron expression {problem} '0 7 * * mon-fri' is 7:00 from monday to friday.",
            param="cron",
            details={"field": field} if field else None,
        )


class UnknownTimezone(Invalid):
    code = "unknown_timezone"

    def __init__(self) -> None:
        super().__init__(
            "There is no such time zone; write it as 'Europe/Berlin', 'America/New_York' or 'UTC'.",
            param="timezone",
        )


class TooManySchedules(Conflict):
    code = "too_many_schedules"

    def __init__(self, most: int) -> None:
        super().__init__(f"You have {most} schedules, which is the most; delete one first.")
