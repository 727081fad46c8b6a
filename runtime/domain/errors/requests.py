"""Requests that are wrong as they are, or come at the wrong moment."""

from collections.abc import Sequence

from runtime.domain.errors.kinds import Conflict, DomainError, Forbidden, Invalid, Unprocessable


class InvalidValue(Invalid):
    code = "invalid_value"


class InvalidFrame(Invalid):
    code = "invalid_frame"


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


class ConcurrentChange(Conflict):
    code = "concurrent_change"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was changed at the same time; read it again and repeat.")


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

    def __init__(self, current: str, what: str = "this agent") -> None:
        super().__init__(
            f"If-Match names an older state of {what}. Its ETag is now {current}: "
            "read it again and repeat the change.",
            param="If-Match",
            details={"etag": current},
        )
