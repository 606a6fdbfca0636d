"""The truth about phantoms, written down as a researcher would bring labels of real images.

A CSV with the columns ``sop_instance_uid,frame,quality,mask``: frame numbers count from 1, quality
is 0 to 4, mask is the path of a PNG relative to the CSV, in source geometry (R x C), whose grey
values are the labels (0 background, 1 liver, 2 kidney).
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from dicom_node.phantom.study import PhantomInstance

COLUMNS = ("sop_instance_uid", "frame", "quality", "mask")


def write_labels(instances: Iterable[PhantomInstance], folder: Path) -> Path:
    """Write ``labels.csv`` and the masks into `folder`; return the path of the CSV."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    path = folder / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for instance in instances:
            for number, label_map in enumerate(instance.label_maps, start=1):
                mask = Path("masks", f"{instance.sop_instance_uid}-{number}.png")
                Image.fromarray(label_map).save(folder / mask)
                row = (instance.sop_instance_uid, number, instance.quality, mask.as_posix())
                table.writerow(row)
    return path
