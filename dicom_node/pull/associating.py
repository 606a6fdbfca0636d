"""Associations with an archive of the configuration, over TLS where it says so."""

from collections.abc import Sequence

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from dicom_node.certificates import client_context
from dicom_node.config import DimseArchive
from dicom_node.requestor import associate


def associate_with(
    at: DimseArchive,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae_title: str,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Association:
    """Ask an archive for an association; whether it came to be, its ``is_established`` tells.

    Raises
    ------
    ConfigError
        When a file of ``tls:`` cannot be used.
    """
    tls = None if at.tls is None else (client_context(at.tls), at.tls.server_name or at.host)
    return associate(at, contexts, calling_ae_title=calling_ae_title, roles=roles, tls=tls)
