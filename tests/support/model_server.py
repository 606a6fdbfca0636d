"""A real Open Inference Protocol server on loopback: MLServer."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.error import URLError

import pytest

from dicom_node.bundle import INPUT_NAME, Bundle
from dicom_node.demo.ports import free_port
from dicom_node.records import Task
from tests.support.mlserver import PROGRAM, is_here
from tests.support.nodes import until

_RUNTIME: Final = Path(__file__).parent / "served" / "onnx_runtime.py"


@dataclass
class ModelServer:
    """A server that serves bundles, or did; it can be killed and started again."""

    folder: Path
    grpc_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def put(
        self, bundle: Path, *, name: str = "", version: str | None = None, pause_s: float = 0.0
    ) -> None:
        """Serve a bundle from the next start on, under its own name or another.

        It waits for `pause_s` before each answer.
        """
        manifest = Bundle(bundle).manifest
        name = name or manifest.name
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle, place / "model.onnx")
        size = (manifest.input.height, manifest.input.width)
        is_segmentation = manifest.task is Task.SEGMENTATION
        answer = (-1, len(manifest.labels) + 1, *size) if is_segmentation else (-1, 4)
        tree = {
            "name": name,
            "implementation": f"{_RUNTIME.stem}.OnnxModel",
            "parameters": {
                "uri": str(place / "model.onnx"),
                "version": version,
                "extra": {"pause_s": pause_s},
            },
            "inputs": [{"name": INPUT_NAME, "datatype": "UINT8", "shape": [-1, 1, *size]}],
            "outputs": [{"name": "answer", "datatype": "FP32", "shape": list(answer)}],
        }
        (place / "model-settings.json").write_text(json.dumps(tree))

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        until(self._is_ready)

    def launch(self) -> None:
        """Start it and wait for nothing."""
        settings = {
            "host": "127.0.0.1",
            "http_port": self.http_port,
            "grpc_port": self.grpc_port,
            "metrics_endpoint": None,
            "parallel_workers": 0,
            "debug": False,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "settings.json").write_text(json.dumps(settings))
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [str(PROGRAM), "start", str(self.folder)],
                stdout=output,
                stderr=output,
                env=os.environ | {"PYTHONPATH": str(_RUNTIME.parent)},
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/v2/health/ready"):
                return True
        except URLError:
            return False


@contextmanager
def model_server(folder: Path) -> Iterator[ModelServer]:
    """Return a server that the caller starts; skips where the package is not."""
    if not is_here():
        pytest.skip("no MLServer: python3 -m tests.support.mlserver installs it")
    server = ModelServer(folder)
    try:
        yield server
    finally:
        server.kill()
