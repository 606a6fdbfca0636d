from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pynetdicom import AE

from dicom_node.cli.archives import archives
from dicom_node.config import Config, CountAt, DicomwebArchive, DimseArchive, StudySettings
from tests.support.scp import shut_down

pytestmark = pytest.mark.dimse

FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))


@contextmanager
def archive(port: int, *classes: str) -> Iterator[None]:
    ae = AE(ae_title="ARCHIVE")
    ae.require_called_aet = True
    for sop_class in classes:
        ae.add_supported_context(sop_class)
    ae.start_server(("127.0.0.1", port), block=False)
    try:
        yield
    finally:
        shut_down(ae)


def of(port: int, **more: object) -> DimseArchive:
    known = {"name": "old", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port}
    return DimseArchive.model_validate(known | more)


def asked(**settings: object) -> list[tuple[str, str, str]]:
    return archives(Config.model_validate(settings))


def test_an_archive_is_asked_for_what_a_harvest_wants_of_it(free_port: Callable[[], int]) -> None:
    port = free_port()
    with archive(port, FIND, GET):
        [(what, fault, found)] = asked(archives=(of(port),))
        assert (what, fault) == ("archive old", "")
        assert found == f"ARCHIVE@127.0.0.1:{port} accepts C-FIND, C-GET"
        [(_, fault, _)] = asked(archives=(of(port, retrieve="move"),))
        assert "does not accept C-MOVE (study root); enable it there" in fault
        [(_, fault, _)] = asked(archives=(of(port, ae_title="OTHER"),))
        assert "rejects the association; let it know the AE title DICOM_NODE" in fault
        counts = StudySettings(count_at=CountAt(ae_title="ARCHIVE", host="127.0.0.1", port=port))
        [(what, fault, found)] = asked(study=counts)
        assert (what, fault) == ("study.count_at", "")
    [(_, fault, _)] = asked(archives=(of(port),))
    assert "gives no answer" in fault


def test_an_archive_that_speaks_dicomweb_is_asked_one_question(
    free_port: Callable[[], int],
) -> None:
    url = f"http://127.0.0.1:{free_port()}/dicom-web"
    web = DicomwebArchive(name="web", kind="dicomweb", url=url, timeout_s=2.0)
    [(what, fault, _)] = asked(archives=(web,))
    assert what == "archive web"
    assert fault
