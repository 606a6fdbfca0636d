"""The gRPC side of the Open Inference Protocol, version 2, as far as the node speaks it.

Message classes are made from the table below instead of from a generated module: such a one ties
the installed protobuf to the version that wrote it. Needs grpcio and protobuf, so it is imported
only where ``infer.url`` is set.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

from dicom_node.errors import InferenceError, ModelServerDownError

_PACKAGE: Final = "inference"
_SERVICE: Final = "GRPCInferenceService"
_KINDS: Final = descriptor_pb2.FieldDescriptorProto
#: Message -> its fields: name, number, type, "*" where it repeats.
_MESSAGES: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", 1, "bool"),),
    "ModelReadyRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelReadyResponse": (("ready", 1, "bool"),),
    "ModelMetadataRequest": (("name", 1, "string"), ("version", 2, "string")),
    "TensorMetadata": (("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "int64*")),
    "ModelMetadataResponse": (
        ("name", 1, "string"),
        ("versions", 2, "string*"),
        ("platform", 3, "string"),
        ("inputs", 4, "TensorMetadata*"),
        ("outputs", 5, "TensorMetadata*"),
    ),
    "InferTensorContents": (("fp32_contents", 6, "float*"),),
    "InferTensor": (
        ("name", 1, "string"),
        ("datatype", 2, "string"),
        ("shape", 3, "int64*"),
        ("contents", 5, "InferTensorContents"),
    ),
    "ModelInferRequest": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("inputs", 5, "InferTensor*"),
        ("raw_input_contents", 7, "bytes*"),
    ),
    "ModelInferResponse": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("outputs", 5, "InferTensor*"),
        ("raw_output_contents", 6, "bytes*"),
    ),
}
#: A server that says one of these has a fault with what it was asked, and will have it again.
_LASTING: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
#: Within one deadline: a server that is busy for a second is none that is down.
_RETRIES: Final = {
    "methodConfig": [
        {
            "name": [{"service": f"{_PACKAGE}.{_SERVICE}"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}
_OPTIONS: Final = (
    # an answer to four frames of 256x384 and three classes has more than the usual 4 MiB
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # one that comes back is met soon, however long it was away
    ("grpc.max_reconnect_backoff_ms", 5000),
    ("grpc.service_config", json.dumps(_RETRIES)),
)
#: A server's own words go into sentences up to here.
_MOST_WORDS: Final = 120


class SilentError(ModelServerDownError):
    """No answer came within the deadline."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output that a server declares."""

    name: str
    datatype: str
    #: -1 where it is open
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a server says of a model."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said to frames, and the version of it that did."""

    outputs: tuple[NDArray[np.float32], ...]
    version: str


class Client:
    """Asks one server; any thread may.

    Parameters
    ----------
    url : str
        ``grpc://host:port``, or ``grpcs://`` for TLS.
    ca : Path or None
        PEM file of the authorities that may have signed the server's certificate; the system's
        when absent.

    Every method takes its deadline and raises `ModelServerDownError` when the server is down, busy
    or has no such model, `SilentError` of it when the deadline passed, and `InferenceError` when it
    says that the fault is with what it was asked.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self.url = url
        self._ca = ca
        self._channel: Any = None
        _classes()  # made once, before several threads ask for them

    def close(self) -> None:
        """Hang up; a later call connects again."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _connected(self) -> Any:
        if self._channel is None:
            scheme, _, address = self.url.partition("://")
            if scheme == "grpcs":
                roots = None if self._ca is None else self._ca.read_bytes()
                credentials = grpc.ssl_channel_credentials(root_certificates=roots)
                self._channel = grpc.secure_channel(address, credentials, options=_OPTIONS)
            else:
                self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        return self._channel

    def server_is_ready(self, timeout_s: float) -> bool:
        """Whether it can answer at all."""
        return bool(self._call("ServerReady", timeout_s).ready)

    def model_is_ready(self, name: str, version: str, timeout_s: float) -> bool:
        """Whether it can answer for a model; "" stands for the version that it chooses."""
        return bool(self._call("ModelReady", timeout_s, name=name, version=version).ready)

    def model_facts(self, name: str, version: str, timeout_s: float) -> ModelFacts:
        """Return what it says of a model."""
        found = self._call("ModelMetadata", timeout_s, name=name, version=version)
        inputs, outputs = (
            tuple(
                Tensor(name=one.name, datatype=one.datatype, shape=tuple(one.shape)) for one in side
            )
            for side in (found.inputs, found.outputs)
        )
        return ModelFacts(inputs=inputs, outputs=outputs)

    def infer(
        self, name: str, version: str, frames: dict[str, NDArray[np.uint8]], timeout_s: float
    ) -> Answer:
        """Run frames, by the name of the input, through a model."""
        found = self._call(
            "ModelInfer",
            timeout_s,
            model_name=name,
            model_version=version,
            inputs=[
                message("InferTensor", name=one, datatype="UINT8", shape=array.shape)
                for one, array in frames.items()
            ],
            raw_input_contents=[np.ascontiguousarray(one).tobytes() for one in frames.values()],
        )
        try:
            outputs = tuple(_array(found, place) for place in range(len(found.outputs)))
        except (ValueError, IndexError) as exc:
            raise InferenceError(f"{self.url}: its answer cannot be read ({exc})") from None
        return Answer(outputs=outputs, version=found.model_version)

    def _call(self, method: str, timeout_s: float, **fields: Any) -> Any:
        call = self._connected().unary_unary(
            f"/{_PACKAGE}.{_SERVICE}/{method}",
            request_serializer=_in_bytes,
            response_deserializer=reader(f"{method}Response"),
        )
        try:
            return call(message(f"{method}Request", **fields), timeout=timeout_s)
        except grpc.RpcError as exc:
            raise _in_words(self.url, exc.code(), exc.details()) from None


def message(kind: str, /, **fields: Any) -> Any:
    """Return a message of the protocol."""
    return _classes()[kind](**fields)


def reader(kind: str) -> Callable[[bytes], Any]:
    """Return what makes a message out of its bytes."""
    read: Callable[[bytes], Any] = _classes()[kind].FromString
    return read


def _in_bytes(request: Any) -> bytes:
    content: bytes = request.SerializeToString()
    return content


def _array(found: Any, place: int) -> NDArray[np.float32]:
    """Return an output; a server sends it as bytes, or as a list of numbers."""
    tensor = found.outputs[place]
    if tensor.datatype != "FP32":
        raise ValueError(f"{tensor.datatype} instead of FP32")
    shape = tuple(tensor.shape)
    if found.raw_output_contents:
        # little-endian by the protocol
        return np.frombuffer(found.raw_output_contents[place], "<f4").reshape(shape)
    return np.array(tensor.contents.fp32_contents, np.float32).reshape(shape)


def _in_words(url: str, code: grpc.StatusCode, details: str | None) -> Exception:
    words = " ".join((details or "").split())[:_MOST_WORDS]
    if code in _LASTING:
        return InferenceError(f"{url}: the model server failed ({code.name}: {words})")
    kind = SilentError if code is grpc.StatusCode.DEADLINE_EXCEEDED else ModelServerDownError
    return kind(f"{url}: the model server gives no answer ({code.name}: {words})")


@cache
def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="dicom_node/oip.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        made = file.message_type.add(name=name)
        for field, number, words in fields:
            kind = words.removesuffix("*")
            is_message = kind in _MESSAGES
            made.field.add(
                name=field,
                number=number,
                label=_KINDS.LABEL_REPEATED if words.endswith("*") else _KINDS.LABEL_OPTIONAL,
                type=_KINDS.TYPE_MESSAGE
                if is_message
                else _KINDS.Type.Value(f"TYPE_{kind.upper()}"),
                type_name=f".{_PACKAGE}.{kind}" if is_message else None,
            )
    # a pool of its own: another library may bring the same names
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }
