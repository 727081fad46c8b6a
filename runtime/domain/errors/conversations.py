"""What is kept of what was said."""

from runtime.domain.errors.kinds import Conflict, Invalid, NotFound


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


class SessionBusy(Conflict):
    code = "session_busy"
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "Another turn of this conversation goes on; send the next one when it has ended.",
            retry_after_s=1,
        )


class ResponseInProgress(Conflict):
    code = "response_in_progress"

    def __init__(self, response: object, hint: str) -> None:
        super().__init__(
            f"Response '{response}' is still in progress; {hint}.", param="response_id"
        )
