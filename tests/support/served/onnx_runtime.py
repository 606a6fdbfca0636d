"""What MLServer needs to run a bundle: loaded by it, in its own environment."""

import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        content = Path(self.settings.parameters.uri).read_bytes()
        options = ort.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(content, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        time.sleep(self.settings.parameters.extra["pause_s"])
        [frames] = payload.inputs
        array = np.asarray(NumpyCodec.decode_input(frames), np.uint8)
        [answer] = self._session.run(None, {frames.name: array})
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("answer", answer)],
        )
