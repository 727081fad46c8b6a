class Failure(Exception):
    """What a command could not do, in words for whoever typed it."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Passing(Failure):
    """What another replica, or the same one later, may do."""
