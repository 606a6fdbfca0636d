"""docs/tls.md does what it says."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydicom import examples

from dicom_node import config
from dicom_node.config import Destination, TlsSettings
from dicom_node.destinations import DestinationTls
from dicom_node.inbox import Inbox
from tests.support.receiving import receiver

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "tls.md").read_text("utf-8")
NODE = "node.hospital.example 2762"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("part", "section"), [(0, TlsSettings), (1, DestinationTls)])
def test_every_key_stands_there_with_its_default(part: int, section: type[BaseModel]) -> None:
    text = TEXT.split("## Towards destinations")[part]
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\S+) \|", text, re.MULTILINE))
    assert list(rows) == list(section.model_fields)
    for name, field in section.model_fields.items():
        default = "none" if field.is_required() else field.default
        shown = {None: "null", False: "false", True: "true"}.get(default, str(default))
        assert rows[name] == shown, name


def test_its_example_of_a_destination_is_read(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(blocks("yaml")[1])
    [destination] = config.load(tmp_path / "node.yaml").destinations
    assert isinstance(destination, Destination)
    assert destination.tls is not None
    assert destination.tls.ca == tmp_path / "ca.pem"


def test_the_lines_of_the_log_that_it_names_are_written() -> None:
    code = (REPOSITORY / "dicom_node" / "certificates.py").read_text("utf-8")
    named = set(re.findall(r"`(certificate_[a-z_]+)`", TEXT))
    assert named
    for words in named:
        assert f'"{words}"' in code, words


@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.slow
def test_its_commands_make_certificates_with_which_its_callers_come_in(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    needs_program("openssl")
    storescu = needs_program("storescu")
    making, calling = blocks("sh")
    subprocess.run(["bash", "-euc", making], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "image.dcm").write_bytes(Path(examples.get_path("palette_color")).read_bytes())

    settings, _ = blocks("yaml")
    named, anonymous = calling.splitlines()
    for command, removed in ((named, ""), (anonymous, "    callers_ca: ca.pem\n")):
        (tmp_path / "node.yaml").write_text(
            settings.replace(removed, "")
            + f"    port: {free_port()}\n"
            + f"  port: {free_port()}\n"
            + "  min_free_gib: 0\n"
            + "  callers: [{ae_title: MODALITY, host: 127.0.0.1}]\n"
        )
        node = config.load(tmp_path / "node.yaml").node
        assert node.tls is not None
        with receiver(node, Inbox(tmp_path / "inbox", min_free_bytes=0)) as running:
            before = len(running.received())
            assert NODE in command
            words = command.replace(NODE, f"127.0.0.1 {node.tls.port}").split()
            done = subprocess.run(
                [storescu, *words[1:]],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert len(running.received()) == before + 1
