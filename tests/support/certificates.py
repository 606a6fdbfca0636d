"""Test certificates, made anew for each test."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme

from dicom_node.config import TlsSettings
from dicom_node.destinations import DestinationTls


@dataclass(frozen=True)
class Certificates:
    """An authority, and the files of a node that it signed."""

    authority: trustme.CA
    folder: Path

    def settings(self, port: int, **changes: object) -> TlsSettings:
        values = {
            "port": port,
            "certificate": self.folder / "node.pem",
            "key": self.folder / "node.key",
            "callers_ca": self.folder / "ca.pem",
        }
        return TlsSettings.model_validate(values | changes)

    def towards(self, **changes: object) -> DestinationTls:
        """Return how a destination is asked that shows the certificate of this folder."""
        return DestinationTls.model_validate({"ca": self.folder / "ca.pem"} | changes)

    def with_client(self, name: str = "node.test", ends: datetime | None = None) -> DestinationTls:
        """... and how the node shows a certificate of its own there."""
        issued = self.authority.issue_cert(name, not_after=ends)
        issued.cert_chain_pems[0].write_to_path(self.folder / "client.pem")
        issued.private_key_pem.write_to_path(self.folder / "client.key")
        files = {"certificate": self.folder / "client.pem", "key": self.folder / "client.key"}
        return self.towards(**files)

    def client(self, *, shows_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if shows_certificate:
            self.authority.issue_cert("modality.test").configure_cert(context)
        return context


def certificates(folder: Path) -> Certificates:
    """Make an authority and a node's certificate for 127.0.0.1 in `folder`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    node = authority.issue_cert("127.0.0.1")
    node.private_key_pem.write_to_path(folder / "node.key")
    for blob in node.cert_chain_pems:
        blob.write_to_path(folder / "node.pem", append=True)
    return Certificates(authority=authority, folder=folder)
