"""Empties the outbox: every delivery at least once, none held up by another endpoint's."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import random

from runtime.application.services.webhooks.secrets import WebhookSecrets
from runtime.domain.entities.webhooks import DeliveryStatus
from runtime.domain.errors import DatabaseUnavailable, DomainError, SecretUnreadable
from runtime.domain.events.base import Event
from runtime.domain.repositories.webhooks import Claimed, DeliveryQueue, Tried
from runtime.domain.services.webhooks import Answered, WebhookSender
from runtime.domain.value_objects.webhooks import next_try, signed_headers

logger = logging.getLogger(__name__)

AT_ONCE = 32
AT_ONCE_PER_TARGET = 4
LEASE = timedelta(seconds=30)
"""How long a delivery stays taken by a process that has died: longer than a try may last."""
POLL_EVERY_S = 2.0
"""How often it is looked for what other processes queued, and for what is due again."""
_GONE = 410


@dataclass
class Courier:
    queue: DeliveryQueue
    sender: WebhookSender
    secrets: WebhookSecrets
    now: Callable[[], datetime]
    chance: Callable[[], float] = random
    poll_every_s: float = POLL_EVERY_S
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _going_on: dict[asyncio.Task[None], Claimed] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="webhooks")

    async def stop(self) -> None:
        """What is being sent is broken off, and due again at once."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task, broken_off = None, dict(self._going_on)
        for task in broken_off:
            task.cancel()
        await asyncio.gather(*broken_off, return_exceptions=True)
        if broken_off:
            with suppress(DatabaseUnavailable):
                await self.queue.give_back(list(broken_off.values()), self.now())

    async def wake(self, _: Event | None = None) -> None:
        """Something is due."""
        self._woken.set()

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            # A loop that must outlive whatever one look comes to.
            try:
                begun = await self._begin()
            except DatabaseUnavailable:
                begun = 0
            except Exception:
                logger.exception("the webhooks' outbox can't be read")
                begun = 0
            if not begun:
                # Not `wait_for`: on Python 3.11 it may swallow what ends this task.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.poll_every_s):
                        await self._woken.wait()

    async def _begin(self) -> int:
        """How many deliveries are begun."""
        room = AT_ONCE - len(self._going_on)
        if not room:
            return 0
        at = self.now()
        claimed = await self.queue.claim(
            at,
            at + LEASE,
            room=room,
            per_target=AT_ONCE_PER_TARGET,
            going_on=Counter(each.target for each in self._going_on.values()),
        )
        for each in claimed:
            task = asyncio.create_task(self._deliver(each), name=f"webhook {each.id}")
            self._going_on[task] = each
            task.add_done_callback(self._done)
        return len(claimed)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._going_on.pop(task, None)
        self._woken.set()

    async def _deliver(self, claimed: Claimed) -> None:
        try:
            tried = await self._try(claimed)
            await self.queue.finish(claimed, tried, self.now())
        except DatabaseUnavailable:
            logger.warning("webhook %s is sent again: its outcome was not written", claimed.id)
        except Exception:
            logger.exception("webhook %s failed", claimed.id)

    async def _try(self, claimed: Claimed) -> Tried:
        if claimed.webhook is not None and not claimed.webhook.enabled:
            return Tried(status=DeliveryStatus.DEAD, error="The endpoint is disabled.", sent=False)
        try:
            answered = await self._send(claimed)
        except SecretUnreadable as error:
            return self._failed(claimed, str(error), sent=False)
        except DomainError as error:
            return self._failed(claimed, str(error))
        if 200 <= answered.status < 300:
            return Tried(
                status=DeliveryStatus.DELIVERED,
                status_code=answered.status,
                response=answered.text,
            )
        return self._failed(claimed, fault(answered), answered)

    async def _send(self, claimed: Claimed) -> Answered:
        at, body = self.now(), claimed.body.encode()
        headers = signed_headers(self.secrets.signers(claimed, at), claimed.id, at, body)
        return await self.sender.send(claimed.url, body, headers)

    def _failed(
        self, claimed: Claimed, error: str, answered: Answered | None = None, *, sent: bool = True
    ) -> Tried:
        gone = answered is not None and answered.status == _GONE
        asked_s = answered.retry_after_s if answered else None
        again = next_try(claimed.attempt, self.now(), asked_s=asked_s, chance=self.chance())
        dead = gone or again is None
        return Tried(
            status=DeliveryStatus.DEAD if dead else DeliveryStatus.PENDING,
            next_at=None if dead else again,
            status_code=answered.status if answered else None,
            error=error,
            response=answered.text if answered else None,
            disable="It answered 410 Gone." if gone else None,
            sent=sent,
        )


def fault(answered: Answered) -> str:
    if 300 <= answered.status < 400:
        return f"It answered {answered.status}: redirects are not followed."
    return f"It answered {answered.status}."
