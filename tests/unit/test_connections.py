"""Connections that stay open, while the runtime drains."""

from runtime.application.services.connections import Connections
from runtime.domain.errors import Unauthenticated
from runtime.domain.value_objects.identity import LOCAL_ADMIN


class Idle:
    requests = 0

    def __init__(self) -> None:
        self.drained = 0

    async def recheck(self) -> None:
        """It is as good as ever."""

    def revoked(self, error: Unauthenticated) -> None:
        raise AssertionError(error)

    def drain(self) -> None:
        self.drained += 1


async def test_who_identifies_itself_too_late_does_not_hold_up_the_end() -> None:
    connections, early, late = Connections(per_user=8), Idle(), Idle()
    connections.enter(early, LOCAL_ADMIN)
    connections.drain()
    connections.enter(late, LOCAL_ADMIN)
    await connections.stop()

    assert (early.drained, late.drained) == (1, 1)
