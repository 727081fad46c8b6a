"""Agents, their templates and the keys that call them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from runtime.domain.errors.kinds import Conflict, NotFound, Unprocessable


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


class KeyNotFound(NotFound):
    code = "key_not_found"

    def __init__(self, key: object) -> None:
        super().__init__(f"Key '{key}' does not exist.", param="id")


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model: object) -> None:
        super().__init__(
            f"The model '{model}' does not exist or you have no access to it. "
            "GET /v1/models lists the ones you can call.",
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
