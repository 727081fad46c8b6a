"""One log, on stderr: JSON lines for machines, coloured text where a person is looking."""

import asyncio
import json
import logging
import sys

import structlog
from structlog.types import Processor

from runtime.infrastructure.redaction import hide

_CHATTY = (
    "aiohttp",
    "aiosqlite",
    "alembic",
    "httpcore",
    "httpx",
    "openai",
    "sqlalchemy",
    "watchfiles",
)


def configure(level: str) -> None:
    """Every logger of the process, structlog's and the standard library's, from here on."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_rendering(for_people=sys.stderr.isatty()),
            hide,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(True)


def _is_news(record: logging.LogRecord) -> bool:
    """Not so an answer that was cancelled because the grace period is over."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _rendering(*, for_people: bool) -> list[Processor]:
    if for_people:
        # The default shows every frame's local variables, and with them secrets.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.StackInfoRenderer(),
        # All but ASCII is escaped: a line stays a line whatever a caller put into it.
        structlog.processors.JSONRenderer(serializer=json.dumps, default=repr),
    ]
