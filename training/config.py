"""The settings of a run: frozen, checked, and complete enough to repeat it."""

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dicom_node.records import Task

#: Stride of the deepest features: a smaller input leaves them nothing.
SMALLEST_INPUT_PX = 64
_STRIDE_PX = 32

Pixels = Annotated[int, Field(ge=SMALLEST_INPUT_PX, multiple_of=_STRIDE_PX)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
#: A part of a whole; 0 is nothing and teaches nothing.
Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
#: Of a pretext, which knows and checks it.
OptionValue = float | int | bool | str


class EncoderName(StrEnum):
    """The encoders that can be trained."""

    SMALL = "small"
    RESNET18 = "resnet18"
    RESNET50 = "resnet50"
    VGG16_BN = "vgg16_bn"
    EFFICIENTNET_LITE0 = "efficientnet_lite0"


class Settings(BaseModel):
    """What all settings are: frozen, and refusing what they do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Size(Settings):
    """Rows and columns of a network's input; 256 x 384 are the papers', in our reading."""

    height: Pixels = 256
    width: Pixels = 384

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class Engine(Settings):
    """Where and how a run computes; it changes its speed, and nothing else on purpose."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    #: processes of a machine: GPUs, or processes on the CPU
    devices: Count = 1
    #: machines
    nodes: Count = 1
    #: ``auto`` is bf16-mixed where the device computes it in hardware
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    #: hand the networks to torch.compile
    compile: bool = False
    #: refuse what does not repeat bit for bit
    deterministic: bool = False


class Strategy(Settings):
    """How an encoder gets its weights before it is fine-tuned: one recipe file each."""

    name: Name
    #: a module of `training.pretexts`; None for weights that need no pretraining
    pretext: Name | None = None
    #: where `pretext` is None: drawn at random, or published ones from a local file
    weights: Literal["random", "imagenet"] = "random"
    #: of the pretext, which knows and checks them
    options: dict[str, OptionValue] = {}

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.pretext is None and self.options:
            raise ValueError("options are those of a pretext; name the pretext or drop them")
        if self.pretext is not None and self.weights != "random":
            raise ValueError("a pretext starts from random weights; drop 'weights'")
        return self


class PretrainSettings(Settings):
    """How to pretrain one encoder.

    Defaults are the papers'; what they leave out is chosen in docs/training.md.
    """

    strategy: Strategy
    encoder: EncoderName = EncoderName.VGG16_BN
    #: channels of the first level; of the encoder ``small`` alone
    encoder_width: Count = 16
    size: Size = Size()
    epochs: Count = 200
    batch_size: Annotated[int, Field(ge=2)] = 32
    #: of F, the network that is kept
    learning_rate: Rate = 1e-4
    #: of D, the discriminator
    discriminator_learning_rate: Rate = 1e-5
    seed: Annotated[int, Field(ge=0)] = 0


class FinetuneSettings(Settings):
    """How to fine-tune one network.

    ``labels`` names the label set of a segmentation or a classification: see
    ``dicom_node/store/data/label_sets.yaml``.
    """

    task: Task
    #: None for the quality, which has none
    labels: Name | None = None
    encoder: EncoderName = EncoderName.VGG16_BN
    encoder_width: Count = 16
    size: Size = Size()
    epochs: Count = 300
    batch_size: Annotated[int, Field(ge=2)] = 8
    learning_rate: Rate = 1e-4
    #: ``constant`` as in the papers, or ``one_cycle``: up to the rate and down again
    pace: Literal["constant", "one_cycle"] = "constant"
    #: weight of the bits that are 1 in the ordinal loss
    positive_weight: Rate = 2.0
    #: weight of the cross entropy beside the soft Dice of a segmentation; the papers have none, but
    #: it has a slope where Dice is flat, and few epochs need that
    cross_entropy: Annotated[float, Field(ge=0)] = 0.0
    #: of the training patients
    share: Share = 1.0
    #: keep the encoder as it is (+F), batch statistics included
    freeze: bool = False
    #: the same but for the encoder's last block: "the last three layers" of a ResNet-18, head
    #: included, in the USCL paper
    last_block: bool = False
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.task is Task.QUALITY) != (self.labels is None):
            raise ValueError("labels: name a label set, but for the quality, which has none")
        if self.freeze and self.last_block:
            raise ValueError("freeze and last_block exclude each other; drop one")
        return self


class DetectSettings(FinetuneSettings):
    """How to train one detector; masks teach it, so its task is a segmentation."""

    #: what stands on the encoder, of `models.detector.HEADS`
    heads: Literal["full", "slim"] = "full"


#: values of the masks of volumes, with background
MOST_LABELS: Final = 16


class VolumeSettings(Settings):
    """How to learn from volumes.

    The slides name neither optimizer nor rate, batch or number of epochs: these are ours.
    """

    depth: Literal[10, 18, 34, 50] = 50
    #: channels of the stem
    width: Count = 64
    #: average blocks of so many voxels a side: 1 are 48 x 192 x 192
    shrink: Literal[1, 2, 4] = 1
    epochs: Count = 50
    batch_size: Annotated[int, Field(ge=2)] = 8
    learning_rate: Rate = 1e-3
    seed: Annotated[int, Field(ge=0)] = 0


class SeriesSettings(VolumeSettings):
    """How to pretrain a 3D encoder by the labels of series."""


class VolumeSegmentSettings(VolumeSettings):
    """How to learn to segment volumes, from the weights of a series' encoder or from none."""

    #: values of the masks, with background
    labels: Annotated[int, Field(ge=2, le=MOST_LABELS)] = 3
    #: up to which block the encoder is kept: 4 is all, 0 the stem alone, None keeps nothing
    freeze: Annotated[int, Field(ge=0, le=4)] | None = None
    #: of the training patients
    share: Share = 1.0
