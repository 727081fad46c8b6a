from runtime.domain.repositories.durable import Share
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.settings import Settings


def run_dispatcher(settings: Settings, ground: Ground) -> RunDispatcher:
    most = settings.max_durable_runs
    share = Share(settings.max_durable_runs_per_user, settings.max_durable_runs_per_agent)
    if settings.dispatcher == "inline":
        from runtime.infrastructure.dispatch.inline import InlineDispatcher

        return InlineDispatcher(ground, most, share)
    from runtime.infrastructure.dispatch.database import DatabaseDispatcher

    return DatabaseDispatcher(ground, most, share)
