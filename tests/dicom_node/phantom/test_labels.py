import csv
from pathlib import Path

import numpy as np
from PIL import Image

from dicom_node.phantom.labels import write_labels
from dicom_node.phantom.study import StudySpec, ViewSpec, write_study


def test_each_frame_has_a_row_and_a_mask_in_source_geometry(tmp_path: Path) -> None:
    views = (ViewSpec(quality=3), ViewSpec(quality=4, frames=2))
    instances = write_study(tmp_path, StudySpec(seed=0, patient=0, views=views))
    path = write_labels(instances, tmp_path / "labels")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [(i, n) for i in instances for n in range(len(i.frames))]
    assert len(rows) == len(truth) == 3
    for row, (instance, n) in zip(rows, truth, strict=True):
        assert row["sop_instance_uid"] == instance.sop_instance_uid
        assert (int(row["frame"]), int(row["quality"])) == (n + 1, instance.quality)
        assert not Path(row["mask"]).is_absolute()
        mask = np.array(Image.open(path.parent / row["mask"]))
        assert np.array_equal(mask, instance.label_maps[n])
