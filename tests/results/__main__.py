"""Evidence on real images: ``python -m tests.results --data DIR --out DIR``, or ``make results``.

Turns public images into DICOM studies, sends them to a running node that harvests them, imports
masks and classes, and hands the store to ``dicom-node train reproduce``. These images carry no tags
of a scanner: Transducer Data and Study Description are proxy tags, made from organ and probe.
Broken off after the harvest, the same command goes on where it was; before, it needs a new folder.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dicom_node.demo.ports import free_port
from dicom_node.harvest import import_labels
from tests.results import account, harvest, labels
from tests.results.account import Account
from tests.results.studies import SETS, Sent, make_studies

REPOSITORY = Path(__file__).resolve().parents[2]
#: -P: a folder named training where the command is run must not win over ours
_TRAINING = (sys.executable, "-P", "-m", "training")
_SHOWN_FAULTS = 20


def main(words: Sequence[str]) -> int:
    """Harvest, label, reproduce; return 0 when all of it went well."""
    chosen = _arguments(words)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    chosen.out.mkdir(parents=True, exist_ok=True)
    found = _harvested(chosen, console, command=" ".join(("python -m tests.results", *words)))
    if found.store_version is None:
        found = _labelled(chosen, found)
    console.print(account.table(found), markup=False, soft_wrap=True)
    if chosen.store_only:
        return 0
    return subprocess.run(_reproduce(chosen), check=False).returncode


def _harvested(chosen: argparse.Namespace, console: Console, *, command: str) -> Account:
    """Fill the store, where an earlier run has not; what is missing in it ends the run."""
    asked = f"{', '.join(chosen.sets)}; studies of a set: {chosen.studies or 'all'}"
    found = account.read(chosen.out, asked)
    if found is not None:
        return found
    sent = _studies(chosen)
    console.print(f"{len(sent)} images with proxy tags are ready to be sent")
    counts, faults = harvest.harvest(chosen.out, free_port(), sent, console.print)
    if faults:
        raise SystemExit("\n".join(faults))
    found = Account(asked=asked, command=command, date=account.now(), counts=counts)
    account.write(chosen.out, found)
    return found


def _labelled(chosen: argparse.Namespace, found: Account) -> Account:
    """Import masks and classes; a row that is not used ends the run."""
    csv_file, counted = labels.write_labels(chosen.out, _studies(chosen), chosen.out / "labels")
    imported = import_labels(csv_file, data=chosen.out / "data")
    faults = [f"{csv_file}:{fault.row}: {fault.reason}" for fault in imported.faults]
    faults += labels.missing(chosen.out, counted)
    if faults:
        raise SystemExit("\n".join(faults[:_SHOWN_FAULTS]))
    with harvest.stored(chosen.out) as store:
        version = store.version()
    counts = {name: row | counted[name] for name, row in found.counts.items()}
    found = replace(found, counts=counts, store_version=version)
    account.write(chosen.out, found)
    return found


def _studies(chosen: argparse.Namespace) -> list[Sent]:
    return make_studies(
        chosen.data / "ultrasound",
        chosen.tool or chosen.data.parent / "tools" / "make_studies.py",
        chosen.out / "sent",
        sets=chosen.sets,
        studies=chosen.studies,
    )


def _reproduce(chosen: argparse.Namespace) -> list[str]:
    store = chosen.out / "data" / "store"
    out = chosen.out / f"reproduce-{Path(chosen.matrix).stem}"
    command = [*_TRAINING, "reproduce", chosen.matrix, "--out", str(out), "--store", str(store)]
    return [*command, *chosen.options]


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What stands after -- goes to 'train reproduce'. Example: python -m tests.results "
        "--data ../shared/data --out build/results -- --accelerator cpu",
    )
    parser.add_argument("--data", type=Path, default=_data(), help="folder that holds ultrasound/")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "results")
    parser.add_argument("--matrix", default="small", help="of 'train reproduce'; default: small")
    parser.add_argument("--tool", type=Path, help="make_studies.py; default: in ../tools of --data")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--studies", type=int, help="at most so many of a set")
    parser.add_argument("--store-only", action="store_true", help="stop when the store is labelled")
    parser.add_argument("options", nargs="*", help="after --, for 'train reproduce'")
    chosen = parser.parse_args(words)
    if not (chosen.data / "ultrasound" / "index.csv").is_file():
        parser.error(f"{chosen.data}: no ultrasound/index.csv; set --data or DICOM_NODE_TEST_DATA")
    return chosen


def _data() -> Path:
    return Path(os.environ.get("DICOM_NODE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
