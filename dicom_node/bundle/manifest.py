"""What a bundle says of itself, as pydantic checks it."""

from typing import Annotated, Literal

from pydantic import Field

from dicom_node.bundle.routing import Part, Routing
from dicom_node.records import Algorithm, CodedConcept, Segment, Task

NO_DIGEST = "0" * 64


class Code(Part):
    """A coded concept of a label."""

    value: str
    scheme: str
    meaning: str

    def concept(self) -> CodedConcept:
        """Return the record that the other stages use."""
        return CodedConcept(value=self.value, scheme=self.scheme, meaning=self.meaning)


class Label(Part):
    """One segment of a segmentation model; `value` is its channel."""

    value: Annotated[int, Field(ge=1, le=255)]
    category: Code
    type: Code


class Input(Part):
    """Size of the network's input in pixels."""

    height: Annotated[int, Field(ge=16)] = 256
    width: Annotated[int, Field(ge=16)] = 384


class Provenance(Part):
    """Where the weights come from."""

    created_at: str
    #: of the code that trained, and of the code that wrote the bundle
    code_version: str
    exported_with: str = ""
    #: of the fine-tuning
    recipe: str
    #: where the encoder's first weights came from; empty where they were drawn at random
    pretraining: str = ""
    seed: int
    #: which snapshot of the store was learned from, and how much of it
    store_version: str
    training_frames: int


class Parity(Part):
    """How torch and onnxruntime were compared at export, on how many frames."""

    max_abs_difference: float
    tolerance: float
    frames: int


class Manifest(Part):
    """All that serving has to know of a model."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    version: str
    manufacturer: str
    task: Task
    labels: tuple[Label, ...] = ()
    #: of a quality model: what the scored view is a view of
    finding_sites: tuple[Code, ...] = ()
    routing: Routing = Routing()
    input: Input = Input()
    #: analyse every n-th frame of a cine
    every_nth_frame: Annotated[int, Field(ge=1)] = 1
    #: a segment smaller than this part of the scanned region is noise
    min_area_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    provenance: Provenance
    parity: Parity
    metrics: dict[str, float] = Field(default_factory=dict)
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = NO_DIGEST

    def algorithm(self) -> Algorithm:
        """Return the record that goes into results."""
        return Algorithm(
            name=self.name,
            version=self.version,
            manufacturer=self.manufacturer,
            digest=self.digest,
        )

    def segments(self) -> tuple[Segment, ...]:
        """Return the segments in label order."""
        return tuple(
            Segment(value=label.value, category=label.category.concept(), type=label.type.concept())
            for label in self.labels
        )
