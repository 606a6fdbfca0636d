"""Models on an Open Inference Protocol server: Triton, OpenVINO Model Server, MLServer, KServe.

The protocol has no word for the digest of what a server runs. So each bundle is run once in this
node as well, over fixed trial frames, and the server has to answer the same: when the bundle is
loaded, every `CHECK_S` while it is used, after each fault, and when the server says that it
answered with another version.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.bundle import INPUT_NAME, Manifest
from dicom_node.bundle.signature import check_signature
from dicom_node.config import InferSettings
from dicom_node.errors import BundleError, InferenceError, ModelServerDownError, TemporaryError
from dicom_node.infer.analyse import BATCH
from dicom_node.infer.host import LOAD_TIMEOUT_S, Host, Loaded
from dicom_node.infer.oip import Client, ModelFacts, SilentError, Tensor

#: Probabilities of the server may be so far from the bundle's: half precision is.
TOLERANCE: Final = 1e-2
#: While a model is used it is tried again after so long.
CHECK_S: Final = 600.0
#: Deadline of a question that no model has to work for.
_ASK_S: Final = 5.0
#: What a type of the protocol is called by onnxruntime.
_KINDS: Final = {"UINT8": "uint8", "FP32": "float"}


@dataclass
class _Served:
    """A bundle that the server runs."""

    path: Path
    manifest: Manifest
    #: what this node's own run made of the trial frames
    answer: NDArray[np.float32]
    #: which version is asked for, "" for the one that the server chooses
    asked: str = ""
    #: which version passed the trial, and when (monotonic seconds)
    version: str = ""
    tried_at: float = float("-inf")


class RemoteHost:
    """Has models run on a server; the surface is that of `dicom_node.infer.host.Host`.

    Parameters
    ----------
    settings : InferSettings
        Limits; ``timeout_s`` is the deadline of a call.
    url : str
        ``grpc://host:port`` or ``grpcs://host:port``.
    check_s : float
        Pause between two trials of a model that is used.
    """

    def __init__(self, settings: InferSettings, url: str, *, check_s: float = CHECK_S) -> None:
        self._timeout_s = settings.timeout_s
        self._check_s = check_s
        self._url = url
        self._local = Host(settings, load_timeout_s=LOAD_TIMEOUT_S)
        self._client = Client(url, settings.ca)
        self._lock = threading.Lock()
        self._served: dict[Path, _Served] = {}
        self._doubted: set[Path] = set()

    @property
    def pid(self) -> int | None:
        """Id of the process in which a bundle is tried, None while none is."""
        return self._local.pid

    def close(self) -> None:
        """Hang up, unless a call is running: then that ends with this process.

        A later call connects again, as a study goes on until this process ends.
        """
        self._local.close()
        if self._lock.acquire(blocking=False):
            try:
                self._client.close()
            finally:
                self._lock.release()

    def fault(self) -> str:
        """Say why the server can answer nothing now, "" when it can."""
        try:
            is_ready = self._client.server_is_ready(_ASK_S)
        except (ModelServerDownError, InferenceError) as exc:
            return str(exc)
        return "" if is_ready else f"{self._url}: the model server is up and not ready yet"

    def load(self, path: Path) -> Loaded:
        """Verify a bundle here, and that the server runs the same.

        Raises
        ------
        BundleError
            When it is refused, or the server runs something else under its name.
        ModelServerDownError
            When the server is down, or has no such model ready.
        """
        with self._lock, _plainly():
            return self._load(path)

    def forget(self, path: Path) -> None:
        """Give up a bundle."""
        with self._lock:
            self._served.pop(path, None)

    def doubted(self) -> set[Path]:
        """Return the bundles that the server no longer runs, as far as is known; each once."""
        found, self._doubted = self._doubted, set()
        return found

    def answer(self, path: Path, digest: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run frames through a bundle; shapes as `Bundle.answer`.

        Raises
        ------
        InferenceError
            When the model fails or is silent over these frames and not over the trial frames.
        ModelServerDownError
            When the server gives no answer, or runs another network by now: whoever asks `doubted`
            finds out what to do without it.
        TemporaryError
            When another bundle stands under this path now.
        """
        with self._lock, _plainly():
            if path not in self._served:
                self._load_again(path)
            served = self._served[path]
            if served.manifest.digest != digest:
                raise TemporaryError(f"{path.name}: changed while it was used; the new one is next")
            if time.monotonic() - served.tried_at > self._check_s:
                self._try_again(served)
            return self._run(served, frames)

    def _load(self, path: Path) -> Loaded:
        if fault := self.fault():  # sooner than after a minute of loading
            raise ModelServerDownError(fault)
        try:
            manifest = self._local.load(path).manifest
            expected = self._local.answer(path, manifest.digest, trial_frames(manifest))
        except InferenceError as exc:
            raise BundleError(f"{path.name}: trial frames: {exc}; export it again") from None
        finally:
            self._local.close()  # a process of 120 MiB that nobody needs until the next bundle
        served = _Served(path=path, manifest=manifest, answer=expected)
        self._fit(served)
        try:
            difference = self._difference(served)
        except InferenceError as exc:
            raise BundleError(f"{path.name}: trial frames: {exc}") from None
        except ModelServerDownError as exc:
            raise ModelServerDownError(f"{path.name}: trial frames: {exc}") from None
        if difference:
            raise BundleError(difference)
        self._served[path] = served
        return Loaded(manifest=manifest, provider=self._url, wanted=self._url)

    def _load_again(self, path: Path) -> None:
        try:
            self._load(path)
        except BundleError as exc:
            raise TemporaryError(str(exc)) from None

    def _fit(self, served: _Served) -> None:
        """Compare what the server says of the model with the bundle, and choose the version."""
        name = served.manifest.name
        try:
            facts = self._facts(served)
        except (ModelServerDownError, InferenceError) as exc:
            raise ModelServerDownError(
                f"{served.path.name}: {exc}; load this file there as {name}, or take it out of the "
                "folder: studies wait"
            ) from None
        # some servers declare nothing: then the trial alone decides
        if facts.inputs and facts.outputs:
            cure = f"{self._url} runs another network as {name}: load this file there"
            check_signature(served.path.name, _Declared(facts), served.manifest, cure)

    def _facts(self, served: _Served) -> ModelFacts:
        name, version = served.manifest.name, served.manifest.version
        served.asked = version if self._has(name, version) else ""
        if not served.asked and not self._client.model_is_ready(name, "", _ASK_S):
            raise ModelServerDownError(f"{self._url}: the model server has no {name} that is ready")
        return self._client.model_facts(name, served.asked, _ASK_S)

    def _has(self, name: str, version: str) -> bool:
        # an unknown version, or one that is no number, is an error to some servers
        with suppress(ModelServerDownError, InferenceError):
            return self._client.model_is_ready(name, version, _ASK_S)
        return False

    def _difference(self, served: _Served) -> str:
        """Say what the server answers otherwise than the bundle did here, "" for nothing."""
        frames = {INPUT_NAME: trial_frames(served.manifest)}
        name, expected = served.manifest.name, served.answer
        answer = self._client.infer(name, served.asked, frames, self._timeout_s)
        shapes = [output.shape for output in answer.outputs]
        if shapes != [expected.shape]:
            what = f"gives {shapes} instead of {expected.shape}"
        else:
            gap = float(np.abs(answer.outputs[0] - expected).max())
            if gap <= TOLERANCE:  # not a number is not
                served.version, served.tried_at = answer.version, time.monotonic()
                return ""
            what = f"is {gap:.3g} off, {TOLERANCE:g} is the limit"
        return (
            f"{served.path.name}: {self._url} answers trial frames otherwise than this file: as "
            f"{name} it {what}; load this file there, in float32"
        )

    def _try_again(self, served: _Served) -> None:
        try:
            difference = self._difference(served)
        except InferenceError as exc:  # trial frames have no fault: the server has
            raise ModelServerDownError(f"trial frames: {exc}") from None
        if difference:
            served.tried_at = float("-inf")
            self._doubted.add(served.path)
            raise ModelServerDownError(difference)

    def _run(self, served: _Served, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return self._ask(served, frames)
        except (InferenceError, SilentError):
            self._try_again(served)
        # the server is well: now it is the image
        try:
            return self._ask(served, frames)
        except SilentError:
            raise InferenceError(
                f"{self._url}: the model gave no answer within {self._timeout_s:g} s, twice, and "
                "trial frames were answered; raise infer.timeout_s if the server is slow"
            ) from None

    def _ask(self, served: _Served, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        name = served.manifest.name
        try:
            answer = self._client.infer(name, served.asked, {INPUT_NAME: frames}, self._timeout_s)
        except ModelServerDownError:
            # who knows what runs there when it is back
            served.tried_at = float("-inf")
            raise
        if answer.version != served.version:
            raise InferenceError(
                f"{self._url}: version {answer.version} of {name} answered, and "
                f"{served.version} was tried"
            )
        wanted = (len(frames), *served.answer.shape[1:])
        shapes = [output.shape for output in answer.outputs]
        if shapes != [wanted]:
            raise InferenceError(f"{self._url}: {name} gives {shapes} instead of {wanted}")
        return answer.outputs[0]


def trial_frames(manifest: Manifest) -> NDArray[np.uint8]:
    """Return what a model is tried with, (`BATCH`, 1, H, W): noise, always the same.

    Each frame is coarser and darker than the one before: whether a network looks at texture, shape
    or brightness, it has something to see.
    """
    height, width = manifest.input.height, manifest.input.width
    rng = np.random.default_rng(0)
    frames = np.empty((BATCH, 1, height, width), np.uint8)
    for power, frame in enumerate(frames):
        grain = 4**power
        noise = 256 * rng.random((-(-height // grain), -(-width // grain))) ** grain
        frame[0] = noise.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width]
    return frames


@dataclass(frozen=True)
class _Node:
    name: str
    type: str
    shape: Sequence[object]


class _Declared:
    """What a server says of a model, as onnxruntime says it of a graph."""

    def __init__(self, facts: ModelFacts) -> None:
        self._facts = facts

    def get_inputs(self) -> list[_Node]:
        return [_node(tensor) for tensor in self._facts.inputs]

    def get_outputs(self) -> list[_Node]:
        return [_node(tensor) for tensor in self._facts.outputs]


def _node(tensor: Tensor) -> _Node:
    kind = _KINDS.get(tensor.datatype, tensor.datatype.lower())
    shape = [None if size < 0 else size for size in tensor.shape]
    return _Node(name=tensor.name, type=f"tensor({kind})", shape=shape)


@contextmanager
def _plainly() -> Iterator[None]:
    """Let no other kind out than what jobs are put off by."""
    try:
        yield
    except SilentError as exc:
        raise ModelServerDownError(str(exc)) from None
