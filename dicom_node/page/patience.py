"""How long the page waits for whom it serves: nobody keeps others out by being slow, or silent.

uvicorn hangs up on who is silent after an answer, but waits without end for a request, for the rest
of one, and for who does not read what was answered; a hundred such would take every connection.
"""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: For a whole request, head and body; and for each 48 KiB of an answer that is not read.
PATIENCE_S: Final = 20.0
#: The peer's turn: h11 has no whole request of it.
_UNFINISHED: Final = (h11.IDLE, h11.SEND_BODY)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 on one connection, which ends when its peer keeps it waiting for `PATIENCE_S`.

    Where `limit_concurrency` is reached, one that begins takes the place of the one that has been
    waited for the longest.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._look()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._take_a_place()

    def data_received(self, data: bytes) -> None:
        """Go on with a request; what comes drop by drop wins no time."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._forget()
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Begin to wait for a peer that does not read."""
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        """Go on: it read."""
        super().resume_writing()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget()
        super().connection_lost(exc)

    def _look(self) -> None:
        is_waiting = self.conn.their_state in _UNFINISHED or self.flow.write_paused
        if not is_waiting and not self.transport.is_closing():
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(PATIENCE_S, self._hang_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        # not close(): it would wait for the peer to read
        self.transport.abort()
        self.connections.discard(self)

    def _take_a_place(self) -> None:
        others = [one for one in self.connections if isinstance(one, PatientProtocol)]
        waiting = [
            (one._deadline.when(), one) for one in others if one._deadline and one is not self
        ]
        if waiting:
            min(waiting, key=lambda pair: pair[0])[1]._hang_up()
