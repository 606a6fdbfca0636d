"""``dicom-node labels``: what the harvest learned, and what it could not map."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli import label_decisions, reader_labels
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.harvest import PrivateNotes, import_labels, load_tables, relabel_store
from dicom_node.harvest.coverage import counted
from dicom_node.harvest.coverage_plot import plotted, plotted_png
from dicom_node.harvest.descriptions import DescriptionMap, groups_of, normalised
from dicom_node.harvest.opening import NOTES
from dicom_node.node.layout import Layout
from dicom_node.store import Source, Verdict, WeakLabelStore, is_store

app = typer.Typer(
    help="Weak labels from the scanner's words, and labels of readers.\n\n"
    "Example: dicom-node labels coverage --config node.yaml",
    add_completion=False,
)

app.command()(reader_labels.readers)
app.command()(reader_labels.codes)
app.command()(label_decisions.history)
app.command()(label_decisions.undo)

#: ``--source KEYWORD``
SourceOption = Annotated[
    Source, typer.Option("--source", help="The attribute that the words stand in.")
]
#: What a plot's name ends in.
PLOTS = frozenset({".svg", ".png"})
#: How many row numbers an import names before it only counts.
SHOWN_FAULTS = 20


@app.command()
def unmapped(
    source: SourceOption = Source.STUDY_DESCRIPTION,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List study descriptions that no map knows, the most frequent first.

    They are what somebody typed and may hold anything: for the eyes of the site only. Map them
    with 'labels map', or with a CSV (study_description,groups) named by harvest.site_labels. With
    --source the words of another attribute are listed; those of TransducerData are mapped with a
    CSV (transducer,geometry) named by harvest.site_transducers.

    Example: dicom-node labels unmapped --config node.yaml
    """
    seen = _unmapped(load(config), source)
    if as_json:
        print_json(seen)
        return
    columns = [name.replace("_", " ") for name in seen[0]] if seen else []
    rows = [[str(value) for value in row.values()] for row in seen]
    print_table(f"{source.value} that no table knows", columns, rows, empty="every one is mapped")


@app.command("map")
def decide(
    words: Annotated[str | None, typer.Argument(help="As 'labels unmapped' lists them.")] = None,
    groups: Annotated[
        str | None, typer.Argument(help='As "abdomen; liver", or "" for none of the eight.')
    ] = None,
    source: SourceOption = Source.STUDY_DESCRIPTION,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Decide what words stand for, and relabel what is stored; no frame is touched.

    Without words only the store is relabelled: do that when harvest.site_labels,
    harvest.site_transducers or harvest.label_map has changed. A decision wins over every table and
    holds for what comes from now on, too, in a node that runs; 'labels undo' takes it back.

    Example: dicom-node labels map "US ABDO" "abdomen" --config node.yaml
    """
    settings = load(config)
    _store_of(settings.node.data)
    is_met = True
    with _notes(settings) as notes:
        if words is not None:
            decision = _decision(words, groups, source)
            replaced = notes.decisions().get((source, normalised(words)))
            is_met = _is_met(notes, source, words)
            notes.book.decide(*decision, who=label_decisions.operator())
            if replaced is not None and replaced != decision[-1]:
                typer.echo(f"replaces: {'; '.join(sorted(replaced)) or 'none of the eight'}")
    count = relabel_store(settings.harvest, data=settings.node.data)
    typer.echo(f"{count.groups} instances have other groups, {count.probes} another probe")
    if not is_met:
        typer.echo(
            "no study has had these words so far: the decision is kept for one that comes; "
            "see 'labels unmapped' for how they are written"
        )


@app.command()
def agreement(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Count how often other sources agree with the groups of Study Description, in instances.

    Example: dicom-node labels agreement --config node.yaml
    """
    with WeakLabelStore(_store_of(load(config).node.data)) as store:
        verdicts = store.evidence.verdicts()
    sources = [source for source in Source if any(known is source for known, _ in verdicts)]
    table = {s.value: {v.value: verdicts.get((s, v), 0) for v in Verdict} for s in sources}
    if as_json:
        print_json(table)
        return
    print_table(
        "What other sources say of the groups of StudyDescription, in instances",
        ["source", *(verdict.value for verdict in Verdict)],
        [[name, *map(str, row.values())] for name, row in table.items()],
        empty="no other source says anything",
    )


@app.command()
def coverage(
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the table into this SVG or PNG, too.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Count the stored frames by group and geometry; a frame counts in each of its groups.

    Example: dicom-node labels coverage --plot coverage.svg --config node.yaml
    """
    folder = _store_of(load(config).node.data)
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise ConfigError(
            f"--plot {plot}: is drawn as SVG or PNG; let its name end in .svg or .png"
        )
    with WeakLabelStore(folder) as store:
        table = counted(store)
    if plot is not None:
        is_png = plot.suffix.lower() == ".png"
        _write(plot, plotted_png(table) if is_png else plotted(table).encode())
    if as_json:
        print_json(table)
        return
    geometries = sorted({geometry for row in table.values() for geometry in row})
    print_table(
        "Frames by group and geometry",
        ["group", *geometries],
        [[g, *(str(row.get(x, 0)) for x in geometries)] for g, row in sorted(table.items())],
        empty="no frames in the store; 'dicom-node store info' counts volumes of series",
    )


@app.command("import")
def take_in(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV: sop_instance_uid,frame, and of quality,mask,class what there is; "
            "labels,reader where wanted."
        ),
    ],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Attach readers' labels to harvested frames; exit status 1 when a row could not be used.

    Example: dicom-node labels import labels.csv --config node.yaml
    """
    data = load(config).node.data
    _store_of(data)
    count = import_labels(file, data=data)
    typer.echo(f"{count.imported} labels imported, {len(count.faults)} rows not used")
    for fault in count.faults[:SHOWN_FAULTS]:
        typer.echo(f"{file.name}:{fault.row}: {fault.reason}", err=True)
    if count.faults:
        raise typer.Exit(1)


def _unmapped(config: Config, source: Source) -> list[dict[str, Any]]:
    """Return what no table knows of a source, by frequency."""
    with _notes(config) as notes:
        tables = load_tables(config.harvest).with_decisions(notes.decisions())
        label_map = tables.descriptions
        if source is Source.STUDY_DESCRIPTION:
            return [
                {"study_description": row.description, "studies": row.studies}
                for row in notes.descriptions(label_map)
                if not row.is_mapped
            ]
        if source is Source.TRANSDUCER_DATA:
            seen = [asdict(row) for row in notes.transducers(tables.transducers)]
            return [row for row in seen if row.pop("rule") == "none"]
        return [
            {"words": row.term, "meaning": row.meaning, "studies": row.studies}
            for row in notes.terms(label_map)
            if row.source is source and not row.is_mapped
        ]


def _is_met(notes: PrivateNotes, source: Source, words: str) -> bool:
    """Whether a study had words that a decision is about."""
    nothing = DescriptionMap({})
    met = {(Source.STUDY_DESCRIPTION, seen.description) for seen in notes.descriptions(nothing)}
    met |= {(seen.source, seen.term) for seen in notes.terms(nothing)}
    # what is decided of Study Description holds for its like, too
    alike = {source}
    if source is Source.STUDY_DESCRIPTION:
        alike.add(Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION)
    return any((one, normalised(words)) in met for one in alike)


def _decision(words: str, groups: str | None, source: Source) -> tuple[Source, str, frozenset[str]]:
    if source is Source.TRANSDUCER_DATA:
        raise ConfigError(
            "TransducerData is not mapped to groups; name the probe in harvest.site_transducers"
        )
    if not normalised(words):
        raise ConfigError("the words are empty; give them as 'labels unmapped' lists them")
    if groups is None:
        raise ConfigError('no groups; give them as "abdomen; liver", or "" for none of the eight')
    return source, words, groups_of(groups, "labels map")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be written ({type(exc).__name__}); name a file in an existing folder"
        ) from None


def _store_of(data: Path) -> Path:
    folder = Layout(data).store
    if not is_store(folder):
        raise ConfigError(f"{folder}: no store yet; harvest studies with 'dicom-node serve' first")
    return folder


@contextmanager
def _notes(config: Config) -> Iterator[PrivateNotes]:
    path = config.node.data / NOTES
    if not path.exists():
        raise ConfigError(f"{path}: nothing harvested yet; start the node with 'dicom-node serve'")
    notes = PrivateNotes(path)
    yield notes
    notes.close()
