"""The runtime as one process: its sockets, its life from start to signal."""

import errno
import gc
import ipaddress
import logging
import os
import socket
import sys

import typer

from runtime.cli.database import unusable
from runtime.cli.failures import Failure
from runtime.cli.options import address
from runtime.domain.errors import DatabaseUnavailable, InvalidValue
from runtime.infrastructure.logging import LogFile, configure
from runtime.infrastructure.redaction import redacted
from runtime.infrastructure.settings import Settings, misspelt

logger = logging.getLogger(__name__)

BACKLOG = 2_048

NO_CREDENTIAL = """\
No credential is configured, so only loopback is served, and {host} is not loopback.
Make an API key, which is kept in the database:
  agent-runtime keys create me --role admin
or set RUNTIME_TOKEN, in the environment, in .env or as `token` in runtime.toml, for example:
  echo "RUNTIME_TOKEN=$(openssl rand -hex 32)" >> .env
or serve this machine only: RUNTIME_HOST=127.0.0.1"""
IN_USE = """\
Port {port} on {ip} is in use. Stop what runs there, or choose another one with RUNTIME_PORT or
--port; 0 takes any that is free."""

Place = tuple[socket.AddressFamily, str]


def serve(settings: Settings) -> None:
    """Returns once a signal has ended it. Raises Failure when it can't start, Exit when a second
    signal did not let it finish."""
    places = _places(settings.host)
    if not all(_is_loopback(ip) for _, ip in places) and not _anybody_known(settings):
        raise Failure(NO_CREDENTIAL.format(host=settings.host), 2)
    listeners = _bound(places, settings.port)
    _configure_log(settings)
    redacted.know(settings.secrets)
    for warning in misspelt(os.environ):
        logger.warning(warning)
    try:
        _run(settings, listeners)
    except DatabaseUnavailable as error:
        raise unusable(error) from error
    except InvalidValue as error:
        raise Failure(f"The settings are not usable: {error}", 2) from error
    except OSError as error:
        raise Failure(f"The runtime could not start: {error}") from error
    finally:
        for listener in listeners:
            listener.close()


def _configure_log(settings: Settings) -> None:
    path = settings.log_file
    file = LogFile(path, settings.log_max_bytes, settings.log_backups) if path else None
    try:
        configure(settings.log_level, file)
    except OSError as error:
        raise Failure(f"RUNTIME_LOG_FILE: {path} can't be written: {error.strerror}.", 2) from error


def _run(settings: Settings, listeners: list[socket.socket]) -> None:
    # Late: these import the frameworks, and a port in use should not wait for that.
    from runtime.infrastructure.container import Container
    from runtime.infrastructure.web.server import DrainingServer

    url = address(settings.host, listeners[0].getsockname()[1])

    def ready() -> None:
        _settle()
        _announce(url, with_token=bool(settings.tokens))

    server = DrainingServer(
        Container(settings=settings),
        ready,
        loop="auto",  # uvloop where there is one
        backlog=BACKLOG,
    )
    server.run(listeners)
    if server.forced_by:
        raise typer.Exit(128 + server.forced_by)


def _settle() -> None:
    """What start-up made stays; looking through it again and again is a third of a short request's
    CPU. Young objects are looked at less often too: a run leaves few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _announce(url: str, *, with_token: bool) -> None:
    typer.echo(f"Agent runtime is ready on {url}  (docs: {url}/docs)")
    if sys.stdout.isatty():
        token = ' -H "Authorization: Bearer $RUNTIME_TOKEN"' if with_token else ""
        typer.echo(
            f"Try: curl {url}/v1/chat/completions{token} -H 'Content-Type: application/json' "
            """-d '{"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]}'"""
        )


def _anybody_known(settings: Settings) -> bool:
    from runtime.cli.keys import any_live_key

    return settings.has_credential or any_live_key(settings)


def _places(host: str) -> list[Place]:
    """The addresses that `host` names, loopback or not."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise Failure(f"RUNTIME_HOST: '{host}' is no address: {why}.", 2) from error
    return list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))


def _is_loopback(ip: str) -> bool:
    return ipaddress.ip_address(ip).is_loopback


def _bound(places: list[Place], port: int) -> list[socket.socket]:
    """A socket for each address, all on one port."""
    listeners: list[socket.socket] = []
    problem: OSError | None = None
    for family, ip in places:
        try:
            listeners.append(_listener(family, ip, port))
        except OSError as error:
            # A machine without IPv6 still names ::1 as localhost; that one is left out.
            if error.errno == errno.EADDRINUSE:
                raise Failure(IN_USE.format(ip=ip, port=port)) from error
            problem = error
        else:
            port = listeners[0].getsockname()[1]
    if not listeners:
        raise Failure(f"Port {port} can't be opened: {problem}") from problem
    return listeners


def _listener(family: socket.AddressFamily, ip: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((ip, port))
    except OSError:
        listener.close()
        raise
    return listener
