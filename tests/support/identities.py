"""Which columns of which database may say who somebody is; each column is told here once.

``python -m tests.support.identities`` writes the table of docs/security.md anew.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import sqlalchemy as sa

import dicom_node.harvest
import dicom_node.index
import dicom_node.outbox
import dicom_node.store  # noqa: F401 - all of their tables are known once they are loaded
from dicom_node.harvest import decisions, reader_notes
from dicom_node.index.tables import METADATA as INDEX
from dicom_node.outbox.tables import METADATA as OUTBOX
from dicom_node.page.tables import METADATA as VISITS
from dicom_node.pull.journal import METADATA as PULLS
from dicom_node.roster.tables import METADATA as ROSTER
from dicom_node.store.catalogue import metadata as catalogue
from tests.support.conformance import REPOSITORY, page, table

PAGE: Final = REPOSITORY / "docs" / "security.md"
DATABASES: Final[Mapping[str, tuple[sa.MetaData, ...]]] = {
    "index.db": (INDEX,),
    "outbox.db": (OUTBOX,),
    "pull.db": (PULLS,),
    "harvest.db": (decisions.METADATA, reader_notes._metadata),
    "page.db": (VISITS,),
    "store/catalogue.db, or the server of harvest.catalogue": (catalogue,),
    "PostgreSQL, schema dicom_node": (ROSTER,),
}
PATIENT, UIDS, WORDS, TOKENS, NOTHING = "Patient ID", "UIDs", "words as found", "pseudonyms", ""
#: who works with the node, by the name that they log in with
STAFF = "staff"
KINDS: Final = (PATIENT, UIDS, WORDS, TOKENS, STAFF)
#: A name alone stands for the column in every table; the first that fits counts.
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    PATIENT: ("patient_id",),
    NOTHING: (
        # in the store
        "evidence.source",
        "evidence.rule",
        "frame_id",
        "volume_id",
        "sequence",
        "sequence_rule",
        "plane",
        "plane_rule",
        "contrast_rule",
        "regions_rule",
        "mask_digest",
        "label_set",
        "class_set",
        "class_name",
        "split",
        "probe",
        "geometry",
        "geometry_rule",
        "about",
        "origin",
        "observer",
        "software",
        "mask_png",
        # states, digests, counts, names that the site gave, and peers
        "sop_class_uid",
        "transfer_syntax_uid",
        "transaction_uid",
        "kind",
        "state",
        "status",
        "reason",
        "reasons",
        "index.db.study.evidence",
        "index.db.completion.evidence",
        "sha256",
        "file_id",
        "path",
        "digest",
        "models",
        "form",
        "said",
        "probe",
        "counts",
        "version",
        "address",
        "ae_title",
        "host",
        "destination",
        "archive",
        "installation",
        "claimed_by",
        "taken_by",
        "fate",
        "codes",
        "source",
        "groups",
        "answer.name",
        "node.name",
        "unfinished_study.name",
        "action",
        "csrf",
        "notes",
        "role",
        "password_hash",
    ),
    STAFF: ("who", "page.db.audit.name", "page.db.session.name", "page.db.user.name"),
    WORDS: (
        "harvest.db.terms.term",
        "harvest.db.decisions.term",
        "harvest.db.decision_history.term",
        "harvest.db.descriptions.description",
        "meaning",
        "manufacturer",
        "model_name",
        "transducer_data",
        "transducer_type",
        "code",
        "label",
        "reader_codes.name",
    ),
    TOKENS: (
        "made_of",
        "instance",
        "series",
        "study",
        "patient",
        "description",
        "term",
        "object",
        "reader",
    ),
    UIDS: (
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        "source_sop_instance_uid",
        "part_uid",
        "merged_series_uid",
        "uid",
        "supersedes",
        "file_name",
        "results",
        "reader_objects.name",
        "reader_images.name",
        "page.db.audit.object",
    ),
}


def columns() -> Iterator[tuple[str, str, str, str | None]]:
    """Yield database, table, column and what it holds, None where nobody has told."""
    for database, parts in DATABASES.items():
        for one in (one for part in parts for one in part.sorted_tables):
            for column in one.columns:
                if isinstance(column.type, sa.String | sa.JSON | sa.LargeBinary):
                    yield database, one.name, column.name, _kind(database, one.name, column.name)


def stored() -> str:
    """Every column that holds something of a person, by table."""
    rows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for database, name, column, kind in columns():
        if kind:
            rows.setdefault((database, name), {}).setdefault(kind, []).append(f"`{column}`")
    return table(
        f"database|table|{'|'.join(KINDS)}",
        (
            (f"`{database}`", f"`{name}`", *(", ".join(found.get(kind, ())) for kind in KINDS))
            for (database, name), found in rows.items()
        ),
    )


def _kind(database: str, name: str, column: str) -> str | None:
    for named in (f"{database}.{name}.{column}", f"{name}.{column}", column):
        for kind, names in _COLUMNS.items():
            if named in names:
                return kind
    return None


def written(text: str) -> str:
    """Return the page with its table made anew."""
    return page(text, {"stored": stored})


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
