"""Every refusal the runtime can make.

DomainError
├── Invalid              the request can never succeed as written
│   ├── InvalidValue             a value object's rule
│   ├── InvalidReference         `model` is not in any accepted form
│   ├── InvalidJsonSchema        `response_format` asks for what is no usable JSON Schema
│   ├── UpstreamRefused          the model's provider finds the request wrong
│   ├── UnsupportedParameter     the agent can't honour a parameter of the call
│   ├── FixedParameter           the agent's configuration fixes a parameter of the call
│   ├── PreviousResponseNotFound `previous_response_id` leads to one that is not there
│   └── NotInBackground          only a background response goes on without its caller
├── Unprocessable        well-formed, but does not fit
│   ├── InvalidConfig            the template refuses the configuration
│   └── IdempotencyKeyReused     the key of another request
├── Unauthenticated      the caller is not known
├── Forbidden            the caller is known and may not
│   ├── EgressRefused            an address that the runtime does not call
│   └── ModelUnpriced            a budget in money, and a model without a price
├── NotFound             it names something the caller can't see
│   ├── AgentNotFound · TemplateNotFound · RunNotFound · KeyNotFound · ResponseNotFound
│   ├── ConversationNotFound · ItemNotFound · CompletionNotFound
│   ├── AgentNotFound · TemplateNotFound · RunNotFound · KeyNotFound
│   ├── LimitNotFound · PriceNotFound
│   └── ModelNotFound            no agent answers to this `model`
│       └── EmbeddingModelNotFound   no provider embeds with it
├── Conflict             valid, but not in the current state
│   ├── AgentExists · NameTaken · VersionExists
│   ├── TransitionRefused        the life cycle has no such step
│   ├── SchemaVersionMismatch
│   ├── IdempotencyKeyInUse · AnswerNotKept
│   ├── SessionBusy              another turn of the conversation goes on
│   ├── ResponseInProgress       it has not ended yet
│   └── ConcurrentChange         somebody else's change came first
├── StaleVersion         If-Match names an older state
├── RateLimited          too many, for now
│   ├── LimitReached             of requests, tokens or runs that an operator allows
│   │   └── RequestTooLarge          more tokens than ever fit
│   └── BudgetExhausted          what an operator allows to be spent is spent
├── Unavailable          the runtime can't, for now
│   ├── Saturated · DatabaseUnavailable · Draining
│   └── TokenKeysUnavailable     the keys that check JWTs can't be read
├── RunTimeout           the run used up its own time
├── ExecutionFailed      the template's code failed
│   ├── StepFailed · IterationLimit
│   └── SecretUnreadable         a stored secret does not open with the runtime's keys
├── UpstreamFailed       the model's provider failed
│   ├── UpstreamAuthFailed · UpstreamMisconfigured
│   └── InvalidStructuredOutput  what was streamed does not fit the requested schema
├── UpstreamRateLimited  the model's provider asks to wait
└── UpstreamTimeout      the model's provider said nothing in time
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar


class DomainError(Exception):
    """A rule said no. `code` is public API; the message is safe to show to the caller."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without anybody changing anything."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s


class Invalid(DomainError): ...


class Unprocessable(DomainError): ...


class Unauthenticated(DomainError):
    code = "invalid_token"


class Forbidden(DomainError):
    code = "forbidden"


class NotFound(DomainError): ...


class Conflict(DomainError): ...


class RateLimited(DomainError):
    code = "rate_limit_exceeded"
    retryable = True


class LimitReached(RateLimited):
    """`kind` is requests, tokens or runs; `scope` is key, project or agent."""

    def __init__(
        self, message: str, *, scope: str, kind: str, retry_after_s: float | None = None
    ) -> None:
        details = {"scope": scope, "kind": kind}
        super().__init__(message, details=details, retry_after_s=retry_after_s)
        self.scope = scope
        self.kind = kind


class RequestTooLarge(LimitReached):
    retryable = False


class BudgetExhausted(RateLimited):
    code = "insufficient_quota"
    retryable = False

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message, details={"scope": scope, "kind": "budget"})
        self.scope = scope
        self.kind = "budget"


class Unavailable(DomainError):
    retryable = True


class InvalidValue(Invalid):
    code = "invalid_value"


class InvalidReference(Invalid):
    code = "invalid_model"


class InvalidJsonSchema(Invalid):
    code = "invalid_json_schema"

    def __init__(self, name: str, path: Sequence[str], why: str) -> None:
        # The words of OpenAI's refusal, which shows the path as a Python tuple.
        super().__init__(
            f"Invalid schema for response_format '{name}': In context={tuple(path)}, {why}",
            param="response_format",
        )


class UnsupportedParameter(Invalid):
    code = "unsupported_parameter"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Parameter '{name}' is not supported here: {why}", param=name)


class FixedParameter(Invalid):
    code = "parameter_fixed"

    def __init__(self, name: str, value: object) -> None:
        super().__init__(
            f"This agent fixes '{name}' at {value}; leave it out or send that value.", param=name
        )


class EgressRefused(Forbidden):
    code = "egress_refused"

    def __init__(self, host: str, why: str) -> None:
        what = f"'{host}'" if host else "this address"
        super().__init__(f"The runtime does not call {what}: {why}")


class ModelUnpriced(Forbidden):
    code = "model_unpriced"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"A budget in USD applies to this call, and the model '{model}' has no price. An admin "
            "sets one with PUT /v1/prices/{model} or `agent-runtime prices set`.",
            param="model",
        )


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one configuration field."""

    path: str
    """Dotted from the configuration's root: `steps.0.timeout_s`."""
    message: str
    expected: str | None = None
    """What the field may take, in words."""
    allowed: Sequence[str] | None = None
    """The values it may take, where they can be counted."""


class InvalidConfig(Unprocessable):
    code = "invalid_config"

    def __init__(self, problems: Sequence[FieldProblem], *, root: str = "template_config") -> None:
        first = problems[0]
        at = f"{root}.{first.path}" if first.path else root
        hint = f" It takes {first.expected}." if first.expected else ""
        more = f" ({len(problems) - 1} more in details.)" if len(problems) > 1 else ""
        super().__init__(
            f"{at}: {first.message}{'' if first.message.endswith('.') else '.'}{hint}{more}",
            param=at,
            details={"errors": [asdict(problem) for problem in problems]},
        )
        self.problems = tuple(problems)


class AgentNotFound(NotFound):
    code = "agent_not_found"

    def __init__(self, agent: object) -> None:
        super().__init__(f"Agent '{agent}' does not exist.", param="id")


class TemplateNotFound(NotFound):
    code = "template_not_found"

    def __init__(self, template: object, installed: Sequence[str] = ()) -> None:
        known = f" Installed: {', '.join(installed)}." if installed else ""
        super().__init__(
            f"Template '{template}' is not installed.{known}",
            param="template_id",
            details={"installed": list(installed)},
        )


class RunNotFound(NotFound):
    code = "run_not_found"

    def __init__(self, run: object) -> None:
        super().__init__(f"Run '{run}' does not exist.", param="id")


class KeyNotFound(NotFound):
    code = "key_not_found"

    def __init__(self, key: object) -> None:
        super().__init__(f"Key '{key}' does not exist.", param="id")


class ConversationNotFound(NotFound):
    code = "conversation_not_found"

    def __init__(self, conversation: object) -> None:
        super().__init__(f"Conversation with id '{conversation}' not found.", param="id")


class ItemNotFound(NotFound):
    code = "item_not_found"

    def __init__(self, item: object) -> None:
        super().__init__(f"Item with id '{item}' not found in this conversation.", param="item_id")


class CompletionNotFound(NotFound):
    code = "completion_not_found"

    def __init__(self, completion: object) -> None:
        super().__init__(
            f"Chat completion '{completion}' does not exist. Only those that were made with "
            "'store': true are kept.",
            param="completion_id",
        )


class ResponseNotFound(NotFound):
    code = "response_not_found"

    def __init__(self, response: object) -> None:
        super().__init__(f"Response with id '{response}' not found.", param="response_id")


class PreviousResponseNotFound(Invalid):
    code = "previous_response_not_found"

    def __init__(self, response: object) -> None:
        super().__init__(
            f"Previous response with id '{response}' not found.", param="previous_response_id"
        )


class NotInBackground(Invalid):
    code = "not_in_background"

    def __init__(self, response: object, what: str) -> None:
        super().__init__(
            f"Response '{response}' was not made with 'background': true, so it can't be {what}.",
            param="response_id",
        )


class LimitNotFound(NotFound):
    code = "limit_not_found"

    def __init__(self, scope: object, id: object) -> None:
        super().__init__(f"There is no limit for the {scope} '{id}'.", param="id")


class PriceNotFound(NotFound):
    code = "price_not_found"

    def __init__(self, model: object) -> None:
        super().__init__(f"The model '{model}' has no price.", param="model")


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model: object) -> None:
        super().__init__(
            f"The model '{model}' does not exist or you have no access to it. "
            "GET /v1/models lists the ones you can call.",
            param="model",
        )


class EmbeddingModelNotFound(ModelNotFound):
    def __init__(self, model: object) -> None:
        NotFound.__init__(
            self,
            f"There is no embedding model '{model}'. Write 'provider/name', a provider's name, or "
            "the name of a model of the default provider.",
            param="model",
        )


class AgentExists(Conflict):
    code = "agent_exists"

    def __init__(self, agent: object) -> None:
        super().__init__(f"An agent with the id '{agent}' already exists.", param="id")


class NameTaken(Conflict):
    code = "name_taken"

    def __init__(self, slug: object) -> None:
        super().__init__(
            f"An agent line named '{slug}' already exists. Choose another `slug`, "
            "or make a new version of it with POST /v1/agents/{id}/versions.",
            param="slug",
        )


class VersionExists(Conflict):
    code = "version_exists"

    def __init__(self, number: int, latest: int) -> None:
        super().__init__(
            f"Version v{number} can't be made: the latest is v{latest}. "
            "Leave `version_number` out to get the next one.",
            param="version_number",
        )


class TransitionRefused(Conflict):
    code = "transition_refused"

    def __init__(self, action: str, status: str, hint: str) -> None:
        super().__init__(
            f"An agent that is {status} can't be {action}: {hint}",
            param="status",
            details={"status": status},
        )


class SessionBusy(Conflict):
    code = "session_busy"
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "Another turn of this conversation goes on; send the next one when it has ended.",
            retry_after_s=1,
        )


class ConcurrentChange(Conflict):
    code = "concurrent_change"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was changed at the same time; read it again and repeat.")


class ResponseInProgress(Conflict):
    code = "response_in_progress"

    def __init__(self, response: object, hint: str) -> None:
        super().__init__(
            f"Response '{response}' is still in progress; {hint}.", param="response_id"
        )


class SchemaVersionMismatch(Conflict):
    code = "version_mismatch"

    def __init__(self, current: str, required: str, breaking: Sequence[str]) -> None:
        super().__init__(
            f"The schema is at version {current}; {required} was asked for.",
            param="X-Schema-Version",
            details={
                "current_version": current,
                "required_version": required,
                "breaking_changes": list(breaking),
            },
        )


class IdempotencyKeyInUse(Conflict):
    code = "idempotency_key_in_use"
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "The request with this Idempotency-Key is being carried out; ask again for its answer.",
            param="Idempotency-Key",
            retry_after_s=1,
        )


class AnswerNotKept(Conflict):
    code = "idempotent_answer_not_kept"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The request with this Idempotency-Key was carried out, but {why}. "
            "It is not carried out again; see what it did, or send another key.",
            param="Idempotency-Key",
        )


class IdempotencyKeyReused(Unprocessable):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was sent with another request, or with other rights; "
            "every request needs a key of its own.",
            param="Idempotency-Key",
        )


class StaleVersion(DomainError):
    code = "stale_version"

    def __init__(self, current: str) -> None:
        super().__init__(
            f"If-Match names an older state of this agent. Its ETag is now {current}: "
            "read it again and repeat the change.",
            param="If-Match",
            details={"etag": current},
        )


class Saturated(Unavailable):
    code = "saturated"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"All {limit} places for {what} are taken; try again.", retry_after_s=1)


class Draining(Unavailable):
    code = "draining"

    def __init__(self) -> None:
        super().__init__("The runtime is shutting down; try another replica.", retry_after_s=1)


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"

    def __init__(self) -> None:
        super().__init__("The database can't be reached right now; try again.", retry_after_s=1)


class TokenKeysUnavailable(Unavailable):
    code = "token_keys_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The keys that tokens are checked with can't be read right now; try again.",
            retry_after_s=10,
        )


class RunTimeout(DomainError):
    code = "timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The run was stopped after its limit of {seconds:g} s.")


class ExecutionFailed(DomainError):
    code = "execution_error"


class StepFailed(ExecutionFailed):
    code = "step_failed"

    def __init__(self, step: str, tries: int, why: str) -> None:
        tried = "1 try" if tries == 1 else f"{tries} tries"
        super().__init__(f"Step '{step}' failed after {tried}: {why}")


class IterationLimit(ExecutionFailed):
    code = "iteration_limit"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The agent did not come to an answer within {limit} rounds.")


class SecretUnreadable(ExecutionFailed):
    code = "secret_unreadable"

    def __init__(self) -> None:
        super().__init__(
            "A stored secret can't be read with the runtime's key. An operator can give the key it "
            "was stored under as RUNTIME_SECRET_KEY_PREVIOUS; otherwise write the secret again."
        )


class UpstreamFailed(DomainError):
    code = "upstream_error"
    retryable = True


class UpstreamAuthFailed(UpstreamFailed):
    code = "upstream_auth_failed"
    retryable = False


class UpstreamMisconfigured(UpstreamFailed):
    """What answers at the provider's address is not the provider; an operator has to look."""

    retryable = False


class InvalidStructuredOutput(UpstreamFailed):
    code = "invalid_structured_output"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The answer does not fit the requested JSON schema: {problem}")


class UpstreamRefused(Invalid):
    """The provider found the request itself wrong: the caller's parameters, passed through."""

    code = "upstream_invalid_request"


class UpstreamRateLimited(RateLimited):
    code = "upstream_rate_limited"


class UpstreamQuotaExhausted(UpstreamRateLimited):
    code = "insufficient_quota"
    retryable = False


class UpstreamTimeout(DomainError):
    code = "upstream_timeout"
    retryable = True
