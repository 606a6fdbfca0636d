"""``dicom-node check``: prove the configuration before the night."""

from collections.abc import Callable

import typer
from rich.markup import escape

from dicom_node.cli import listening, machine
from dicom_node.cli.archives import archives
from dicom_node.cli.bundles import looked_through
from dicom_node.cli.catalogue_check import catalogue
from dicom_node.cli.databases import databases
from dicom_node.cli.destinations import destinations
from dicom_node.cli.listening import Finding
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.cli.page_check import page
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.infer import Model

app = typer.Typer(add_completion=False)


@app.command()
def check(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check configuration, machine, databases, bundles and peers; exit status 1 on any fault.

    Example: dicom-node check --config node.yaml
    """
    try:
        settings = load(config)
    except ConfigError as exc:
        findings: list[Finding] = [("configuration", str(exc), "")]
    else:
        findings = [("configuration", "", str(config))]
        for look in LOOKS:
            findings += look(settings)
    if as_json:
        print_json([{"what": w, "fault": f, "found": d} for w, f, d in findings])
    else:
        print_table(
            "Check",
            ["", "what", "found"],
            [
                [_mark(fault, found), what, escape(fault or found)]
                for what, fault, found in findings
            ],
            empty="",
        )
    if any(fault for _, fault, _ in findings):
        raise typer.Exit(1)


def _mark(fault: str, found: str) -> str:
    if fault:
        return "[red]fault[/]"
    return "[yellow]warning[/]" if "warning:" in found else "[green]good[/]"


def _callers(config: Config) -> list[Finding]:
    callers = config.node.callers
    if not callers:
        fault = "nobody may send: list the PACS under node.callers"
        return [("callers", fault, "")]
    shown = ", ".join(f"{caller.ae_title}@{caller.host}" for caller in callers)
    return [("callers", "", shown)]


def _bundles(config: Config) -> list[Finding]:
    if config.bundles is None:
        return [("bundles", "", "none configured: harvest only")]
    if not config.bundles.is_dir():
        return [("bundles", f"{config.bundles} is no folder; make it or set bundles: null", "")]
    with looked_through(config) as models:
        server: list[Finding] = []
        if config.infer.url is not None:
            server = [("model server", models.fault(), config.infer.url)]
        findings = [(f"bundle {name}", why, "") for name, why in models.refused().items()]
        findings += [(f"bundle {model.path.name}", "", _shown(model)) for model in models.all()]
        findings += [("models", doubt, "") for doubt in models.doubts()]
    empty = [("bundles", "", f"{config.bundles} is empty: harvest only")]
    return server + (sorted(findings) or empty)


def _shown(model: Model) -> str:
    manifest = model.manifest
    why = f" ({model.why})" if model.why else ""
    return f"{manifest.name} {manifest.version} {model.role.value}{why}"


LOOKS: tuple[Callable[[Config], list[Finding]], ...] = (
    _callers,
    machine.disk,
    machine.fsync,
    machine.clock,
    databases,
    catalogue,
    listening.tls,
    listening.web,
    page,
    _bundles,
    machine.gpu,
    destinations,
    archives,
)
