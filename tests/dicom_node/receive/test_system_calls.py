import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.inbox import Inbox
from tests.support.receiving import RawPeer, eventually, receiver_process, settings_for

pytestmark = [pytest.mark.dimse, pytest.mark.slow, pytest.mark.peers]

TRACED = "openat,write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg"
DATA = bytes(300_000)
#: First matching row names a call; strace -y shows each descriptor's path.
STEPS = (
    (r"write\(\d+</[^>]*/inbox/tmp/", "write the file"),
    (r"f(data)?sync\(\d+</[^>]*/inbox/tmp/", "fsync the file"),
    (r"rename(at2?)?\(.*/inbox/tmp/.*/inbox/new/", "rename it"),
    (r"f(data)?sync\(\d+</[^>]*/inbox/new>", "fsync the folder"),
    (r"(sendto|sendmsg|writev?)\(\d+<(TCP|socket)", "send"),
)


@contextmanager
def traced(program: str, pid: int, output: Path) -> Iterator[None]:
    """Trace a process and its threads."""
    command = [program, "-f", "-y", "-s", "0", "-e", f"trace={TRACED}", "-o", str(output)]
    with subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            tracer.wait(10)
            pytest.skip(f"this machine does not let strace attach: {first.strip()}")
        try:
            yield
        finally:
            tracer.terminate()
            tracer.wait(10)


def steps(line: str) -> list[str]:
    return [name for pattern, name in STEPS if re.search(pattern, line)][:1]


def test_success_is_sent_after_the_file_and_the_name_of_the_file_are_on_the_medium(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    program = needs_program("strace")
    settings = settings_for(free_port())
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    trace = tmp_path / "trace"
    with receiver_process(settings, inbox) as process, RawPeer(settings.port) as peer:
        peer.associate()
        assert process.pid is not None
        with traced(program, process.pid, trace):
            assert peer.store(b"1.2.3.4", DATA) == 0
            eventually(lambda: "send" in "".join(trace.read_text().splitlines()[-1:]), 2)
    assert len(inbox.waiting()) == 1
    lines = trace.read_text().splitlines()
    found = [name for line in lines for name in steps(line)]
    order = list(dict.fromkeys(found))
    assert order == [name for _, name in STEPS], "\n".join(lines)
    # and none of them comes again after a later one
    assert found == sorted(found, key=order.index), "\n".join(lines)
    assert found.count("send") == found.count("fsync the file") == found.count("rename it") == 1
