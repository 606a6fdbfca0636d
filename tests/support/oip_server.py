"""An Open Inference Protocol server on loopback that answers as it is told."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.oip import message, reader

Frames = NDArray[np.uint8]
Answer = NDArray[np.float32]


@dataclass
class OipServer:
    """What the server was asked, and how it answers."""

    url: str = ""
    #: of the model
    run: Callable[[Frames], Answer] = lambda frames: frames.astype(np.float32)
    #: what it declares: name, type, shape
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    ready: bool = True
    models: tuple[str, ...] = ("test-quality", "test-segmentation")
    #: versions that it knows; "" is any
    versions: tuple[str, ...] = ("",)
    version: str = "1"
    #: whether answers are bytes, or a list of numbers
    raw: bool = True
    #: taken from the front: how the next calls of the model fail
    failures: list[grpc.StatusCode] = field(default_factory=list)
    #: the requests to the model
    asked: list[Any] = field(default_factory=list)


@contextmanager
def oip_server(credentials: grpc.ServerCredentials | None = None) -> Iterator[OipServer]:
    """Run a server on a free port."""
    state = OipServer()
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _Method(state, name),
            request_deserializer=reader(f"{name}Request"),
            response_serializer=lambda answer: answer.SerializeToString(),
        )
        for name in ("ServerReady", "ModelReady", "ModelMetadata", "ModelInfer")
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),)
    )
    if credentials is None:
        state.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
        state.url = f"grpcs://localhost:{port}"
    server.start()
    try:
        yield state
    finally:
        server.stop(0).wait()


class _Method:
    def __init__(self, state: OipServer, name: str) -> None:
        self._state, self._name = state, name

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        return getattr(self, f"_{self._name}")(request, context)

    def _ServerReady(self, *_: Any) -> Any:  # noqa: N802 - the protocol's name
        return message("ServerReadyResponse", ready=self._state.ready)

    def _ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._must_have(request.name, request.version, context)
        return message("ModelReadyResponse", ready=True)

    def _ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._must_have(request.name, request.version, context)
        sides = {
            side: [
                message("TensorMetadata", name=name, datatype=kind, shape=shape)
                for name, kind, shape in getattr(self._state, side)
            ]
            for side in ("inputs", "outputs")
        }
        return message("ModelMetadataResponse", name=request.name, **sides)

    def _ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        state = self._state
        state.asked.append(request)
        self._must_have(request.model_name, request.model_version, context)
        if state.failures:
            context.abort(state.failures.pop(0), "as it was told")
        [tensor], [content] = request.inputs, request.raw_input_contents
        answer = state.run(np.frombuffer(content, np.uint8).reshape(tuple(tensor.shape)))
        output = {"name": "answer", "datatype": "FP32", "shape": answer.shape}
        if not state.raw:
            numbers = message("InferTensorContents", fp32_contents=answer.ravel().tolist())
            output["contents"] = numbers
        return message(
            "ModelInferResponse",
            model_name=request.model_name,
            model_version=state.version,
            outputs=[message("InferTensor", **output)],
            raw_output_contents=[answer.astype("<f4").tobytes()] if state.raw else [],
        )

    def _must_have(self, name: str, version: str, context: grpc.ServicerContext) -> None:
        if name not in self._state.models or version not in self._state.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"model {name} {version} not found")
