"""The folder of bundles: loaded when used, re-read when it changes."""

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node import log
from dicom_node.bundle import Candidate, Manifest, Routing
from dicom_node.config import InferSettings
from dicom_node.errors import BundleError, ModelServerDownError, PixelError, UnreadableError
from dicom_node.header import read_header, text
from dicom_node.infer.choice import Role, roles, routes, strangers
from dicom_node.infer.host import Loaded
from dicom_node.infer.hosting import Hosting, host_for
from dicom_node.pixels.facts import read_facts
from dicom_node.records import Instance, WeakLabels

#: What tells whether a file is still the one that was loaded: name, size, time of change.
_Stamp = tuple[str, int, int]
#: What was refused is tried again so often where the cure may be on a server, not in the folder.
REFUSED_AGAIN_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Model:
    """A sound bundle of the folder; `answer` is that of `dicom_node.bundle.Bundle`."""

    path: Path
    manifest: Manifest
    host: Hosting
    #: the manifest's, or the site's in its place
    routing: Routing
    role: Role
    #: why it rests
    why: str
    #: which execution provider of onnxruntime was found for it, or the address of its server
    provider: str

    def answer(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run frames through the model, as `Host.answer` does."""
        return self.host.answer(self.path, self.manifest.digest, frames)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The models for one image."""

    serving: tuple[Model, ...]
    shadow: tuple[Model, ...]


class Models:
    """The bundles of one folder.

    A bundle dropped into the folder serves from the next study on; a damaged one is refused with a
    sentence in the log and harms no other.

    Parameters
    ----------
    folder : Path or None
        Folder of ``.onnx`` files; None serves no model.
    settings : InferSettings, optional
        Limits, and which models are to run where the site wants it otherwise. A model whose rule in
        ``infer.routes`` cannot be rests.
    refused_again_s : float
        How often a bundle that was refused is tried again where a model server is to run it.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: InferSettings | None = None,
        *,
        refused_again_s: float = REFUSED_AGAIN_S,
    ) -> None:
        self._folder = folder
        self._settings = settings or InferSettings()
        self._routes, self._misrouted = routes(self._settings)
        self._host = host_for(self._settings)
        self._lock = threading.Lock()
        #: a sentence in place of one that was refused
        self._loaded: dict[_Stamp, Loaded | str] = {}
        #: by file name, why the model server could not be asked about it
        self._put_off: dict[str, str] = {}
        #: the last such sentence in the log, of either kind
        self._said: dict[str, str] = {}
        self._refused_again_s = refused_again_s
        self._refused_until = 0.0
        self._models: tuple[Model, ...] = ()

    def close(self) -> None:
        """End the process that runs the models."""
        self._host.close()

    @property
    def pid(self) -> int | None:
        """Id of the process that runs the models, None while there is none."""
        return self._host.pid

    def fault(self) -> str:
        """Say why models cannot be asked now, "" when they can."""
        if fault := self._host.fault():
            return fault
        self.all()
        return next(iter(self._put_off.values()), "")

    def for_image(self, instance: Instance, labels: WeakLabels) -> Chosen:
        """Return the models whose routing rule takes an image, by file name.

        Raises
        ------
        ModelServerDownError
            When nobody can say yet what the model server has of a bundle in the folder.
        """
        keywords = {keyword for model in self.all() for keyword in model.routing.header}
        for reason in self._put_off.values():
            raise ModelServerDownError(reason)
        return self.chosen(_look_at(instance, labels, sorted(keywords)))

    def chosen(self, image: Candidate) -> Chosen:
        """Return the models whose routing rule takes an image, by file name."""
        fitting = [model for model in self.all() if model.routing.takes(image)]
        return Chosen(
            serving=tuple(model for model in fitting if model.role is Role.SERVES),
            shadow=tuple(model for model in fitting if model.role is Role.SHADOW),
        )

    def current(self) -> tuple[Model, ...]:
        """Return the models that serve now, by file name."""
        return tuple(model for model in self.all() if model.role is Role.SERVES)

    def all(self) -> tuple[Model, ...]:
        """Return every sound bundle that stands in the folder now, by file name."""
        with self._lock:
            stamps = self._stamps()
            self._forget_stale()
            if stamps != list(self._loaded):
                self._reload(stamps)
            return self._models

    def refused(self) -> dict[str, str]:
        """Return, by file name, why a bundle in the folder was refused, or waits for its server."""
        self.all()
        found = {
            Path(path).name: found
            for (path, _, _), found in self._loaded.items()
            if isinstance(found, str)
        }
        return found | self._put_off

    def doubts(self) -> list[str]:
        """Say which settings cannot be, or speak of no bundle in the folder."""
        manifests = [model.manifest for model in self.all()]
        return [*self._misrouted.values(), *strangers(manifests, self._settings)]

    def _stamps(self) -> list[_Stamp]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return [_stamp(path) for path in sorted(self._folder.glob("*.onnx"))]

    def _reload(self, stamps: list[_Stamp]) -> None:
        for gone in {stamp[0] for stamp in self._loaded} - {stamp[0] for stamp in stamps}:
            self._host.forget(Path(gone))
        before_now, self._loaded, self._put_off = self._loaded, {}, {}
        for stamp in stamps:
            path = Path(stamp[0])
            try:
                self._loaded[stamp] = before_now.get(stamp) or self._load(path)
            except ModelServerDownError as exc:
                self._put_off[path.name] = str(exc)
                self._say("bundle waits for its server", path, str(exc))
        before = {(model.path, model.manifest.digest): model for model in self._models}
        self._models = tuple(self._decided())
        for model in self._models:
            former = before.get((model.path, model.manifest.digest))
            if former is None or former.role is not model.role:
                _announce(model)
            if model.role is Role.RESTS:
                self._host.forget(model.path)

    def _decided(self) -> Iterator[Model]:
        found = [
            (Path(path), loaded)
            for (path, _, _), loaded in self._loaded.items()
            if isinstance(loaded, Loaded)
        ]
        decided = roles([loaded.manifest for _, loaded in found], self._settings)
        for (path, loaded), (role, why) in zip(found, decided, strict=True):
            name = loaded.manifest.name
            misrouted = self._misrouted.get(name)
            yield Model(
                path=path,
                manifest=loaded.manifest,
                host=self._host,
                routing=self._routes.get(name, loaded.manifest.routing),
                role=Role.RESTS if misrouted else role,
                why=misrouted or why,
                provider=loaded.provider,
            )

    def _load(self, path: Path) -> Loaded | str:
        try:
            loaded = self._host.load(path)
        except BundleError as exc:
            self._say("bundle refused", path, str(exc))
            return str(exc)
        self._said.pop(path.name, None)
        if loaded.provider != loaded.wanted:
            log.get("infer").warning(
                "provider not available",
                bundle=path.name,
                provider=loaded.wanted,
                reason=f"{loaded.provider} runs it; 'dicom-node bundles check' prints why",
            )
        return loaded

    def _say(self, event: str, path: Path, reason: str) -> None:
        """Log what is wrong with a bundle, once as long as it stays the same."""
        if self._settings.url is None or self._said.get(path.name) != reason:
            self._said[path.name] = reason
            log.get("infer").error(event, bundle=path.name, reason=reason)

    def _forget_stale(self) -> None:
        """Let what a model server may have changed be loaded anew: used bundles, refused ones."""
        doubted = self._host.doubted()
        if not doubted and (self._settings.url is None or time.monotonic() < self._refused_until):
            return
        self._refused_until = time.monotonic() + self._refused_again_s
        self._loaded = {
            stamp: found
            for stamp, found in self._loaded.items()
            if isinstance(found, Loaded) and Path(stamp[0]) not in doubted
        }


def fingerprint(models: Sequence[Model]) -> str:
    """Return a name for "analysed by exactly these models", 64 hexadecimal characters."""
    digests = sorted(model.manifest.digest for model in models)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _announce(model: Model) -> None:
    log.get("infer").info(
        "bundle loaded",
        bundle=model.path.name,
        version=model.manifest.version,
        digest=model.manifest.digest,
        state=model.role.value,
        reason=model.why,
        provider=model.provider,
    )


def _look_at(instance: Instance, labels: WeakLabels, keywords: Sequence[str]) -> Candidate:
    groups, geometry = labels.groups, labels.geometry
    try:
        facts = read_facts(instance.path)
        header = read_header(instance.path, keywords)
        words = {keyword: text(header, keyword) for keyword in keywords}
    except (PixelError, UnreadableError):
        return Candidate(groups=groups, geometry=geometry)
    return Candidate(groups=groups, geometry=geometry, facts=facts, header=words)


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns
