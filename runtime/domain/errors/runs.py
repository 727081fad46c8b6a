"""Runs, and the runtime that they run in."""

from datetime import datetime

from runtime.domain.errors.kinds import Conflict, DomainError, NotFound, RateLimited, Unavailable


class RunNotFound(NotFound):
    code = "run_not_found"

    def __init__(self, run: object) -> None:
        super().__init__(f"Run '{run}' does not exist.", param="id")


class StreamNotFound(NotFound):
    code = "stream_not_found"

    def __init__(self, request_id: object) -> None:
        super().__init__(
            f"There is no request '{request_id}' here any more: only one with 'resumable': true "
            "outlives its connection and its end, and only for a while.",
            param="request_id",
        )


class RequestIdInUse(Conflict):
    code = "request_id_in_use"

    def __init__(self, request_id: object) -> None:
        super().__init__(
            f"A request '{request_id}' is there already; give each an id of its own.",
            param="request_id",
        )


class EventsGone(Conflict):
    code = "events_gone"

    def __init__(self, after: int, first: int, last: int) -> None:
        super().__init__(
            f"The stream can't go on after event {after}: it has what comes after {first} to "
            f"{last}.",
            param="last_event",
            details={"first": first, "last": last},
        )


class ApprovalNeedsDurableRun(Conflict):
    code = "approval_needs_durable_run"

    def __init__(self, tool: str | None = None) -> None:
        what = f"The tool '{tool}' is called" if tool else "The agent goes on"
        super().__init__(
            f"{what} only once a person agrees, and a run can wait for that only if it outlives "
            "its caller: start it with POST /v1/runs, or as a background response."
        )


class Saturated(Unavailable):
    code = "saturated"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"All {limit} places for {what} are taken; try again.", retry_after_s=1)


class TooManyQueuedRuns(RateLimited):
    code = "too_many_queued_runs"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"You have {most} runs waiting to begin, which is the most; wait until some have.",
            retry_after_s=5,
        )


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


class DeadlineExceeded(DomainError):
    code = "deadline_exceeded"

    def __init__(self, deadline: datetime) -> None:
        super().__init__(f"The run had not ended by its deadline, {deadline:%Y-%m-%dT%H:%M:%SZ}.")


class RunNotDurable(Conflict):
    code = "run_not_durable"

    def __init__(self, run: object, what: str = "gone back to") -> None:
        super().__init__(
            f"Run '{run}' was answered while its caller waited and can't be {what}: only runs of "
            "POST /v1/runs, background responses and schedules can.",
            param="id",
        )


class RunNotEnded(Conflict):
    code = "run_not_ended"

    def __init__(self, run: object) -> None:
        super().__init__(f"Run '{run}' still goes on; wait for its end, or cancel it first.")


class ExecutionFailed(DomainError):
    code = "execution_error"


class StepFailed(ExecutionFailed):
    code = "step_failed"

    def __init__(self, step: str, tries: int, why: str) -> None:
        tried = "1 try" if tries == 1 else f"{tries} tries"
        super().__init__(f"Step '{step}' failed after {tried}: {why}")


class TooManyAttempts(ExecutionFailed):
    code = "too_many_attempts"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The run was begun {most} times and did not come to an end: its processes died each "
            "time."
        )


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


class StateNotStorable(ExecutionFailed):
    code = "state_not_storable"

    def __init__(self, kind: str, remedy: str) -> None:
        super().__init__(
            f"A value of the type {kind} can't be kept between the steps of a durable run: {remedy}"
        )


class StateUnreadable(ExecutionFailed):
    code = "state_unreadable"

    def __init__(self, why: str) -> None:
        super().__init__(f"What an earlier step left can't be read: {why}")


class CheckpointNotFound(NotFound):
    code = "checkpoint_not_found"

    def __init__(self, checkpoint: object) -> None:
        super().__init__(f"The run has no checkpoint '{checkpoint}'.", param="checkpoint_id")


class RunHasCompleted(Conflict):
    code = "run_has_completed"

    def __init__(self, run: object) -> None:
        super().__init__(
            f"Run '{run}' has completed, so that there is nothing to go on with; fork it from one "
            "of its checkpoints, or start it again."
        )
