"""What is kept to be known again."""

from runtime.domain.errors.kinds import Conflict, NotFound


class MemoryNotFound(NotFound):
    code = "memory_not_found"

    def __init__(self, memory: object) -> None:
        super().__init__(f"Memory with id '{memory}' not found.", param="id")


class MemoryExists(Conflict):
    code = "memory_exists"

    def __init__(self) -> None:
        super().__init__("There is another memory with the same text in this scope.", param="text")


class MemoryFull(Conflict):
    code = "memory_full"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"There are {most:,} memories of this user, which is as many as the runtime keeps; "
            "forget some first.",
            details={"most": most},
        )
