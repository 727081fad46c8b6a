"""One log, on stderr: JSON lines for machines, coloured text where a person is looking.

On wish in a file too, as JSON lines.
"""

import asyncio
import json
import logging
import sys
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class LogFile:
    path: Path
    max_bytes: int
    backups: int

    def opened(self) -> logging.Handler:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return RotatingFileHandler(
            self.path, maxBytes=self.max_bytes, backupCount=self.backups, encoding="utf-8"
        )


def configure(level: str, file: LogFile | None = None) -> None:
    """Every logger of the process, structlog's and the standard library's, from here on.

    Raises OSError for a file that can't be written.
    """
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
    handlers = [
        _formatted(logging.StreamHandler(sys.stderr), shared, for_people=sys.stderr.isatty())
    ]
    if file:
        handlers.append(_formatted(file.opened(), shared, for_people=False))
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(True)


def _formatted(
    handler: logging.Handler, shared: list[Processor], *, for_people: bool
) -> logging.Handler:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(for_people=for_people),
                hide,
            ],
        )
    )
    handler.addFilter(_is_news)
    return handler


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
