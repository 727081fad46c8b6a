from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from runtime.infrastructure.tools.function import FunctionTool, ToolProblem


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    timezone: str = Field(
        default="UTC",
        max_length=64,
        description="IANA name of the time zone, for example Europe/Berlin or Asia/Shanghai.",
    )


def current_time(now: Callable[[], datetime]) -> FunctionTool[Place]:
    def tell(place: Place) -> str:
        there = now().astimezone(_zone(place.timezone))
        return f"{there.isoformat(timespec='seconds')} ({there:%A})"

    return FunctionTool(
        name="current_time",
        description="The current date, time and weekday in a time zone.",
        arguments=Place,
        run=tell,
    )


def _zone(name: str) -> tzinfo:
    if name.strip().upper() in ("", "UTC"):
        return UTC
    try:
        return ZoneInfo(name.strip())
    # A name that is a folder, or no path at all, makes zoneinfo fail in further ways.
    except (KeyError, ValueError, OSError):
        raise ToolProblem(
            f"There is no time zone '{name}'. Use an IANA name such as Europe/Berlin, or UTC."
        ) from None
