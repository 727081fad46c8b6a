"""A request's `generator_config`, read key by key."""

from collections.abc import Mapping, Sequence

from runtime.domain.errors import InvalidValue

MAX_NAME = 200


class ModeConfig:
    """What is wrong raises InvalidValue, which names the key."""

    def __init__(self, given: Mapping[str, object], path: str = "generator_config") -> None:
        self._given = given
        self._path = path
        self._known: dict[str, None] = {}

    def integer(self, key: str, default: int, *, least: int, most: int) -> int:
        value = self._value(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise self.wrong(key, f"It is a whole number from {least} to {most}.")

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        value = self._value(key, default)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and least <= value <= most
        ):
            return float(value)
        raise self.wrong(key, f"It is a number from {least:g} to {most:g}.")

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """The first one is the default."""
        value = self._value(key, choices[0])
        if isinstance(value, str) and value in choices:
            return value
        raise self.wrong(key, f"It is one of: {', '.join(choices)}.")

    def text(self, key: str) -> str:
        value = self._value(key, None)
        if isinstance(value, str) and 1 <= len(value) <= MAX_NAME:
            return value
        raise self.wrong(key, f"It is a text of 1-{MAX_NAME} characters, and has to be there.")

    def texts(self, key: str, *, most: int) -> Sequence[str]:
        """None where there are none."""
        values = self._value(key, [])
        if (
            isinstance(values, list | tuple)
            and len(values) <= most
            and all(isinstance(each, str) and 1 <= len(each) <= MAX_NAME for each in values)
        ):
            return list(values)
        raise self.wrong(key, f"It is a list of at most {most} names.")

    def section(self, key: str) -> "ModeConfig | None":
        value = self._value(key, None)
        if value is None:
            return None
        if isinstance(value, Mapping):
            return ModeConfig(value, self.param(key))
        raise self.wrong(key, "It is an object.")

    def param(self, key: str) -> str:
        return f"{self._path}.{key}"

    def wrong(self, key: str, message: str) -> InvalidValue:
        return InvalidValue(message, param=self.param(key))

    def finish(self, owner: str) -> None:
        """Raises InvalidValue for a key that nobody has read."""
        for key in self._given:
            if key not in self._known:
                known = ", ".join(self._known) or "none"
                raise InvalidValue(
                    f"{owner} has no such option; it has: {known}.",
                    param=self.param(key[:MAX_NAME]),
                )

    def _value(self, key: str, default: object) -> object:
        self._known[key] = None
        value = self._given.get(key)
        return default if value is None else value
