from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from dicom_node.certificates import expiry
from dicom_node.config import TlsSettings
from dicom_node.errors import ConfigError


def written(folder: Path, name: str, ends: datetime | None = None) -> tuple[Path, Path]:
    """Write a certificate and its key."""
    issued = trustme.CA().issue_cert("localhost", not_after=ends)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(certificate), append=number > 0)
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


def test_the_end_of_a_certificate_is_read(tmp_path: Path) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=20)
    certificate, key = written(tmp_path, "node", ends)
    assert expiry(TlsSettings(certificate=certificate, key=key)) == ends


def test_a_certificate_that_ended_is_named_with_its_cure(tmp_path: Path) -> None:
    ends = datetime.now(UTC) - timedelta(days=1)
    certificate, key = written(tmp_path, "node", ends)
    with pytest.raises(ConfigError, match=r"node\.pem has expired; put a new one in its place"):
        expiry(TlsSettings(certificate=certificate, key=key))


def test_a_key_of_another_certificate_is_found(tmp_path: Path) -> None:
    certificate, _ = written(tmp_path, "node")
    _, key = written(tmp_path, "other")
    with pytest.raises(ConfigError, match="cannot be used"):
        expiry(TlsSettings(certificate=certificate, key=key))


@pytest.mark.parametrize("content", [None, "", "no PEM"])
def test_a_file_that_is_missing_or_no_certificate_is_found(
    tmp_path: Path, content: str | None
) -> None:
    certificate, key = written(tmp_path, "node")
    certificate.unlink()
    if content is not None:
        certificate.write_text(content)
    with pytest.raises(ConfigError, match="give PEM files"):
        expiry(TlsSettings(certificate=certificate, key=key))
