"""What the sets know besides pixels, as the CSV that a researcher would write."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dicom_node.harvest import open_key
from dicom_node.harvest.opening import KEY
from dicom_node.records import Task
from tests.results.harvest import Counts, stored
from tests.results.studies import Sent

COLUMNS = ("sop_instance_uid", "frame", "quality", "mask", "labels", "class")
#: Set to the label set of its masks. The values of the masks are those of the label set;
#: ``abdominal_rus`` has vessels, gallbladder and spleen on top, which become background.
LABEL_SETS = {
    "ddti": "thyroid-nodule",
    "busi": "breast-lesion",
    "hc18": "fetal-head",
    "abdominal_rus": "liver-kidney",
}
#: Set to the class set of its labels, which are the names of classes.
CLASS_SETS = {"busi": "breast"}
#: Number of values of each label set.
_VALUES = {"thyroid-nodule": 1, "breast-lesion": 1, "fetal-head": 1, "liver-kidney": 2}


def write_labels(folder: Path, sent: Sequence[Sent], out: Path) -> tuple[Path, Counts]:
    """Write ``labels.csv`` and the masks beside it; count the labels of each set.

    An image whose pixels are stored under another image gets no label: where two sources say
    different things of the same pixels, the first one stands.
    """
    (out / "masks").mkdir(parents=True, exist_ok=True)
    counts: Counts = {one.set_name: {"masks": 0, "classes": 0} for one in sent}
    owned = _owned(folder, sent)
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for one in sent:
            row = _row(one, out)
            if one.sop_instance_uid in owned and (row["mask"] or row["class"]):
                writer.writerow(row)
                counts[one.set_name]["masks"] += bool(row["mask"])
                counts[one.set_name]["classes"] += bool(row["class"])
    return out / "labels.csv", counts


def missing(folder: Path, counts: Counts) -> list[str]:
    """Return which labels of the CSV are not in the store."""
    masks: Counter[str] = Counter()
    for name, row in counts.items():
        masks[LABEL_SETS.get(name, "")] += row["masks"]
    with stored(folder) as store:
        info = store.info()
    found = {**info.by_label_set, "classes": info.labelled[Task.CLASSIFICATION]}
    wanted = {**+masks, "classes": sum(row["classes"] for row in counts.values())}
    return [
        f"{name}: {count} labels were imported and {found.get(name, 0)} are in the store"
        for name, count in wanted.items()
        if found.get(name, 0) != count
    ]


def _owned(folder: Path, sent: Sequence[Sent]) -> set[str]:
    """Return the SOP Instance UIDs under which the store keeps pixels."""
    key = open_key(folder / "data" / KEY)
    with stored(folder) as store:
        owners = {frame.instance for frame in store.frames()}
    uids = (one.sop_instance_uid for one in sent)
    return {uid for uid in uids if key.token("instance", uid) in owners}


def _row(one: Sent, out: Path) -> dict[str, str]:
    labels, classes = LABEL_SETS.get(one.set_name, ""), CLASS_SETS.get(one.set_name)
    mask = "" if one.mask is None else _mask(one, one.mask, out)
    return {
        "sop_instance_uid": one.sop_instance_uid,
        "frame": "1",
        "quality": "",
        "mask": mask,
        "labels": labels if mask else "",
        "class": f"{classes}/{one.label}" if classes else "",
    }


def _mask(one: Sent, drawn: Path, out: Path) -> str:
    """Write a mask with the values of its label set alone, and return its place for the CSV."""
    with Image.open(drawn) as image:
        values = np.array(image, np.uint8)
    values[values > _VALUES[LABEL_SETS[one.set_name]]] = 0
    name = f"masks/{one.sop_instance_uid}.png"
    Image.fromarray(values).save(out / name)
    return name
