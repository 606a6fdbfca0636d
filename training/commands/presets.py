"""What training does where no option says so."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from dicom_node.records import Task
from training.config import EncoderName, Size


class Preset(StrEnum):
    """Named ways to fine-tune."""

    FULL = "full"
    DEMO = "demo"


_DEMO: Final = {
    "encoder": EncoderName.SMALL,
    "size": Size(height=128, width=192),
    "batch_size": 8,
    "pace": "one_cycle",
}
#: ``full`` is what the papers do (their learning rates are those of VGG16-BN; a classification is
#: not theirs). ``demo`` is what two cores train in about a minute on 200 phantoms, both tasks
#: together; its learning rates were chosen by the validation split of four sets of phantoms.
PRESETS: Final[Mapping[tuple[Preset, Task], Mapping[str, Any]]] = MappingProxyType(
    {
        (Preset.FULL, Task.SEGMENTATION): {"epochs": 500, "batch_size": 8, "learning_rate": 1e-4},
        (Preset.FULL, Task.QUALITY): {"epochs": 300, "batch_size": 4, "learning_rate": 5e-5},
        (Preset.FULL, Task.CLASSIFICATION): {"epochs": 100, "batch_size": 16},
        (Preset.DEMO, Task.SEGMENTATION): {
            **_DEMO,
            "epochs": 16,
            "learning_rate": 2e-3,
            "cross_entropy": 1.0,
        },
        (Preset.DEMO, Task.QUALITY): {**_DEMO, "epochs": 32, "learning_rate": 4e-3},
        (Preset.DEMO, Task.CLASSIFICATION): {**_DEMO, "epochs": 32, "learning_rate": 2e-3},
    }
)

_CONTRAST: Final = MappingProxyType(
    {
        "encoder": EncoderName.RESNET18,
        "size": Size(height=224, width=224),
        "epochs": 300,
        "batch_size": 32,
        "learning_rate": 3e-4,
    }
)
#: By pretext, where it is another paper's than the context encoder: that of USCL.
PRETRAIN: Final[Mapping[str | None, Mapping[str, Any]]] = MappingProxyType(
    {"uscl": _CONTRAST, "simclr": _CONTRAST, "moco": _CONTRAST}
)

#: Of a detector: the second experiment of USCL's authors, for a GPU; the size is ours.
DETECT: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "encoder": EncoderName.RESNET18,
        "size": Size(height=256, width=256),
        "epochs": 30,
        "batch_size": 2,
        "learning_rate": 0.005,
    }
)
