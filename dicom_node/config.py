"""The configuration: one YAML file, checked before anything starts.

An unknown key, a wrong type or an impossible value is an error that names file, line, value and
cure. Relative paths are relative to the file they stand in.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from dicom_node.archives import AnyArchive, DicomwebArchive, DimseArchive
from dicom_node.destinations import (
    KINDS,
    AETitle,
    AnyDestination,
    Destination,
    DestinationTls,
    DicomwebDestination,
    MinimumVersion,
    Port,
    Section,
)
from dicom_node.errors import ConfigError
from dicom_node.page_settings import PageSettings, PageTls, TrustedProxy

__all__ = [
    "AnyArchive",
    "AnyDestination",
    "Caller",
    "Config",
    "CountAt",
    "Destination",
    "DicomwebArchive",
    "DicomwebDestination",
    "DimseArchive",
    "HarvestSettings",
    "InferSettings",
    "NodeSettings",
    "PageSettings",
    "StudySettings",
    "TlsSettings",
    "WebSettings",
    "load",
]

#: Name of a node that the site gave none.
FIRST_NODE = "node-0"

#: Folder of the weak-label store under ``node.data``.
STORE = "store"


class Caller(Section):
    """Who may send: an AE title from a host; ``"*"`` stands for any."""

    #: its AE title; "*" = any
    ae_title: AETitle
    #: name or address it calls from; "*" = any
    host: str = "*"
    #: where it takes storage commitment reports; null = its requests are refused
    port: Port | None = None


class TlsSettings(Section):
    """The TLS side of the Application Entity (PS3.15 B.12, BCP 195), on a port of its own."""

    #: where TLS is spoken, beside `node.port`
    port: Port = 2762
    #: whether `node.port`, which knows no TLS, stays closed
    only: bool = False
    #: PEM file of the node's certificate and those that lead to its authority
    certificate: Path = Field(strict=False)
    #: PEM file of its private key, without a password
    key: Path = Field(strict=False)
    #: PEM file of the authorities whose certificates callers must show; null = none is asked for
    callers_ca: Path | None = Field(default=None, strict=False)
    #: the oldest TLS that is spoken
    minimum_version: MinimumVersion = "1.2"


class NodeSettings(Section):
    """The Application Entity and its place on disk."""

    #: as which it is called, and calls
    ae_title: AETitle = "DICOM_NODE"
    #: among the nodes of one `database`; it never changes
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,15}$")] = FIRST_NODE
    #: address that is listened on; 0.0.0.0 = every one of the machine
    bind: str = "127.0.0.1"
    #: where DICOM is spoken in the clear
    port: Port = 11112
    #: null = no TLS
    tls: TlsSettings | None = None
    #: folder of all that the node keeps
    data: Path = Field(default=Path("node-data"), strict=False)
    #: receiver processes that share the port
    processes: Annotated[int, Field(ge=1, le=64)] = 2
    #: who may send; an empty list means nobody
    callers: tuple[Caller, ...] = Field(default=(), strict=False)
    #: refuse new objects when less than this is free on the disk of `data`
    min_free_gib: Annotated[float, Field(ge=0)] = 1.0
    #: refuse new objects when the inbox holds more than this; null = no limit
    inbox_quota_gib: Annotated[float, Field(gt=0)] | None = None
    #: give up on a peer that is silent for so long in the middle of something
    network_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    #: of a receiver process; an idle one takes 70 kB
    max_associations: Annotated[int, Field(ge=1)] = 250
    #: of a receiver process, from one address
    max_connections_per_host: Annotated[int, Field(ge=1)] = 20
    #: on stop, running associations get so long to finish
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    #: a node of the same `database` that was silent for so long is dead
    dead_after_s: Annotated[float, Field(gt=0)] = 60.0

    @property
    def ports(self) -> list[tuple[int, bool]]:
        """The ports that are open, each with whether it speaks TLS."""
        plain = [] if self.tls is not None and self.tls.only else [(self.port, False)]
        return plain if self.tls is None else [*plain, (self.tls.port, True)]


class CountAt(Section):
    """A PACS that is asked how many instances a study has (C-FIND, study root)."""

    #: whom to ask
    ae_title: AETitle
    #: name or address of its machine
    host: str
    #: where it listens
    port: Port
    #: longest wait for its answer
    timeout_s: Annotated[float, Field(gt=0)] = 10.0


class FetchFrom(CountAt):
    """A PACS that sends a study here when it is asked to (C-MOVE, study root)."""

    #: longest silence: it says something after each instance
    timeout_s: Annotated[float, Field(gt=0)] = 60.0


class StudySettings(Section):
    """When a study counts as complete."""

    #: nothing came for so long
    quiet_s: Annotated[float, Field(gt=0)] = 30.0
    #: ... or for so long, where a peer's word says that everything is there
    evidence_quiet_s: Annotated[float, Field(gt=0)] = 5.0
    #: ... or the first of what is new came so long ago, whatever else comes
    longest_s: Annotated[float, Field(gt=0)] = 3600.0
    #: a PACS that knows the number of instances; null = none is asked
    count_at: CountAt | None = None
    #: a PACS that knows this node as a C-MOVE destination, and has the studies of a node that
    #: died; null = nothing is taken over
    fetch_from: FetchFrom | None = None


#: Never with keys in it: they come from the environment.
ExportAddress = Annotated[
    str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=+,./-]*)?|[^:]+)$")
]


class HarvestSettings(Section):
    """What goes into the weak-label store."""

    #: false: nothing goes into the store
    enabled: bool = True
    #: whose images go in: frames of ultrasound, and volumes of CT and MR series
    modalities: tuple[Literal["US", "CT", "MR"], ...] = Field(default=("US",), strict=False)
    #: volumes that show, or may show, a head or a brain: a face can be rebuilt from them
    head_volumes: Literal["refuse", "keep"] = "refuse"
    #: which of the two shipped maps of study descriptions: the papers' table, or its correction
    label_map: Literal["as_printed", "corrected"] = "corrected"
    #: CSV (study_description, groups) of the site, on top of the shipped map
    site_labels: Path | None = Field(default=None, strict=False)
    #: CSV (transducer, geometry) of the site, on top of the shipped rules
    site_transducers: Path | None = Field(default=None, strict=False)
    #: of an image whose header names no B-mode region: leave it out, or look for the scan
    no_region: Literal["skip", "detect"] = "skip"
    #: ultrasound whose Burned In Annotation is not NO, absent included: text may be in the scan
    burned_in: Literal["keep", "skip"] = "keep"
    #: CSV (code, label, stands_for) of the site: what codes in readers' SEG and SR stand for
    reader_codes: Path | None = Field(default=None, strict=False)
    #: so many of a clip's frames are kept
    frames_per_s: Annotated[float, Field(gt=0)] = 3.0
    #: of one clip at most
    max_frames_per_clip: Annotated[int, Field(ge=1)] = 30
    #: where the catalogue of a new store is: null = a file; postgresql://..., without a password
    catalogue: str | None = None
    #: folders or s3://BUCKET/PREFIX that 'train shards' exports to: erasures and audits reach them;
    #: of a share a folder inside it, since the mount point is there without the share, too
    exports: tuple[ExportAddress, ...] = Field(default=(), strict=False)


class InferSettings(Section):
    """How models run."""

    #: an Open Inference Protocol server that runs them; null = a process of this node does
    url: Annotated[str, StringConstraints(pattern=r"^grpcs?://[^/@\s]+:[0-9]{1,5}$")] | None = None
    #: PEM file of the authorities that may have signed its certificate; null = the system's
    ca: Path | None = Field(default=None, strict=False)
    #: of onnxruntime; null = its own choice
    threads: Annotated[int, Field(ge=1)] | None = None
    #: longest wait for a model's answer to a few frames
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    #: limit of the process that runs the models
    memory_mib: Annotated[int, Field(ge=512)] = 4096
    #: model name -> the version that serves; of others the newest does
    versions: dict[str, str] = Field(default_factory=dict)
    #: model name -> routing rule in place of the manifest's; `dicom_node.infer` knows its keys
    routes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    #: NAME or NAME@VERSION: runs, and its results are kept and sent to nobody
    shadow: tuple[str, ...] = Field(default=(), strict=False)
    #: limit of the process that decodes pixels
    decode_memory_mib: Annotated[int, Field(ge=256)] = 768
    #: longest time that a frame may take to be decoded
    decode_timeout_s: Annotated[float, Field(gt=0)] = 60.0


class WebSettings(Section):
    """Where ``/metrics`` and ``/healthz`` are served."""

    #: address that is listened on
    bind: str = "127.0.0.1"
    #: where HTTP is spoken
    port: Port = 9112


class Config(Section):
    """The whole configuration."""

    #: the Application Entity and its place on disk
    node: NodeSettings = NodeSettings()
    #: when a study counts as complete
    study: StudySettings = StudySettings()
    #: folder of .onnx model bundles; null = harvest only
    bundles: Path | None = Field(default=None, strict=False)
    #: what goes into the weak-label store
    harvest: HarvestSettings = HarvestSettings()
    #: how models run
    infer: InferSettings = InferSettings()
    #: where results go; an empty list means nowhere
    destinations: tuple[AnyDestination, ...] = Field(default=(), strict=False)
    #: from where ``dicom-node harvest`` pulls
    archives: tuple[AnyArchive, ...] = Field(default=(), strict=False)
    #: where `/metrics` and `/healthz` are served; null = nowhere
    web: WebSettings | None = None
    #: null = there is no page for people
    page: PageSettings | None = None
    #: null = SQLite under node.data; postgresql://... for the jobs of several machines
    database: str | None = None


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        One line a fault: ``file:line: key: what is wrong; what to do``.
    """
    try:
        text = path.read_text("utf-8")
        tree, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; name one with --config, or copy deploy/node.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read ({exc})") from None
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigError(
            f"{path}:{line}: not YAML: {exc.problem}; check indentation, brackets and quotes"
        ) from None
    _check_keys(tree, path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected sections such as 'node:', found {values!r}")
    try:
        config = Config.model_validate(values)
    except ValidationError as exc:
        raise ConfigError("\n".join(_faults(exc, path, tree))) from None
    _check_peers("destinations", config.destinations, path, tree)
    _check_peers("archives", config.archives, path, tree)
    _check_ports(config, path, tree)
    _check_model_server(config.infer, path, tree)
    _check_catalogue(config.harvest, path, tree)
    return _absolute(config, path.resolve().parent)


def _check_keys(node: yaml.Node | None, path: Path) -> None:
    """Refuse a key that stands twice: YAML would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, path)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise ConfigError(
                f"{path}:{line}: {key.value}: stands already in line {seen[key.value]}; "
                "put both into one"
            )
        seen[key.value] = line
        _check_keys(value, path)


def _faults(error: ValidationError, path: Path, tree: yaml.Node | None) -> list[str]:
    lines = []
    for fault in error.errors():
        place = _place(fault["loc"])
        key = ".".join(str(part) for part in place)
        what = fault["msg"]
        if fault["type"] == "extra_forbidden":
            what = f"unknown key; known here: {', '.join(_known_keys(fault['loc'][:-1]))}"
        elif fault["type"] == "missing":
            what = "missing; add it"
        elif fault["type"] == "union_tag_invalid":
            what = f"kind {fault['ctx']['tag']!r} is not known; known are {', '.join(KINDS)}"
        else:
            what = f"{fault['input']!r} will not do: {what}"
        lines.append(f"{path}:{_line(tree, place)}: {key}: {what}")
    return lines


def _place(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where a fault is in the file: pydantic names the kind of a destination, too."""
    is_in_one = loc[:1] in (("destinations",), ("archives",)) and len(loc) > 2
    return loc[:2] + loc[3:] if is_in_one else loc


def _line(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """Line of the deepest part of `loc` that stands in the file."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == part]
            if not found:
                return line
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    if {"destinations", "archives"} & set(loc[:1]) and loc[-1] == "tls":
        return sorted(DestinationTls.model_fields)
    if loc[:1] == ("archives",):
        kinds: dict[str, type[BaseModel]] = {"dimse": DimseArchive, "dicomweb": DicomwebArchive}
        return sorted(kinds[str(loc[2])].model_fields)
    nested: dict[str, type[BaseModel]] = {
        "node": NodeSettings,
        "study": StudySettings,
        "harvest": HarvestSettings,
        "infer": InferSettings,
        "dimse": Destination,
        "dicomweb": DicomwebDestination,
        "callers": Caller,
        "tls": TlsSettings,
        "count_at": CountAt,
        "fetch_from": FetchFrom,
        "web": WebSettings,
        "page": PageSettings,
        "trusted_proxy": TrustedProxy,
    }
    if loc[:2] == ("page", "tls"):
        return sorted(PageTls.model_fields)
    for part in loc:
        model = nested.get(str(part), model)
    return sorted(model.model_fields)


def _check_peers(
    key: str,
    peers: Sequence[AnyDestination | AnyArchive],
    path: Path,
    tree: yaml.Node | None,
) -> None:
    names = [peer.name for peer in peers]
    for place, name in reversed([*enumerate(names)]):
        if names.count(name) > 1:
            line = _line(tree, (key, place, "name"))
            raise ConfigError(
                f"{path}:{line}: {key}: {name!r} stands {names.count(name)} times; "
                f"give each {key.removesuffix('s')} its own name"
            )
    for place, peer in enumerate(peers):
        if peer.fault:
            line = _line(tree, (key, place))
            raise ConfigError(f"{path}:{line}: {key}: {peer.name}: {peer.fault}")


def _check_ports(config: Config, path: Path, tree: yaml.Node | None) -> None:
    others = [one.port for one in (config.web, config.page) if one is not None]
    ports = [port for port, _ in config.node.ports] + others
    for port in ports:
        if ports.count(port) > 1:
            line = _line(tree, _place_of_port(config, port))
            raise ConfigError(
                f"{path}:{line}: port {port} stands {ports.count(port)} times among node.port, "
                "node.tls.port, web.port and page.port; give each its own"
            )


def _place_of_port(config: Config, port: int) -> tuple[str, ...]:
    """Return the last key that has a port."""
    if config.page is not None and config.page.port == port:
        return "page", "port"
    if config.web is not None and config.web.port == port:
        return "web", "port"
    return "node", "tls", "port"


def _check_model_server(infer: InferSettings, path: Path, tree: yaml.Node | None) -> None:
    where = {key: f"{path}:{_line(tree, ('infer', key))}" for key in ("ca", "url")}
    if infer.ca is not None and not (infer.url or "").startswith("grpcs:"):
        raise ConfigError(
            f"{where['ca']}: infer.ca: only for infer.url: grpcs://...; set it to null"
        )
    if infer.ca is not None and not (path.resolve().parent / infer.ca).is_file():
        raise ConfigError(f"{where['ca']}: infer.ca: {infer.ca} is no file; name a PEM file")
    # asked for without loading them: most nodes have no model server
    missing = [one for one in ("grpc", "google.protobuf") if not _is_installed(one)]
    if infer.url is not None and missing:
        raise ConfigError(
            f"{where['url']}: infer.url: needs {' and '.join(missing)}; pip install "
            "'dicom-node[oip]', or set it to null"
        )


def _check_catalogue(harvest: HarvestSettings, path: Path, tree: yaml.Node | None) -> None:
    if harvest.catalogue is None:
        return
    where = f"{path}:{_line(tree, ('harvest', 'catalogue'))}: harvest.catalogue"
    # the value is not quoted: it may hold a password
    try:
        parts = urlsplit(harvest.catalogue)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "postgresql" or len(parts.path) < 2:
        raise ConfigError(f"{where}: not a server: write postgresql://USER@HOST/DATABASE, or null")
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ConfigError(
            f"{where}: holds a password, and would stand in the store's folder: take it out, and "
            "put it into the file that PGPASSFILE names, or into PGPASSWORD"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in is missing, too
        return False


def _address(where: str, base: Path) -> str:
    return where if where.startswith("s3://") else str(base / where)


def _absolute(config: Config, base: Path) -> Config:
    harvest = config.harvest
    tls = config.node.tls
    if tls is not None:
        files = {
            "certificate": base / tls.certificate,
            "key": base / tls.key,
            "callers_ca": tls.callers_ca and base / tls.callers_ca,
        }
        tls = tls.model_copy(update=files)
    return config.model_copy(
        update={
            "node": config.node.model_copy(update={"data": base / config.node.data, "tls": tls}),
            "bundles": None if config.bundles is None else base / config.bundles,
            "destinations": tuple(one.rooted(base) for one in config.destinations),
            "archives": tuple(one.rooted(base) for one in config.archives),
            "page": config.page and config.page.rooted(base),
            "infer": config.infer.model_copy(
                update={"ca": config.infer.ca and base / config.infer.ca}
            ),
            "harvest": harvest.model_copy(
                update={
                    "site_labels": harvest.site_labels and base / harvest.site_labels,
                    "site_transducers": harvest.site_transducers
                    and base / harvest.site_transducers,
                    "reader_codes": harvest.reader_codes and base / harvest.reader_codes,
                    "exports": tuple(_address(one, base) for one in harvest.exports),
                }
            ),
        }
    )
