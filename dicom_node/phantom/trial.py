"""A phantom study that says of itself that it is one: to try a node that works, PACS and all.

Its Quality Control Subject (0010,0200) is YES, so no harvest takes it; its patient is one for all
such studies, so that a PACS administrator finds them.
"""

import secrets
from datetime import date
from pathlib import Path
from typing import Final

from pydicom import dcmread

from dicom_node.phantom.study import PhantomInstance, StudySpec, ViewSpec, write_study

PATIENT_ID: Final = "DICOM-NODE-TEST"
PATIENT_NAME: Final = "TEST^DICOM NODE^^^PHANTOM"
#: Stills of all qualities that a model of the liver meets, and one cine.
_VIEWS: Final = (ViewSpec(quality=4), ViewSpec(quality=2), ViewSpec(quality=4, frames=4))


def write_trial(folder: Path, today: date) -> tuple[PhantomInstance, ...]:
    """Write a study of today, with UIDs that no other has, into `folder`."""
    # a study that a node knows already would not be worked on
    spec = StudySpec(seed=secrets.randbelow(2**63), patient=0, views=_VIEWS)
    instances = write_study(folder, spec)
    for instance in instances:
        dataset = dcmread(instance.path)
        dataset.PatientID, dataset.PatientName = PATIENT_ID, PATIENT_NAME
        dataset.QualityControlSubject = "YES"
        dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{today:%Y%m%d}"
        dataset.save_as(instance.path, enforce_file_format=True)
    return instances
