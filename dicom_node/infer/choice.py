"""Which of the bundles in the folder serve, which run in the shadow, and which rest.

Of several versions of one model one runs: the newest, or the one that ``infer.versions`` names. A
model in ``infer.shadow`` runs beside them, and what it says is kept and sent to nobody.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from pydantic import ValidationError

from dicom_node.bundle import Manifest, Routing
from dicom_node.config import InferSettings


class Role(StrEnum):
    """What a bundle in the folder does."""

    SERVES = "serves"
    SHADOW = "shadow"
    RESTS = "rests"


def roles(manifests: Sequence[Manifest], settings: InferSettings) -> list[tuple[Role, str]]:
    """Return the role of each bundle, and why it rests.

    Parameters
    ----------
    manifests : sequence of Manifest
        Of the sound bundles, by file name; of two of the same version the later one runs.
    settings : InferSettings
        What the site wants otherwise.
    """
    asides = {
        place
        for place, manifest in enumerate(manifests)
        if f"{manifest.name}@{manifest.version}" in settings.shadow
    }
    running: dict[str, int] = {}
    for place in sorted(range(len(manifests)), key=lambda i: newness(manifests[i].version)):
        manifest = manifests[place]
        wanted = settings.versions.get(manifest.name, manifest.version)
        if place not in asides and manifest.version == wanted:
            running[manifest.name] = place
    return [
        (Role.SHADOW, "")
        if place in asides
        else _role(manifest, place, running.get(manifest.name), manifests, settings)
        for place, manifest in enumerate(manifests)
    ]


def newness(version: str) -> tuple[tuple[int, str], ...]:
    """Return what versions are sorted by: numbers in them count as numbers, so 1.10 follows 1.9."""
    return tuple(
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", version)
        if part
    )


def routes(settings: InferSettings) -> tuple[dict[str, Routing], dict[str, str]]:
    """Return the rules that the site gave by model, and the sentences on those that cannot be."""
    rules, faults = {}, {}
    for name, rule in settings.routes.items():
        try:
            rules[name] = Routing.model_validate(rule)
        except ValidationError as exc:
            fault = exc.errors()[0]
            key = ".".join(("infer.routes", name, *(str(part) for part in fault["loc"])))
            known = f"; known here: {', '.join(Routing.model_fields)}"
            faults[name] = (
                f"{key}: {fault['input']!r} will not do: {fault['msg']}"
                f"{known if fault['type'] == 'extra_forbidden' else ''}"
            )
    return rules, faults


def strangers(manifests: Sequence[Manifest], settings: InferSettings) -> Iterator[str]:
    """Say which settings speak of no bundle in the folder."""
    names = {manifest.name for manifest in manifests}
    exact = {f"{manifest.name}@{manifest.version}" for manifest in manifests}
    pins = [f"{name}@{version}" for name, version in settings.versions.items()]
    asked: Mapping[str, tuple[Sequence[str], set[str]]] = {
        "versions": (pins, exact),
        "routes": (tuple(settings.routes), names),
        "shadow": (settings.shadow, names | exact),
    }
    for key, (wanted, known) in asked.items():
        for name in wanted:
            if name not in known:
                there = ", ".join(sorted(exact)) or "none"
                yield f"infer.{key}: {name} is not in the folder of bundles; there: {there}"


def _role(
    manifest: Manifest,
    place: int,
    running: int | None,
    manifests: Sequence[Manifest],
    settings: InferSettings,
) -> tuple[Role, str]:
    if place == running:
        return (Role.SHADOW if manifest.name in settings.shadow else Role.SERVES), ""
    if manifest.name in settings.versions:
        return Role.RESTS, f"infer.versions names {settings.versions[manifest.name]}"
    newest = manifest.version if running is None else manifests[running].version
    if newest == manifest.version:
        return Role.RESTS, "a later file is of the same version"
    return Role.RESTS, f"version {newest} is newer"
