"""What a bundle says of itself."""

from dataclasses import dataclass, field

from dicom_node import codes
from dicom_node.bundle import Code, Input, Label, Manifest, Parity, Provenance, Routing
from dicom_node.records import CodedConcept, Task
from dicom_node.store.label_sets import label_set
from training.code_version import code_version
from training.config import EncoderName, FinetuneSettings
from training.runs import RunInfo

MANUFACTURER = "dicom-node"
#: The view that quality is labelled for, Morison's pouch, has no code of its own in DICOM.
MORISON = (codes.LIVER, codes.KIDNEY, codes.PERITONEAL_CAVITY)
QUALITY_NAME = "view-quality"


@dataclass(frozen=True, kw_only=True)
class Bundling:
    """What training does not know of a bundle."""

    #: None for the label set's, or `QUALITY_NAME`
    name: str | None = None
    routing: Routing = field(default_factory=Routing)
    #: of a cine
    every_nth_frame: int = 1
    #: of a quality model: what the scored view is a view of
    finding_sites: tuple[CodedConcept, ...] = MORISON


def describe(
    info: RunInfo, settings: FinetuneSettings, bundling: Bundling, parity: Parity
) -> Manifest:
    """Return the manifest of a finished run; its digest is still blank."""
    if info.finished_at is None:
        raise ValueError("the run is not finished")
    is_quality = settings.task is Task.QUALITY
    return Manifest(
        name=bundling.name or settings.labels or QUALITY_NAME,
        version=f"{info.finished_at:%Y%m%d.%H%M%S}",
        manufacturer=MANUFACTURER,
        task=settings.task,
        labels=() if settings.labels is None else _labels(settings.labels),
        finding_sites=tuple(map(_code, bundling.finding_sites)) if is_quality else (),
        routing=bundling.routing,
        input=Input(height=settings.size.height, width=settings.size.width),
        every_nth_frame=bundling.every_nth_frame,
        provenance=Provenance(
            created_at=info.finished_at.isoformat(timespec="seconds"),
            code_version=info.code_version,
            exported_with=code_version(),
            recipe=recipe(settings),
            pretraining="" if info.start == "random" else info.start,
            seed=settings.seed,
            store_version=info.store_version,
            training_frames=info.training_frames,
        ),
        parity=parity,
        metrics=info.metrics,
    )


def recipe(settings: FinetuneSettings) -> str:
    """Return how a network was fine-tuned, on one line."""
    is_small = settings.encoder is EncoderName.SMALL
    encoder = f"small-{settings.encoder_width}" if is_small else settings.encoder
    parts = {
        "labels": settings.labels,
        "encoder": encoder,
        "input": settings.size,
        "epochs": settings.epochs,
        "batch": settings.batch_size,
        "lr": f"{settings.learning_rate:g}",
        "pace": settings.pace,
        "cross_entropy": f"{settings.cross_entropy:g}" if settings.cross_entropy else None,
        "share": f"{settings.share:g}",
        "frozen": "encoder" if settings.freeze else None,
    }
    said = [f"{key}={value}" for key, value in parts.items() if value is not None]
    return " ".join((f"finetune {settings.task}", *said))


def _labels(name: str) -> tuple[Label, ...]:
    return tuple(
        Label(value=value, category=_code(label.category), type=_code(label.type))
        for value, label in enumerate(label_set(name).labels, start=1)
    )


def _code(concept: CodedConcept) -> Code:
    return Code(value=concept.value, scheme=concept.scheme, meaning=concept.meaning)
