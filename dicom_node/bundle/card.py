"""A bundle's manifest as a model card, for the person who decides whether to serve it."""

from collections.abc import Iterator

from dicom_node.bundle.manifest import Code, Manifest
from dicom_node.records import Task

_ANSWERS = {
    Task.SEGMENTATION: "a segmentation: which pixels show what",
    Task.QUALITY: "the quality of the view, 0 (not usable) to 4 (best)",
}
_HOW_SCORED = "the epoch was chosen on the validation patients; nothing was on the test patients"


def parts(manifest: Manifest) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield what the model answers, for which images, from what it learned and how well."""
    yield "What it answers", _answers(manifest)
    yield "Which images it is for", _routing(manifest)
    yield "What it learned from", _provenance(manifest)
    yield "How well it did", _scores(manifest.metrics)
    yield "The file", _file(manifest)


def _answers(manifest: Manifest) -> list[tuple[str, str]]:
    rows = [("task", _ANSWERS[manifest.task])]
    rows += [(f"label {label.value}", _code(label.type)) for label in manifest.labels]
    rows += [("view of", _code(site)) for site in manifest.finding_sites]
    return rows


def _routing(manifest: Manifest) -> list[tuple[str, str]]:
    nth = manifest.every_nth_frame
    return [
        ("rule", manifest.routing.sentence()),
        ("of a cine", "every frame" if nth == 1 else f"each {nth}. frame"),
        ("input", f"{manifest.input.height} x {manifest.input.width} (rows x columns), grey"),
    ]


def _provenance(manifest: Manifest) -> list[tuple[str, str]]:
    origin = manifest.provenance
    exported = f", exported with {origin.exported_with}" if origin.exported_with else ""
    return [
        ("made", f"{origin.created_at}, dicom-node {origin.code_version}{exported}"),
        ("store", f"version {origin.store_version}, {origin.training_frames} labelled frames"),
        ("pretraining", origin.pretraining or "none: the encoder began with random weights"),
        ("fine-tuning", origin.recipe),
        ("seed", str(origin.seed)),
    ]


def _scores(metrics: dict[str, float]) -> list[tuple[str, str]]:
    rows = [(name.replace("_", " "), f"{value:.3f}") for name, value in metrics.items()]
    return [*rows, ("", _HOW_SCORED)] if rows else [("", "nothing was measured")]


def _file(manifest: Manifest) -> list[tuple[str, str]]:
    parity = manifest.parity
    return [
        ("digest", manifest.digest),
        (
            "parity",
            f"torch and onnxruntime differ by {parity.max_abs_difference:.1e} at most on "
            f"{parity.frames} frames ({parity.tolerance:.0e} are allowed)",
        ),
    ]


def _code(code: Code) -> str:
    return f"{code.meaning} ({code.value}, {code.scheme})"
