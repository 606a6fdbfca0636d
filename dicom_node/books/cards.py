"""The bundles in the folder as the node would choose among them; no model is loaded."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from dicom_node.bundle import Manifest, Routing
from dicom_node.bundle.card import parts
from dicom_node.bundle.peeked import manifest_of
from dicom_node.config import Config
from dicom_node.errors import BundleError
from dicom_node.infer.choice import Role, roles, routes

#: A folder holds a few models, each in a few versions.
_KEPT: Final = 64


@dataclass(frozen=True, kw_only=True)
class Card:
    """One file in the folder of bundles."""

    file: str
    #: why it is no bundle, "" when it is one
    fault: str = ""
    #: None of a faulty one, as what follows
    manifest: Manifest | None = None
    role: Role | None = None
    #: why it rests
    why: str = ""
    #: which images it is for, by the site's rule where there is one
    rule: str = ""
    is_rule_of_the_site: bool = False

    def parts(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return what `dicom-node bundles show` prints."""
        return [] if self.manifest is None else list(parts(self.manifest))


def cards(config: Config) -> list[Card]:
    """Return a card for each file, by name."""
    sound: dict[Path, Manifest] = {}
    faulty: list[Card] = []
    folder = config.bundles
    for path in sorted(folder.glob("*.onnx")) if folder is not None else ():
        try:
            stat = path.stat()
            sound[path] = _manifest(path, stat.st_size, stat.st_mtime_ns)
        except (BundleError, FileNotFoundError) as exc:
            fault = str(exc) if isinstance(exc, BundleError) else f"{path.name}: gone meanwhile"
            faulty.append(Card(file=path.name, fault=fault))
    rules, misrouted = routes(config.infer)
    decided = roles(list(sound.values()), config.infer)
    made = [
        _card(path, manifest, role, rules.get(manifest.name), misrouted.get(manifest.name, ""))
        for (path, manifest), role in zip(sound.items(), decided, strict=True)
    ]
    return sorted([*made, *faulty], key=lambda card: card.file)


def _card(
    path: Path, manifest: Manifest, role: tuple[Role, str], rule: Routing | None, misrouted: str
) -> Card:
    return Card(
        file=path.name,
        manifest=manifest,
        role=Role.RESTS if misrouted else role[0],
        why=misrouted or role[1],
        rule=(rule or manifest.routing).sentence(),
        is_rule_of_the_site=rule is not None,
    )


@lru_cache(maxsize=_KEPT)
def _manifest(path: Path, _size: int, _mtime_ns: int) -> Manifest:
    return manifest_of(path)
