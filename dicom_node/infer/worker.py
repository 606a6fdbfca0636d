"""The process that runs the models, which `dicom_node.infer.host` starts.

::

    python -m dicom_node.infer.worker FILE_DESCRIPTOR MEMORY_MIB THREADS

THREADS is 0 for onnxruntime's own choice.
"""

import json
import logging
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.bundle import CPU, Bundle, providers
from dicom_node.errors import BundleError, InferenceError
from dicom_node.helper_process import connected


def main(descriptor: int, memory_mib: int, threads: int) -> None:
    """Answer requests until the other side hangs up."""
    wanted = providers()
    # CUDA reserves far more address space than it uses, and the limit would count it
    connection = connected(descriptor, memory_mib=memory_mib if wanted == [CPU] else None)
    warnings.simplefilter("ignore")
    logging.disable()
    bundles: dict[str, Bundle] = {}
    while True:
        try:
            request = json.loads(connection.recv_bytes())
            if request["what"] == "load":
                bundles.pop(request["path"], None)
                _load(connection, request["path"], threads, bundles)
            elif request["what"] == "forget":
                bundles.pop(request["path"], None)
            else:
                _run(connection, bundles[request["path"]], request["shape"])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except MemoryError:
            _say(connection, error="it needs more memory", out_of_memory=True)


def _load(
    connection: "Connection[Any, Any]", path: str, threads: int, bundles: dict[str, Bundle]
) -> None:
    try:
        bundle = Bundle(Path(path), threads or None)
    except BundleError as exc:
        _say(connection, error=str(exc))
        return
    bundles[path] = bundle
    manifest = bundle.manifest.model_dump_json()
    _say(connection, manifest=manifest, provider=bundle.provider, wanted=providers()[0])


def _run(connection: "Connection[Any, Any]", bundle: Bundle, shape: list[int]) -> None:
    frames = np.frombuffer(connection.recv_bytes(), np.uint8).reshape(shape)
    try:
        answer = np.ascontiguousarray(bundle.answer(frames), np.float32)
    except InferenceError as exc:
        _say(connection, error=str(exc), out_of_memory=exc.out_of_memory)
        return
    _say(connection, shape=answer.shape, provider=bundle.provider)
    connection.send_bytes(answer.data.cast("B"))


def _say(connection: "Connection[Any, Any]", **words: object) -> None:
    connection.send_bytes(json.dumps(words).encode())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
