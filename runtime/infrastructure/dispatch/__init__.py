from sqlalchemy import URL

from runtime.domain.errors import InvalidValue
from runtime.domain.repositories.durable import Share
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.settings import Settings


def run_dispatcher(settings: Settings, ground: Ground, url: URL) -> RunDispatcher:
    """Raises InvalidValue when DBOS is wanted and the extra is not installed."""
    most = settings.max_durable_runs
    share = Share(settings.max_durable_runs_per_user, settings.max_durable_runs_per_agent)
    if settings.dispatcher == "inline":
        if settings.role == "api":
            raise InvalidValue(
                "The dispatcher 'inline' begins runs where they are ordered: it "
                "goes with RUNTIME_ROLE=all alone."
            )
        from runtime.infrastructure.dispatch.inline import InlineDispatcher

        return InlineDispatcher(ground, most, share)
    if settings.dispatcher == "dbos":
        return _dbos(ground, url, most, share)
    from runtime.infrastructure.dispatch.database import DatabaseDispatcher

    return DatabaseDispatcher(ground, most, share)


def _dbos(ground: Ground, url: URL, most: int, share: Share) -> RunDispatcher:
    try:
        from runtime.infrastructure.dispatch.dbos.dispatcher import DbosDispatcher
    except ModuleNotFoundError as error:
        raise InvalidValue(
            "RUNTIME_DISPATCHER=dbos needs an extra: pip install 'agent-runtime[dbos]', "
            "or unset it."
        ) from error
    return DbosDispatcher(ground, url, most, share)
