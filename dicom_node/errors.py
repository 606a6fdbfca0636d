"""Everything that can go wrong, as one tree.

::

    NodeError
    +-- ConfigError        the site's configuration cannot work; says file, line, value and cure
    +-- TemporaryError     trying again later may help (disk full, destination down)
    |   +-- InboxFullError     the spool has no room: DIMSE 0xA700
    |   +-- DatabaseDownError    one of the node's databases cannot be written now
    |   +-- DestinationDownError
    |   +-- ModelServerDownError
    +-- PermanentError     trying again cannot help
        +-- RefusedError       an object that the node does not take: carries the DIMSE status
        +-- UnreadableError    bytes that are not the DICOM they claim to be
        +-- PixelError         pixels that cannot be decoded
        +-- BundleError        an .onnx file that is no valid model bundle
        +-- InferenceError     a model that gave no answer to an image
        +-- ResultError        a SEG or SR that did not pass the gate before sending
        +-- StoreError         the weak-label store cannot do what was asked
        +-- OvertakenError     somebody else decided first
        +-- NotGivenError      an archive that answers does not give one study
        +-- JobCancelledError  somebody cancelled the job that runs

Temporary or permanent is decided where the error is raised, never guessed by the caller.
Messages name the value and the cure, and never a patient.
"""


class NodeError(Exception):
    """The node could not do what it was asked."""


class ConfigError(NodeError):
    """The configuration cannot work."""


class TemporaryError(NodeError):
    """It may work later."""


class InboxFullError(TemporaryError):
    """The inbox has no room; free disk space or raise ``node.inbox_quota_gib``."""


class DatabaseDownError(TemporaryError):
    """One of the node's databases cannot be written now."""


class DestinationDownError(TemporaryError):
    """The destination cannot be reached at present."""


class ModelServerDownError(TemporaryError):
    """The model server gives no answer at present; its studies go on when it does."""


class PermanentError(NodeError):
    """It will never work as it is."""


class RefusedError(PermanentError):
    """An object that the node does not take.

    Parameters
    ----------
    status : int
        The DIMSE status to answer (PS3.4 B.2.3, PS3.7 C).
    reason : str
        Goes into Error Comment (0000,0902), at most 64 characters, never a patient's data.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class UnreadableError(PermanentError):
    """The bytes are not the DICOM that they claim to be."""


class PixelError(PermanentError):
    """The pixels cannot be decoded."""


class BundleError(PermanentError):
    """The file is not a valid model bundle."""


class InferenceError(PermanentError):
    """A model gave no answer to an image.

    Parameters
    ----------
    reason : str
        For the reader of the report, without a patient's data.
    out_of_memory : bool
        Whether it wanted more memory than it may have.
    """

    def __init__(self, reason: str, *, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory


class ResultError(PermanentError):
    """A result did not pass the gate and must not leave."""


class StoreError(PermanentError):
    """The weak-label store cannot do what was asked."""


class OvertakenError(PermanentError):
    """Somebody else decided first; look at what he decided."""


class NotGivenError(PermanentError):
    """An archive that answers does not give one study; others may come."""


class JobCancelledError(PermanentError):
    """Somebody cancelled the job that runs."""
