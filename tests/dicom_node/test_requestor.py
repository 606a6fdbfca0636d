import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.presentation import build_context

from dicom_node.config import Destination
from dicom_node.requestor import associate

VERIFICATION = "1.2.840.10008.1.1"
#: as conftest.py finds it
STOCK_GET_MSG = DIMSEServiceProvider.get_msg


class Rounds(threading.Event):
    """Counts the rounds of an association's own thread, which waits for this in each."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self.made = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.made.release()
        return super().wait(timeout)


@contextmanager
def associated(port: int, answer: Callable[[evt.Event], int]) -> Iterator[Association]:
    scp = AE("PEER")
    scp.add_supported_context(VERIFICATION)
    server = scp.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_ECHO, answer)]
    )
    peer = Destination(name="peer", ae_title="PEER", host="127.0.0.1", port=port, timeout_s=2)
    assoc = associate(peer, [build_context(VERIFICATION)], calling_ae_title="NODE")
    try:
        yield assoc
    finally:
        assoc.abort()
        server.shutdown()


@pytest.mark.dimse
def test_an_answer_is_left_to_who_waits_for_it(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # what conftest.py spares the other tests is what this one is about
    monkeypatch.setattr(DIMSEServiceProvider, "get_msg", STOCK_GET_MSG)
    with associated(free_port(), lambda _: 0x0000) as assoc:
        rounds = assoc._reactor_checkpoint = Rounds()
        answer = C_ECHO()
        assoc.dimse.msg_queue.put((1, answer))
        for _ in range(5):
            assert rounds.made.acquire(timeout=10)
        assert assoc.dimse.get_msg(block=True) == (1, answer)
        assert assoc.send_c_echo().Status == 0x0000


@pytest.mark.dimse
def test_a_peer_that_does_not_answer_in_time_gives_an_empty_answer(
    free_port: Callable[[], int],
) -> None:
    over = threading.Event()

    def keep_waiting(_: evt.Event) -> int:
        over.wait(30)
        return 0x0000

    with associated(free_port(), keep_waiting) as assoc:
        assert "Status" not in assoc.send_c_echo()
        over.set()
