"""The other nodes of a shared database, a line each; for ``status`` and ``queue list``."""

from contextlib import closing
from typing import Any

from dicom_node.config import Config
from dicom_node.jobs import Dispatcher
from dicom_node.roster import NodeRow, Roster

#: More jobs than this are not counted out.
MOST_JOBS = 1000


def other_nodes(config: Config, jobs: Dispatcher) -> list[dict[str, Any]]:
    """Return what is known of each other node; none where the database is this node's alone."""
    if not (config.database or "").startswith("postgresql"):
        return []
    with closing(Roster(str(config.database), config.node.name)) as roster:
        others = [row for row in roster.nodes() if row.name != config.node.name]
    return [
        {
            "name": row.name,
            "ae_title": row.ae_title,
            "version": row.version,
            "is_dead": row.silent_s >= config.node.dead_after_s,
            "silent_s": round(row.silent_s, 1),
            "studies_unfinished": row.unfinished,
            "studies_taken_over": row.taken,
            "jobs_unfinished": len(jobs.unfinished_of(row.name, MOST_JOBS)),
            "line": _line(config, row),
        }
        for row in others
    ]


def _line(config: Config, row: NodeRow) -> str:
    is_dead = row.silent_s >= config.node.dead_after_s
    state = "is dead" if is_dead else "lives"
    facts = [
        f"node {row.name} ({row.ae_title}) {state}: last sign {row.silent_s:.0f} s ago",
        f"{row.unfinished} studies unfinished",
    ]
    if row.taken:
        facts.append(f"{row.taken} taken over by other nodes")
    if row.reason and row.unfinished:
        facts.append(f"not taken over: {row.reason}")
    if is_dead and row.unfinished and config.study.fetch_from is None:
        facts.append("not taken over: study.fetch_from names no PACS")
    return ", ".join(facts)
