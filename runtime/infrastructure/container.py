from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

from dependency_injector import containers, providers
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.application.handlers import (
    agents,
    completions,
    durable,
    durable_forks,
    keys,
    limits,
    memories,
    responses,
    seeding,
    sessions,
)
from runtime.application.handlers import (
    providers as provider_handlers,
)
from runtime.application.handlers import (
    schedules as schedule_handlers,
)
from runtime.application.handlers import (
    webhooks as webhook_handlers,
)
from runtime.application.handlers.approvals import DecideApprovalHandler
from runtime.application.handlers.assembly import AssembleAgentHandler
from runtime.application.handlers.embeddings import EmbedHandler
from runtime.application.handlers.feedback import GiveFeedbackHandler
from runtime.application.handlers.runs import ExecuteAgentHandler
from runtime.application.handlers.streaming import StreamChatHandler
from runtime.application.queries.agents import AgentQueries
from runtime.application.queries.approvals import ApprovalQueries
from runtime.application.queries.checkpoints import CheckpointQueries
from runtime.application.queries.completions import CompletionQueries
from runtime.application.queries.feedback import FeedbackQueries
from runtime.application.queries.health import Check, HealthQueries, Status
from runtime.application.queries.keys import KeyQueries
from runtime.application.queries.limits import LimitQueries
from runtime.application.queries.memories import MemoryQueries
from runtime.application.queries.providers import ProviderQueries
from runtime.application.queries.responses import ResponseQueries
from runtime.application.queries.runs import RunQueries
from runtime.application.queries.schedules import ScheduleQueries
from runtime.application.queries.schema import SchemaQueries
from runtime.application.queries.services import ServiceQueries
from runtime.application.queries.sessions import SessionQueries
from runtime.application.queries.statistics import StatisticsQueries
from runtime.application.queries.tools import ToolQueries
from runtime.application.queries.webhooks import WebhookQueries
from runtime.application.services.admission import Admission
from runtime.application.services.authentication import CredentialAuthenticator
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.config_secrets import ConfigSecrets
from runtime.application.services.connections import Connections
from runtime.application.services.context import ResponseContext
from runtime.application.services.direct import DirectModels
from runtime.application.services.drafting import Drafting
from runtime.application.services.durable.calls import AttemptCalls
from runtime.application.services.durable.caretaker import Caretaker
from runtime.application.services.durable.desk import RunDesk
from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.logs import RunLogs
from runtime.application.services.durable.worker import Worker
from runtime.application.services.engine import Engine
from runtime.application.services.generation.builtin import generator_modes
from runtime.application.services.generation.modes import GeneratorModes
from runtime.application.services.idempotency import IdempotentRequests
from runtime.application.services.instances import InstanceCache
from runtime.application.services.live_streams import LiveStreams
from runtime.application.services.memories import MemoryBook
from runtime.application.services.provider_keys import ProviderKeys
from runtime.application.services.quotas import Quotas
from runtime.application.services.recorder import RunRecorder
from runtime.application.services.retention import Retention
from runtime.application.services.rulebook import RuleBook
from runtime.application.services.run_statistics import RunStatistics
from runtime.application.services.scheduler import Scheduler
from runtime.application.services.session_holds import SessionDesk
from runtime.application.services.sessions import SessionTurns
from runtime.application.services.structured_output import StructuredOutput
from runtime.application.services.vetting import Vetting
from runtime.application.services.webhooks.courier import Courier
from runtime.application.services.webhooks.secrets import WebhookSecrets
from runtime.domain.entities.durable import DurableRun
from runtime.domain.repositories.durable import ToolLedger
from runtime.domain.repositories.providers import ProviderBook
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.services.durability import CallLog
from runtime.domain.services.monitor import Monitor
from runtime.domain.value_objects.chat import MAX_MESSAGES
from runtime.domain.value_objects.ids import new_worker_id
from runtime.infrastructure.calendar import CronCalendar
from runtime.infrastructure.database import create_engine, ping
from runtime.infrastructure.dispatch import run_dispatcher
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.events import EventBus
from runtime.infrastructure.frameworks.discovery import (
    TemplateFolder,
    built_in_executors,
    register_built_in,
    register_entry_points,
)
from runtime.infrastructure.frameworks.executor import TemplateExecutor
from runtime.infrastructure.frameworks.langgraph.states import LangGraphStates
from runtime.infrastructure.frameworks.registry import TemplateRegistry
from runtime.infrastructure.frameworks.watcher import TemplateWatcher
from runtime.infrastructure.identity import token_verifier
from runtime.infrastructure.liveness.beats import worker_beats
from runtime.infrastructure.liveness.heart import Heart
from runtime.infrastructure.monitoring import setup
from runtime.infrastructure.monitoring.exposition import Exposition, Present
from runtime.infrastructure.monitoring.prometheus import PrometheusMonitor
from runtime.infrastructure.providers.adapters import AdapterRegistry
from runtime.infrastructure.providers.checks import AdapterChecks, EnvironmentVariables
from runtime.infrastructure.providers.configured import configured, own_addresses
from runtime.infrastructure.providers.connector import Connector
from runtime.infrastructure.providers.directory import Directory
from runtime.infrastructure.providers.service import PooledModelServices
from runtime.infrastructure.quotas import rate_limiter
from runtime.infrastructure.repositories.attempt_log import SqlAttemptLog
from runtime.infrastructure.repositories.checkpoint_pruning import SqlCheckpointPruner
from runtime.infrastructure.repositories.checkpoints import SqlCheckpointStore
from runtime.infrastructure.repositories.completions import SqlCompletionPruner
from runtime.infrastructure.repositories.idempotency import SqlIdempotencyStore
from runtime.infrastructure.repositories.keys import SqlKeyRing
from runtime.infrastructure.repositories.limits import SqlLedger
from runtime.infrastructure.repositories.memories import SqlFactPruner
from runtime.infrastructure.repositories.providers import SqlProviderBook
from runtime.infrastructure.repositories.responses import SqlLapsedResponses, SqlResponsePruner
from runtime.infrastructure.repositories.run_pruning import SqlRunPruner
from runtime.infrastructure.repositories.run_queue import SqlRunQueue
from runtime.infrastructure.repositories.runs import SqlRunLog
from runtime.infrastructure.repositories.schedule_book import SqlScheduleBook, SqlTickPruner
from runtime.infrastructure.repositories.session_log import SqlSessionLog
from runtime.infrastructure.repositories.sessions import SqlSessionHolds
from runtime.infrastructure.repositories.tool_ledger import SqlToolLedger
from runtime.infrastructure.repositories.webhook_deliveries import SqlDeliveryPruner
from runtime.infrastructure.repositories.webhook_queue import SqlDeliveryQueue
from runtime.infrastructure.schemas import JsonSchemaCompiler
from runtime.infrastructure.secrets import SecretBox, load_secret_key, previous_keys
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.signals import run_signals
from runtime.infrastructure.tools.service import BuiltinTools
from runtime.infrastructure.tools.service import register_entry_points as register_tools
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from runtime.infrastructure.webhooks import EgressWebhookSender


def utc_now() -> datetime:
    return datetime.now(UTC)


def _templates(tools: BuiltinTools) -> TemplateRegistry:
    registry = TemplateRegistry(tools)
    register_tools(tools, registry.report)
    register_built_in(registry)
    register_entry_points(registry)
    return registry


def _folders(
    settings: Settings,
    registry: TemplateRegistry,
    modes: GeneratorModes,
    adapters: AdapterRegistry,
    tools: BuiltinTools,
) -> TemplateWatcher:
    shelves = (modes, adapters, tools)
    return TemplateWatcher(
        [TemplateFolder(path, registry, shelves) for path in settings.template_dirs]
    )


def _egress(settings: Settings) -> EgressClient:
    policy = EgressPolicy(settings.allowed_egress, own=own_addresses(settings))
    return EgressClient(policy, connect_s=settings.connect_timeout_s)


def _secret_keys(settings: Settings) -> list[bytes]:
    return [load_secret_key(settings), *previous_keys(settings)]


def _vault(settings: Settings) -> SecretBox:
    return SecretBox(load_secret_key(settings), previous_keys(settings))


def _models(
    settings: Settings, connector: Connector, book: ProviderBook, monitor: Monitor
) -> PooledModelServices:
    own = [connector.configured(each) for each in configured(settings)]
    directory = Directory(own, settings.default_model or own[0].id, book, connector.registered)
    return PooledModelServices(directory, monitor=monitor)


def _retention(settings: Settings, engine: AsyncEngine, now: Callable[[], datetime]) -> Retention:
    days: list[tuple[Pruner, float]] = [
        (SqlCompletionPruner(engine), settings.completion_retention_days),
        (SqlResponsePruner(engine), settings.response_retention_days),
        (SqlRunPruner(engine), settings.run_retention_days),
        (SqlSessionHolds(engine), settings.session_retention_days),
        (SqlCheckpointPruner(engine), settings.checkpoint_retention_days),
        (SqlDeliveryPruner(engine), settings.webhook_retention_days),
        (SqlTickPruner(engine), settings.schedule_retention_days),
    ]
    kept_for = [(each, timedelta(days=most)) for each, most in days if most]
    at_once = [(each, timedelta(0)) for each in (SqlFactPruner(engine), SqlLapsedResponses(engine))]
    return Retention([*kept_for, *at_once], now)


def _calls(ledger: ToolLedger, now: Callable[[], datetime]) -> Callable[[DurableRun], CallLog]:
    return lambda run: AttemptCalls(ledger, run.id, run.scope, run.attempt, now)


def _checks(
    engine: AsyncEngine, models: PooledModelServices, templates: TemplateRegistry
) -> Mapping[str, Check]:
    async def database() -> Status:
        await ping(engine)
        return "healthy"

    async def llm_proxy() -> Status:
        own = [each for each in models.every_health() if each.project is None]
        well = all(each.status in ("healthy", "disabled") for each in own)
        return "healthy" if well else "degraded"

    async def agent_templates() -> Status:
        return "degraded" if templates.problems() else "healthy"

    return {"database": database, "llm_proxy": llm_proxy, "agent_templates": agent_templates}


class Container(containers.DeclarativeContainer):
    """The one place that names every adapter. Providers stay sync: see `lifespan.py`."""

    settings = providers.Dependency(instance_of=Settings)
    clock = providers.Object(utc_now)
    started_at = providers.Singleton(utc_now)

    engine = providers.Singleton(create_engine, settings.provided.database)
    events = providers.Singleton(EventBus)
    uow = providers.Singleton(partial, sql_unit_of_work, engine, events.provided.publish)

    worker_id = providers.Singleton(new_worker_id)
    heart = providers.Singleton(Heart, providers.Singleton(worker_beats, engine), worker_id)
    run_signals = providers.Singleton(run_signals, engine)
    run_queue = providers.Singleton(SqlRunQueue, engine)
    dispatcher = providers.Singleton(
        run_dispatcher,
        settings,
        providers.Singleton(Ground, run_queue, run_signals, heart, worker_id),
        engine.provided.url,
    )

    metrics = providers.Singleton(PrometheusMonitor)
    tracing = providers.Singleton(setup.tracing, settings.provided.otel_endpoint)
    run_statistics = providers.Singleton(RunStatistics)
    monitor = providers.Singleton(setup.monitor, metrics, run_statistics, tracing)
    request_monitor = providers.Singleton(setup.RequestWatch, metrics, tracing)

    secret_key = providers.Singleton(load_secret_key, settings)
    secret_keys = providers.Singleton(_secret_keys, settings)
    authenticator = providers.Singleton(
        CredentialAuthenticator,
        settings.provided.tokens,
        providers.Factory(SqlKeyRing, engine),
        secret_keys,
        providers.Singleton(token_verifier, settings),
        clock,
    )

    tools = providers.Singleton(BuiltinTools)
    vault = providers.Singleton(_vault, settings)
    config_secrets = providers.Singleton(ConfigSecrets, vault)
    idempotent_requests = providers.Singleton(
        IdempotentRequests,
        providers.Factory(SqlIdempotencyStore, engine),
        vault,
        clock,
        retention_s=settings.provided.idempotency_retention_s,
        lease_s=settings.provided.idempotency_lease_s,
    )
    adapters = providers.Singleton(AdapterRegistry)
    egress = providers.Singleton(_egress, settings)
    provider_keys = providers.Singleton(ProviderKeys, vault)
    provider_variables = providers.Singleton(EnvironmentVariables, settings)
    connector = providers.Singleton(
        Connector,
        adapters,
        egress,
        settings.provided.model_tuning,
        provider_keys,
        provider_variables,
    )
    models = providers.Singleton(
        _models, settings, connector, providers.Singleton(SqlProviderBook, engine), monitor
    )
    templates = providers.Singleton(_templates, tools)
    generator_modes = providers.Singleton(generator_modes)
    template_watcher = providers.Singleton(
        _folders, settings, templates, generator_modes, adapters, tools
    )
    memory_book = providers.Singleton(
        MemoryBook, uow, clock, settings.provided.max_memories_per_user
    )
    checkpoints = providers.Singleton(SqlCheckpointStore, engine)
    executor = providers.Singleton(
        TemplateExecutor,
        templates,
        models,
        tools,
        memory_book,
        providers.Factory(built_in_executors),
        config_secrets,
        checkpoints,
    )

    catalogue = providers.Singleton(AgentCatalogue, uow)
    instances = providers.Singleton(
        InstanceCache,
        executor,
        size=settings.provided.instance_cache_size,
        idle_s=settings.provided.instance_idle_s,
    )
    admission = providers.Singleton(
        Admission,
        settings.provided.max_concurrent_runs,
        settings.provided.max_concurrent_runs_per_agent,
        settings.provided.max_concurrent_runs_per_user,
    )
    recorder = providers.Singleton(RunRecorder, providers.Factory(SqlRunLog, engine))
    ledger = providers.Singleton(SqlLedger, engine)
    rulebook = providers.Singleton(RuleBook, ledger, settings.provided.default_rates)
    quotas = providers.Singleton(
        Quotas, rulebook, providers.Singleton(rate_limiter, engine), ledger, clock
    )
    run_engine = providers.Singleton(
        Engine,
        instances=instances,
        admission=admission,
        recorder=recorder,
        uow=uow,
        now=clock,
        run_timeout_s=settings.provided.run_timeout_s,
        monitor=monitor,
        structured=providers.Singleton(
            StructuredOutput, models, providers.Singleton(JsonSchemaCompiler)
        ),
        quotas=quotas,
    )
    session_holds = providers.Factory(SqlSessionHolds, engine)
    session_log = providers.Singleton(SqlSessionLog, engine)
    session_desk = providers.Singleton(
        SessionDesk,
        uow,
        session_log,
        session_holds,
        clock,
        refuse=settings.provided.refuses_busy_sessions,
        wait_s=settings.provided.session_wait_s,
    )
    session_turns = providers.Singleton(SessionTurns, session_desk)
    connections = providers.Singleton(Connections, settings.provided.ws_max_connections_per_user)
    drafting = providers.Factory(
        Drafting, templates=templates, models=models, secrets=config_secrets
    )
    create_agent = providers.Factory(
        agents.CreateAgentHandler, uow=uow, now=clock, drafting=drafting
    )
    assemble_agent = providers.Factory(AssembleAgentHandler, create=create_agent)
    update_agent = providers.Factory(
        agents.UpdateAgentHandler, uow=uow, now=clock, drafting=drafting
    )
    new_version = providers.Factory(agents.NewVersionHandler, uow=uow, now=clock, drafting=drafting)
    submit_agent = providers.Factory(agents.SubmitAgentHandler, uow=uow, now=clock)
    approve_agent = providers.Factory(agents.ApproveAgentHandler, uow=uow, now=clock)
    reject_agent = providers.Factory(agents.RejectAgentHandler, uow=uow, now=clock)
    revoke_agent = providers.Factory(agents.RevokeAgentHandler, uow=uow, now=clock)
    roll_back_agent = providers.Factory(agents.RollBackAgentHandler, uow=uow, now=clock)
    delete_agent = providers.Factory(agents.DeleteAgentHandler, uow=uow, now=clock)
    seed_first_agent = providers.Factory(seeding.SeedFirstAgent, uow=uow, create=create_agent)
    embed = providers.Singleton(EmbedHandler, catalogue=catalogue, models=models, quotas=quotas)
    execute_agent = providers.Singleton(
        ExecuteAgentHandler,
        catalogue=catalogue,
        engine=run_engine,
        turns=session_turns,
        direct=providers.Factory(DirectModels, models=models, now=clock),
    )
    stream_chat = providers.Singleton(
        StreamChatHandler, execute=execute_agent, modes=generator_modes
    )
    live_streams = providers.Singleton(
        LiveStreams,
        settings.provided.max_resumable_streams,
        keep_s=settings.provided.stream_resume_s,
        max_bytes=settings.provided.stream_resume_buffer_bytes,
    )
    approval_queries = providers.Factory(ApprovalQueries, uow=uow, recorder=recorder)
    decide_approval = providers.Factory(
        DecideApprovalHandler,
        uow=uow,
        now=clock,
        tools=tools,
        dispatcher=dispatcher,
        signals=run_signals,
    )
    give_feedback = providers.Factory(GiveFeedbackHandler, uow=uow, recorder=recorder, now=clock)
    remember = providers.Factory(memories.RememberHandler, book=memory_book, catalogue=catalogue)
    change_memory = providers.Factory(memories.ChangeMemoryHandler, uow=uow, now=clock)
    forget = providers.Factory(memories.ForgetHandler, uow=uow, now=clock)
    forget_all = providers.Factory(memories.ForgetAllHandler, uow=uow)

    run_logs = providers.Singleton(
        RunLogs, uow=uow, log=providers.Factory(SqlAttemptLog, engine), signals=run_signals
    )
    endings = providers.Singleton(
        Endings, uow=uow, rulebook=rulebook, now=clock, signals=run_signals
    )
    run_desk = providers.Singleton(
        RunDesk,
        uow=uow,
        dispatcher=dispatcher,
        endings=endings,
        most_queued=settings.provided.max_queued_runs_per_user,
    )
    tool_ledger = providers.Singleton(SqlToolLedger, engine)
    run_worker = providers.Singleton(
        Worker,
        id=worker_id,
        uow=uow,
        logs=run_logs,
        endings=endings,
        calls=providers.Singleton(_calls, tool_ledger, clock),
        execute=execute_agent,
        dispatcher=dispatcher,
    )
    caretaker = providers.Singleton(
        Caretaker,
        uow=uow,
        queue=run_queue,
        worker=run_worker,
        logs=run_logs,
        endings=endings,
        dispatcher=dispatcher,
        heart=heart,
        signals=run_signals,
        now=clock,
    )
    exposition = providers.Singleton(
        Exposition,
        metrics.provided.registry,
        providers.Factory(
            Present,
            admission=admission,
            instances=instances,
            recorder=recorder,
            sessions=session_desk,
            connections=connections,
            templates=templates,
            providers=models.provided.every_health,
            worker=run_worker,
            caretaker=caretaker,
        ),
    )

    webhook_secrets = providers.Singleton(WebhookSecrets, vault)
    webhook_sender = providers.Singleton(EgressWebhookSender, egress)
    start_run = providers.Factory(
        durable.StartRunHandler,
        execute=execute_agent,
        desk=run_desk,
        secrets=webhook_secrets,
        sender=webhook_sender,
        now=clock,
    )
    cancel_run = providers.Factory(durable.CancelRunHandler, uow=uow, desk=run_desk)
    retry_run = providers.Factory(durable.RetryRunHandler, uow=uow, desk=run_desk, now=clock)
    graph_states = providers.Singleton(LangGraphStates)
    resume_run = providers.Factory(
        durable_forks.ResumeRunHandler,
        uow=uow,
        desk=run_desk,
        store=checkpoints,
        states=graph_states,
        ledger=tool_ledger,
        now=clock,
    )
    fork_run = providers.Factory(
        durable_forks.ForkRunHandler,
        uow=uow,
        desk=run_desk,
        store=checkpoints,
        states=graph_states,
        now=clock,
    )
    checkpoint_queries = providers.Factory(
        CheckpointQueries, uow=uow, store=checkpoints, states=graph_states
    )
    response_context = providers.Factory(ResponseContext, uow=uow)
    create_response = providers.Factory(
        responses.CreateResponseHandler,
        context=response_context,
        execute=execute_agent,
        desk=run_desk,
        now=clock,
    )
    cancel_response = providers.Factory(responses.CancelResponseHandler, uow=uow, desk=run_desk)
    delete_response = providers.Factory(responses.DeleteResponseHandler, uow=uow)
    response_queries = providers.Factory(
        ResponseQueries, uow=uow, context=response_context, logs=run_logs
    )

    create_key = providers.Factory(keys.CreateKeyHandler, uow=uow, now=clock, secret=secret_key)
    revoke_key = providers.Factory(keys.RevokeKeyHandler, uow=uow, now=clock)
    key_queries = providers.Factory(KeyQueries, uow=uow)

    create_session = providers.Factory(sessions.CreateSessionHandler, uow=uow, now=clock)
    describe_session = providers.Factory(sessions.DescribeSessionHandler, uow=uow, now=clock)
    delete_session = providers.Factory(sessions.DeleteSessionHandler, uow=uow)
    add_items = providers.Factory(sessions.AddItemsHandler, desk=session_desk)
    delete_item = providers.Factory(sessions.DeleteItemHandler, desk=session_desk)
    session_queries = providers.Factory(SessionQueries, uow=uow)
    relabel_completion = providers.Factory(completions.RelabelCompletionHandler, uow=uow)
    delete_completion = providers.Factory(completions.DeleteCompletionHandler, uow=uow)
    completion_queries = providers.Factory(CompletionQueries, uow=uow)

    retention = providers.Singleton(_retention, settings, engine, clock)
    set_limits = providers.Factory(limits.SetLimitsHandler, uow=uow, now=clock)
    remove_limits = providers.Factory(limits.RemoveLimitsHandler, uow=uow, now=clock)
    set_price = providers.Factory(limits.SetPriceHandler, uow=uow, now=clock)
    remove_price = providers.Factory(limits.RemovePriceHandler, uow=uow, now=clock)
    limit_queries = providers.Factory(
        LimitQueries, uow=uow, ledger=ledger, recorder=recorder, now=clock
    )

    vetting = providers.Singleton(
        Vetting,
        checks=providers.Singleton(AdapterChecks, adapters, egress),
        variables=provider_variables,
        keys=provider_keys,
        models=models,
        configured=providers.Singleton(configured, settings),
    )
    register_provider = providers.Factory(
        provider_handlers.RegisterProviderHandler, uow=uow, now=clock, vetting=vetting
    )
    change_provider = providers.Factory(
        provider_handlers.ChangeProviderHandler, uow=uow, now=clock, vetting=vetting
    )
    remove_provider = providers.Factory(
        provider_handlers.RemoveProviderHandler, uow=uow, now=clock, vetting=vetting
    )
    put_model = providers.Factory(
        provider_handlers.PutModelHandler, uow=uow, now=clock, vetting=vetting
    )
    change_model = providers.Factory(
        provider_handlers.ChangeModelHandler, uow=uow, now=clock, vetting=vetting
    )
    remove_model = providers.Factory(
        provider_handlers.RemoveModelHandler, uow=uow, now=clock, vetting=vetting
    )
    try_provider = providers.Factory(
        provider_handlers.TryProviderHandler, uow=uow, vetting=vetting, models=models
    )
    provider_queries = providers.Factory(ProviderQueries, uow=uow, vetting=vetting, models=models)

    courier = providers.Singleton(
        Courier,
        queue=providers.Singleton(SqlDeliveryQueue, engine),
        sender=webhook_sender,
        secrets=webhook_secrets,
        now=clock,
    )
    _webhook_parts = (uow, clock, webhook_secrets, webhook_sender)
    create_webhook = providers.Factory(webhook_handlers.CreateWebhookHandler, *_webhook_parts)
    change_webhook = providers.Factory(webhook_handlers.ChangeWebhookHandler, *_webhook_parts)
    delete_webhook = providers.Factory(webhook_handlers.DeleteWebhookHandler, *_webhook_parts)
    rotate_webhook_secret = providers.Factory(
        webhook_handlers.RotateWebhookSecretHandler, *_webhook_parts
    )
    try_webhook = providers.Factory(webhook_handlers.TryWebhookHandler, *_webhook_parts)
    retry_delivery = providers.Factory(webhook_handlers.RetryDeliveryHandler, *_webhook_parts)
    webhook_queries = providers.Factory(WebhookQueries, uow=uow)
    calendar = providers.Object(CronCalendar())
    schedule_book = providers.Factory(SqlScheduleBook, engine)
    schedule_desk = providers.Factory(
        schedule_handlers.ScheduleDesk,
        uow=uow,
        book=schedule_book,
        calendar=calendar,
        agents=execute_agent,
        most=settings.provided.max_schedules_per_user,
        most_queued=settings.provided.max_queued_runs_per_user,
    )
    create_schedule = providers.Factory(schedule_handlers.CreateScheduleHandler, schedule_desk)
    change_schedule = providers.Factory(schedule_handlers.ChangeScheduleHandler, schedule_desk)
    remove_schedule = providers.Factory(schedule_handlers.RemoveScheduleHandler, schedule_desk)
    pause_schedule = providers.Factory(schedule_handlers.PauseScheduleHandler, schedule_desk)
    resume_schedule = providers.Factory(schedule_handlers.ResumeScheduleHandler, schedule_desk)
    run_schedule_now = providers.Factory(
        schedule_handlers.RunScheduleNowHandler, schedule_desk, dispatcher
    )
    scheduler = providers.Singleton(
        Scheduler,
        book=schedule_book,
        uow=uow,
        catalogue=catalogue,
        calendar=calendar,
        dispatcher=dispatcher,
        most_queued=settings.provided.max_queued_runs_per_user,
    )
    schedule_queries = providers.Factory(
        ScheduleQueries, uow=uow, book=schedule_book, calendar=calendar
    )

    agent_queries = providers.Factory(AgentQueries, uow=uow, templates=templates)
    feedback_queries = providers.Factory(FeedbackQueries, uow=uow, recorder=recorder)
    memory_queries = providers.Factory(MemoryQueries, uow=uow, catalogue=catalogue, now=clock)
    run_queries = providers.Factory(RunQueries, uow=uow, recorder=recorder, logs=run_logs)
    schema_queries = providers.Factory(
        SchemaQueries,
        templates=templates,
        started_at=started_at,
        max_concurrent_agents=settings.provided.max_concurrent_runs,
        max_message_length=settings.provided.max_body_bytes,
        max_conversation_history=MAX_MESSAGES,
    )
    statistics_queries = providers.Factory(
        StatisticsQueries,
        runs=run_statistics,
        models=models,
        connections=connections,
        started_at=started_at,
    )
    health_queries = providers.Factory(
        HealthQueries,
        uow=uow,
        engine=run_engine,
        checks=providers.Singleton(_checks, engine, models, templates),
        now=clock,
        started_at=started_at,
    )
    tool_queries = providers.Factory(ToolQueries, tools=tools)
    service_queries = providers.Factory(ServiceQueries, health=health_queries, tools=tools)
