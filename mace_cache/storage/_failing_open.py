"""A remote that fails, or is slow, costs its timeout: after that it is left alone for a minute."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from mace_cache._report import warn_once
from mace_cache.errors import DamagedFileError, MaceCacheError, SignatureError
from mace_cache.storage.remote import RemoteStorageFactory
from mace_cache.storage.remote_settings import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.storage.base import KVStorageFactory
    from mace_cache.storage.remote_settings import RemoteSettings

__all__ = ["FailingOpen", "access_to"]

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

ASIDE = 60.0  # seconds
_FIRST_PAUSE = 0.05  # seconds; the next is twice as long


class FailingOpen:
    """Asks a remote for as long as it answers in time.

    Whether it answers is told apart by what it is asked for: a server that is full still reads. One
    that can't be reached, or takes too long, isn't asked for anything.

    Args:
        place: the remote, for messages.
        settings: its timeouts, and how often it is tried.
        disconnect: breaks off what took too long.
    """

    def __init__(
        self, place: str, settings: RemoteSettings, disconnect: Callable[[], None]
    ) -> None:
        self._place = place
        self._settings = settings
        self._disconnect = disconnect
        self._process = os.getpid()
        self._aside: dict[str, float] = {}
        self._all_aside = 0.0
        self._spent = 0.0
        self._spent_since = 0.0
        self._vain = 0.0
        self._vain_since = 0.0

    def asks(self, what: str) -> bool:
        """Whether the remote would be asked for that now; a forked child can't use the sockets."""
        until = max(self._all_aside, self._aside.get(what, 0.0))
        return time.monotonic() >= until and os.getpid() == self._process

    def ask(self, what: str, action: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Ask the remote.

        Args:
            what: what for, such as ``"read"``.
            action: the request; it may raise whatever it likes.
            otherwise: the answer where there is none.
        """
        if not self.asks(what):
            return otherwise
        try:
            return self.in_time(action)
        except DamagedFileError as error:
            warn_once(logger, "remote-damaged", "%s; it is passed over", error)
        except SignatureError as error:
            warn_once(logger, f"signature {error.tier}", "%s; it is passed over", error)
        except MaceCacheError as error:
            warn_once(logger, f"remote {type(error)}", "%s: %s", self._place, error)
        except (ConnectionError, TimeoutError) as error:
            self._all_aside = self._set_aside(what, error)
        except Exception as error:  # noqa: BLE001 (whatever fails there is no fault of the caller)
            self._aside[what] = self._set_aside(what, error)
        return otherwise

    def in_time(self, action: Callable[[], Answer]) -> Answer:
        """Give the answer; what no library's timeout ends is left behind without its connection.

        Args:
            action: the request.

        Raises:
            TimeoutError: there is none in time, as where a server sends a byte now and then.
            Exception: whatever the request raised at last.
        """
        until = time.monotonic() + self._settings.timeout
        answers: list[Answer] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                answers.append(self._with_retries(action, until))
            except Exception as error:  # noqa: BLE001 (raised below)
                errors.append(error)

        thread = threading.Thread(target=run, name="mace-cache remote", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # too many, or the interpreter ends: its own timeouts have to do
            run()
        else:
            thread.join(max(0.0, until - time.monotonic()))
        if answers:
            return answers[0]
        if errors:
            raise errors[0]
        self._disconnect()
        raise TimeoutError(f"no answer within {self._settings.timeout:g} s")

    def set_aside(self, what: str, reason: str) -> None:
        """Don't ask for that for a minute.

        Args:
            what: what for.
            reason: why, for the warning.
        """
        self._aside[what] = self._set_aside(what, TimeoutError(reason))

    def wait_in_vain(self, seconds: float, patience: float) -> None:
        """Count a wait for another machine that has built nothing; together they end leases.

        Args:
            seconds: how long it took.
            patience: how much of that within a minute is enough, in seconds.
        """
        now = time.monotonic()
        if now - self._vain_since > ASIDE:
            self._vain, self._vain_since = 0.0, now
        self._vain += seconds
        if self._vain >= patience and self.asks("lease"):
            self.set_aside("lease", f"waited {self._vain:.1f} s for other machines")

    def spend(self, seconds: float) -> None:
        """Count time that was lost: when it is the timeout within a minute, it is enough.

        What holds a build up isn't asked then; what is written in the background still is.

        Args:
            seconds: what an answer took that brought nothing, or took longer than to build.
        """
        now = time.monotonic()
        if now - self._spent_since > ASIDE:
            self._spent, self._spent_since = 0.0, now
        self._spent += seconds
        if self._spent >= self._settings.timeout and self.asks("read"):
            self.set_aside("read", f"its answers have cost {self._spent:.1f} s")
            self._aside["lease"] = self._aside["read"]

    def _set_aside(self, what: str, error: Exception) -> float:
        reason = redacted(str(error) or repr(error))
        message = "%s: %s failed (%s); it is set aside for a minute"
        warn_once(logger, f"remote {self._place} {what}", message, self._place, what, reason)
        return time.monotonic() + ASIDE

    def _with_retries(self, action: Callable[[], Answer], until: float) -> Answer:
        pause = _FIRST_PAUSE
        for _ in range(self._settings.max_retries - 1):
            try:
                return action()
            except MaceCacheError:
                raise
            except OSError as error:
                wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 (so that not all come at once)
                if time.monotonic() + wait > until:
                    raise
                logger.debug("%s: %s; trying again", self._place, redacted(str(error)))
                time.sleep(wait)
                pause *= 2
        return action()


def access_to(factory: KVStorageFactory, settings: RemoteSettings) -> FailingOpen:
    """Give what asks a remote.

    Args:
        factory: makes its storages; other people's see to their own connections.
        settings: how it is used.
    """
    if isinstance(factory, RemoteStorageFactory):
        return FailingOpen(str(factory), settings, factory.disconnect)
    return FailingOpen(str(factory), settings, lambda: None)
