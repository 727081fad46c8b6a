"""What a WebSocket client says: `{"message_type": …, "data": {…}}` (specs: document C,
"WebSocket 客户端示例")."""

from json import JSONDecodeError
from typing import Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError, model_validator

from runtime.application.commands.runs import SessionRef
from runtime.application.commands.streaming import StreamChat
from runtime.domain.entities.feedback import MAX_COMMENT, Rating
from runtime.domain.errors import InvalidFrame, InvalidValue
from runtime.domain.value_objects.identity import Principal
from runtime.infrastructure.web.openai.sessions import checked_name
from runtime.infrastructure.web.openai.wire_messages import Wire
from runtime.infrastructure.web.requests import parse
from runtime.infrastructure.web.streaming.wire import ChatIn

T = TypeVar("T", bound=BaseModel)


MAX_ID = 128
RequestId = Annotated[str, Field(pattern=rf"^[A-Za-z0-9._:/+=-]{{1,{MAX_ID}}}$")]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class FrameIn(BaseModel):
    """`request_id` stands beside `data` or in it."""

    message_type: str
    data: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> "FrameIn":
        """Raises InvalidFrame."""
        try:
            frame = parse(text.encode())
        except (JSONDecodeError, UnicodeEncodeError):
            raise InvalidFrame("A message is one JSON object; this is no valid JSON.") from None
        if not isinstance(frame, dict) or not isinstance(frame.get("message_type"), str):
            raise InvalidFrame("A message is a JSON object with a 'message_type'.")
        data = frame.get("data", {})
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise InvalidFrame("'data' is a JSON object.", param="data")
        if "request_id" in frame:
            data = {"request_id": frame["request_id"], **data}
        return cls.model_construct(message_type=frame["message_type"], data=data)


class ChatRequestIn(ChatIn):
    """As `POST /api/streaming/chat` takes it; options may also stand in `options`."""

    request_id: RequestId | None = None
    resumable: bool = False

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, data: Any) -> Any:  # noqa: ANN401 - what somebody sent
        options = data.get("options")
        if options is None:
            return data
        if not isinstance(options, dict):
            raise InvalidValue("It is a JSON object.", param="options")
        rest = {name: value for name, value in data.items() if name != "options"}
        if twice := options.keys() & rest.keys():
            raise InvalidValue("It is given twice, also in 'options'.", param=min(twice))
        return {**options, **rest}

    def asking(self, caller: Principal, session: SessionRef | None) -> StreamChat:
        """`session`: the connection's. Raises what `command` raises."""
        named = {
            checked_name(name, field) for field, name in self.sessions().items() if name is not None
        }
        if len(named) > 1:
            raise InvalidValue(
                "It names another session than 'session_id'.", param="conversation_id"
            )
        if named:
            return self.command(caller, SessionRef(name=named.pop()))
        # Only an agent has conversations.
        return self.command(caller, session if self.agent_id else None)


class CancelIn(Wire):
    request_id: RequestId


class ResumeIn(Wire):
    request_id: RequestId
    last_event: int = Field(default=0, ge=0, le=2**53)


class AuthIn(Wire):
    token: str = Field(min_length=1, max_length=16_384)


class FeedbackIn(Wire):
    run_id: Name | None = None
    request_id: RequestId | None = None
    rating: Literal["up", "down", "thumbs_up", "thumbs_down", 1, -1]
    comment: str | None = Field(default=None, max_length=MAX_COMMENT)

    def asked(self) -> str:
        """The request whose run it is of. Raises InvalidValue."""
        if self.request_id is None:
            raise InvalidValue("Name a 'run_id' or a 'request_id'.", param="run_id")
        return self.request_id

    def opinion(self) -> Rating:
        return Rating.UP if self.rating in ("up", "thumbs_up", 1) else Rating.DOWN


def read(kind: type[T], data: dict[str, Any]) -> T:
    """Raises RequestValidationError, InvalidValue."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        at = [{**each, "loc": ("body", *each["loc"])} for each in found]
        raise RequestValidationError(at) from None
