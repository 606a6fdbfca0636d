"""What a destination accepts: contexts are proposed, and no object is sent (PS3.8 9.3.3)."""

from dicom_node.config import Destination
from dicom_node.deliver.dimse import VERIFICATION, contexts_for
from dicom_node.deliver.secure import tls_of
from dicom_node.errors import ConfigError
from dicom_node.requestor import associate
from dicom_node.sop_classes import RESULTS


def probe(destination: Destination, *, calling_ae_title: str) -> dict[str, bool]:
    """Ask a destination for every class of the node's objects.

    Parameters
    ----------
    destination : Destination
        Whom to ask.
    calling_ae_title : str
        Our own AE title.

    Returns
    -------
    dict of str to bool
        Whether it accepts a SOP class, in the transfer syntax that the node sends; empty when it
        did not answer, or rejected the association.
    """
    contexts = contexts_for([VERIFICATION, *RESULTS])
    try:
        tls = tls_of(destination)
    except ConfigError:  # its files may be in the middle of a renewal
        return {}
    association = associate(destination, contexts, calling_ae_title=calling_ae_title, tls=tls)
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    answered = association.is_established or bool(association.rejected_contexts)
    if association.is_established:
        association.release()
    return {uid: uid in accepted for uid in RESULTS} if answered else {}
