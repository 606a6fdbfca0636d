"""The decoder process that the sandbox starts.

::

    python -m dicom_node.pixels.worker FILE_DESCRIPTOR MEMORY_MIB

It must stay small: neither onnxruntime nor torch is imported here.
"""

import json
import logging
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dicom_node.errors import PixelError
from dicom_node.helper_process import connected
from dicom_node.pixels.decode import decode, decode_stored


def main(descriptor: int, memory_mib: int) -> None:
    """Answer requests until the other side hangs up."""
    # library messages quote data sets
    warnings.simplefilter("ignore")
    logging.disable()
    connection = connected(descriptor, memory_mib=memory_mib)
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            return
        _answer(connection, request)


def _answer(connection: "Connection[Any, Any]", request: dict[str, Any]) -> None:
    try:
        of_kind = decode_stored if request["stored"] else decode
        for number, frame in of_kind(Path(request["path"]), request["numbers"]):
            rows, columns = frame.shape
            _say(connection, frame=number, rows=rows, columns=columns)
            connection.send_bytes(frame.data.cast("B"))
        _say(connection, done=True)
    except (BrokenPipeError, ConnectionResetError):
        raise SystemExit(0) from None
    except PixelError as exc:
        _say(connection, error=str(exc))
    except Exception as exc:  # noqa: BLE001 - whatever strangers' bytes cause, the parent is told
        fault = f"the pixels cannot be decoded ({type(exc).__name__})"
        _say(connection, error=fault, fatal=True)


def _say(connection: "Connection[Any, Any]", **words: object) -> None:
    connection.send_bytes(json.dumps(words).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
