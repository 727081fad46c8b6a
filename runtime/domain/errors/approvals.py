"""What people decide for runs that wait."""

from runtime.domain.errors.kinds import Conflict, NotFound, Unprocessable


class ApprovalNotFound(NotFound):
    code = "approval_not_found"

    def __init__(self, approval: object) -> None:
        super().__init__(f"Approval '{approval}' does not exist.", param="approval_id")


class ApprovalIsDecided(Conflict):
    code = "approval_decided"

    def __init__(self, approval: object) -> None:
        super().__init__(f"Approval '{approval}' is decided: otherwise, or by somebody else.")


class ApprovalChanged(Conflict):
    code = "approval_changed"

    def __init__(self, approval: object) -> None:
        super().__init__(
            f"Approval '{approval}' is for other arguments than those that you saw.",
            param="arguments_hash",
        )


class ArgumentsRefused(Unprocessable):
    code = "arguments_refused"

    def __init__(self, problem: str) -> None:
        super().__init__(problem, param="arguments")


class RunNotWaiting(Conflict):
    code = "run_not_waiting"

    def __init__(self, run: object) -> None:
        super().__init__(f"Run '{run}' waits for nobody.")
