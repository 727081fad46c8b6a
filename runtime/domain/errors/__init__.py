"""Every refusal the runtime can make.

DomainError
├── Invalid              the request can never succeed as written
│   ├── InvalidValue             a value object's rule
│   ├── InvalidFrame             a WebSocket message of no known form
│   ├── InvalidReference         `model` is not in any accepted form
│   ├── InvalidJsonSchema        `response_format` asks for what is no usable JSON Schema
│   ├── UpstreamRefused          the model's provider finds the request wrong
│   ├── InvalidCron              a cron expression that can't be read, or is never due
│   ├── UnknownTimezone
│   ├── UnsupportedParameter     the agent can't honour a parameter of the call
│   ├── FixedParameter           the agent's configuration fixes a parameter of the call
│   ├── PreviousResponseNotFound `previous_response_id` leads to one that is not there
│   └── NotInBackground          only a background response goes on without its caller
├── Unprocessable        well-formed, but does not fit
│   ├── InvalidConfig            the template refuses the configuration
│   ├── ArgumentsRefused         what a tool is to be called with does not fit its schema
│   └── IdempotencyKeyReused     the key of another request
├── Unauthenticated      the caller is not known
├── Forbidden            the caller is known and may not
│   ├── EgressRefused            an address that the runtime does not call
│   └── ModelUnpriced            a budget in money, and a model without a price
├── NotFound             it names something the caller can't see
│   ├── AgentNotFound · TemplateNotFound · RunNotFound · KeyNotFound · ResponseNotFound
│   ├── StreamNotFound · CheckpointNotFound · ApprovalNotFound · ScheduleNotFound
│   ├── ConversationNotFound · ItemNotFound · CompletionNotFound · MemoryNotFound
│   ├── LimitNotFound · PriceNotFound · ProviderNotFound · ProviderModelNotFound
│   ├── WebhookNotFound · DeliveryNotFound
│   └── ModelNotFound            no agent answers to this `model`
│       └── EmbeddingModelNotFound   no provider embeds with it
├── Conflict             valid, but not in the current state
│   ├── AgentExists · NameTaken · VersionExists · ProviderExists · ProviderModelExists
│   ├── RunNotDurable · RunNotEnded · RunHasCompleted
│   ├── ProviderInUse            agents or other models need it
│   ├── ProviderReadOnly         it is set in the operator's settings
│   ├── TransitionRefused        the life cycle has no such step
│   ├── SchemaVersionMismatch
│   ├── IdempotencyKeyInUse · AnswerNotKept
│   ├── SessionBusy              another turn of the conversation goes on
│   ├── ResponseInProgress       it has not ended yet
│   ├── MemoryExists · MemoryFull
│   ├── RequestIdInUse · EventsGone
│   ├── ApprovalIsDecided · ApprovalChanged · RunNotWaiting
│   ├── ApprovalNeedsDurableRun  a person is to decide, and the caller waits
│   ├── RunNotDurable            it left nothing to go on from
│   ├── TooManyWebhooks
│   ├── TooManySchedules         somebody has as many as an operator allows
│   └── ConcurrentChange         somebody else's change came first
├── StaleVersion         If-Match names an older state
├── RateLimited          too many, for now
│   ├── TooManyQueuedRuns        of one owner
│   ├── LimitReached             of requests, tokens or runs that an operator allows
│   │   └── RequestTooLarge          more tokens than ever fit
│   └── BudgetExhausted          what an operator allows to be spent is spent
├── Unavailable          the runtime can't, for now
│   ├── Saturated · DatabaseUnavailable · Draining
│   ├── CircuitOpen              the model failed again and again; it is left alone for a while
│   ├── ModelDisabled            an admin took it out of service
│   ├── ProviderSaturated        as many calls of the provider go on as it may have
│   └── TokenKeysUnavailable     the keys that check JWTs can't be read
├── RunTimeout           the run used up its own time
├── DeadlineExceeded     the run had not ended when it had to
├── ExecutionFailed      the template's code failed
│   ├── StepFailed · IterationLimit
│   ├── TooManyAttempts          each one's process died
│   ├── StateNotStorable · StateUnreadable
│   └── SecretUnreadable         a stored secret does not open with the runtime's keys
├── UpstreamFailed       the model's provider failed
│   ├── UpstreamAuthFailed · UpstreamMisconfigured
│   ├── NoSourceAnswered         several were asked, and each failed in its own way
│   └── InvalidStructuredOutput  what was streamed does not fit the requested schema
├── UpstreamRateLimited  the model's provider asks to wait
└── UpstreamTimeout      the model's provider said nothing in time
"""

from runtime.domain.errors.agents import (
    AgentExists,
    AgentNotFound,
    FieldProblem,
    InvalidConfig,
    KeyNotFound,
    ModelNotFound,
    NameTaken,
    TemplateNotFound,
    TransitionRefused,
    VersionExists,
)
from runtime.domain.errors.approvals import (
    ApprovalChanged,
    ApprovalIsDecided,
    ApprovalNotFound,
    ArgumentsRefused,
    RunNotWaiting,
)
from runtime.domain.errors.conversations import (
    CompletionNotFound,
    ConversationNotFound,
    ItemNotFound,
    NotInBackground,
    PreviousResponseNotFound,
    ResponseInProgress,
    ResponseNotFound,
    SessionBusy,
)
from runtime.domain.errors.kinds import (
    Conflict,
    DomainError,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    Unprocessable,
)
from runtime.domain.errors.limits import (
    BudgetExhausted,
    LimitNotFound,
    LimitReached,
    ModelUnpriced,
    PriceNotFound,
    RequestTooLarge,
)
from runtime.domain.errors.memories import MemoryExists, MemoryFull, MemoryNotFound
from runtime.domain.errors.providers import (
    CircuitOpen,
    EmbeddingModelNotFound,
    ModelDisabled,
    ProviderExists,
    ProviderInUse,
    ProviderModelExists,
    ProviderModelNotFound,
    ProviderNotFound,
    ProviderReadOnly,
    ProviderSaturated,
)
from runtime.domain.errors.requests import (
    AnswerNotKept,
    ConcurrentChange,
    EgressRefused,
    FixedParameter,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidFrame,
    InvalidJsonSchema,
    InvalidReference,
    InvalidValue,
    SchemaVersionMismatch,
    StaleVersion,
    UnsupportedParameter,
)
from runtime.domain.errors.runs import (
    ApprovalNeedsDurableRun,
    CheckpointNotFound,
    DatabaseUnavailable,
    DeadlineExceeded,
    Draining,
    EventsGone,
    ExecutionFailed,
    IterationLimit,
    RequestIdInUse,
    RunHasCompleted,
    RunNotDurable,
    RunNotEnded,
    RunNotFound,
    RunTimeout,
    Saturated,
    SecretUnreadable,
    StateNotStorable,
    StateUnreadable,
    StepFailed,
    StreamNotFound,
    TokenKeysUnavailable,
    TooManyAttempts,
    TooManyQueuedRuns,
)
from runtime.domain.errors.schedules import (
    InvalidCron,
    ScheduleNotFound,
    TooManySchedules,
    UnknownTimezone,
)
from runtime.domain.errors.upstream import (
    InvalidStructuredOutput,
    NoSourceAnswered,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamMisconfigured,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.domain.errors.webhooks import DeliveryNotFound, TooManyWebhooks, WebhookNotFound

__all__ = [
    "AgentExists",
    "AgentNotFound",
    "AnswerNotKept",
    "ApprovalChanged",
    "ApprovalIsDecided",
    "ApprovalNeedsDurableRun",
    "ApprovalNotFound",
    "ArgumentsRefused",
    "BudgetExhausted",
    "CheckpointNotFound",
    "CircuitOpen",
    "CompletionNotFound",
    "ConcurrentChange",
    "Conflict",
    "ConversationNotFound",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "DeliveryNotFound",
    "DomainError",
    "Draining",
    "EgressRefused",
    "EmbeddingModelNotFound",
    "EventsGone",
    "ExecutionFailed",
    "FieldProblem",
    "FixedParameter",
    "Forbidden",
    "IdempotencyKeyInUse",
    "IdempotencyKeyReused",
    "Invalid",
    "InvalidConfig",
    "InvalidCron",
    "InvalidFrame",
    "InvalidJsonSchema",
    "InvalidReference",
    "InvalidStructuredOutput",
    "InvalidValue",
    "ItemNotFound",
    "IterationLimit",
    "KeyNotFound",
    "LimitNotFound",
    "LimitReached",
    "MemoryExists",
    "MemoryFull",
    "MemoryNotFound",
    "ModelDisabled",
    "ModelNotFound",
    "ModelUnpriced",
    "NameTaken",
    "NoSourceAnswered",
    "NotFound",
    "NotInBackground",
    "PreviousResponseNotFound",
    "PriceNotFound",
    "ProviderExists",
    "ProviderInUse",
    "ProviderModelExists",
    "ProviderModelNotFound",
    "ProviderNotFound",
    "ProviderReadOnly",
    "ProviderSaturated",
    "RateLimited",
    "RequestIdInUse",
    "RequestTooLarge",
    "ResponseInProgress",
    "ResponseNotFound",
    "RunHasCompleted",
    "RunNotDurable",
    "RunNotEnded",
    "RunNotFound",
    "RunNotWaiting",
    "RunTimeout",
    "Saturated",
    "ScheduleNotFound",
    "SchemaVersionMismatch",
    "SecretUnreadable",
    "SessionBusy",
    "StaleVersion",
    "StateNotStorable",
    "StateUnreadable",
    "StepFailed",
    "StreamNotFound",
    "TemplateNotFound",
    "TokenKeysUnavailable",
    "TooManyAttempts",
    "TooManyQueuedRuns",
    "TooManySchedules",
    "TooManyWebhooks",
    "TransitionRefused",
    "Unauthenticated",
    "Unavailable",
    "UnknownTimezone",
    "Unprocessable",
    "UnsupportedParameter",
    "UpstreamAuthFailed",
    "UpstreamFailed",
    "UpstreamMisconfigured",
    "UpstreamQuotaExhausted",
    "UpstreamRateLimited",
    "UpstreamRefused",
    "UpstreamTimeout",
    "VersionExists",
    "WebhookNotFound",
]
