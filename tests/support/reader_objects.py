"""Objects of readers, as their programs write them: SEG of highdicom, OHIF and dcmqi, and SR."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom import sr
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from dicom_node.records import Box, Instance
from tests.support.frames import instance_of, region_item, saved, speckle, ultrasound

REGION = Box(left=30, top=40, right=110, bottom=120)
SIZE = 128
READER = "Roe^Rita"
LIVER = ("10200004", "SCT", "Liver")
KIDNEY = ("64033007", "SCT", "Kidney")
STRUCTURE = ("91723000", "SCT", "Anatomical structure")
#: what OHIF calls every segment
TISSUE = ("T-D0050", "SRT", "Tissue")
UPRIGHT = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
VIEW_QUALITY = ("VIEWQ", "99DICOMNODE", "View quality score")


def image(path: Path, frames: int = 1, seed: int = 0, **fields: Any) -> Instance:
    """Write an ultrasound image of which the store keeps `REGION`, every frame of it."""
    pixels = np.full((frames, SIZE, SIZE), 255, np.uint8)
    for number in range(frames):
        pixels[number][REGION.slices] = speckle(80, 80, seed=100 * seed + number) // 2
    regions = [region_item(REGION)]
    return instance_of(
        saved(ultrasound(pixels, SequenceOfUltrasoundRegions=regions, **fields), path)
    )


def drawn(frames: int = 1, seed: int = 0) -> np.ndarray:
    """Return label maps (N, R, C) of liver (1) and kidney (2) in coarse blocks."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 3, (frames, SIZE // 8, SIZE // 8), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def kept(label_map: np.ndarray) -> np.ndarray:
    """Return the part of one label map that the store keeps."""
    return label_map[REGION.slices]


def seg_by_highdicom(
    source: Path,
    label_maps: np.ndarray,
    *,
    kind: str = "BINARY",
    algorithm: str = "MANUAL",
    codes: Sequence[tuple[str, str, str]] = (LIVER, KIDNEY),
    **fields: Any,
) -> FileDataset:
    """Return a SEG of all frames of an image; `fields` are set at the end.

    highdicom takes cines with geometry only, so that the planes of one are invented, as its users
    do. Masks (N, R, C, K) of segments may overlap. A FRACTIONAL one holds 0.8 where a segment is
    and 0.3 where it is not.
    """
    header = dcmread(source, stop_before_pixels=True)
    proxy = _with_geometry(header, len(label_maps)) if len(label_maps) > 1 else _proxy(header)
    pixels: np.ndarray = label_maps
    if kind == "FRACTIONAL":
        hot = [label_maps == value for value in range(1, len(codes) + 1)]
        pixels = np.where(np.stack(hot, axis=-1), 0.8, 0.3).astype(np.float32)
    seg = hd.seg.Segmentation(
        source_images=[proxy],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[
            _described(number, code, algorithm) for number, code in enumerate(codes, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=77,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Reading Room Works",
        manufacturer_model_name="Painter",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_creator_name=READER,
    )
    return _changed(seg, fields)


def seg_by_ohif(
    source: Path,
    label_maps: Mapping[int, np.ndarray],
    *,
    names: Sequence[str] = ("Liver", "Kidney"),
    compressed: bool = False,
    **fields: Any,
) -> FileDataset:
    """Return a SEG of some frames as dcmjs writes it for OHIF.

    Every segment is "Tissue", its label alone tells; nobody is named; there is neither position nor
    orientation for ultrasound; compressed, its 0 and 1 are declared FRACTIONAL of 255.
    """
    header = dcmread(source, stop_before_pixels=True)
    seg = _bare_seg(header)
    seg.update(_of(Manufacturer="Unspecified", ManufacturerModelName="Unspecified"))
    seg.update(_of(SoftwareVersions="0", DeviceSerialNumber="1", SegmentationType="BINARY"))
    seg.SegmentSequence = [
        _segment(number, TISSUE, name, "MANUAL", "OHIF Brush")
        for number, name in enumerate(names, start=1)
    ]
    planes, groups = [], []
    for value in range(1, len(names) + 1):
        for frame, label_map in label_maps.items():
            if (label_map == value).any():
                planes.append(label_map == value)
                groups.append(_plane(header, value, frame))
    _fill(seg, np.array(planes), groups)
    if compressed:
        seg.update(
            _of(
                SegmentationType="FRACTIONAL",
                SegmentationFractionalType="PROBABILITY",
                MaximumFractionalValue=255,
                BitsAllocated=8,
                BitsStored=8,
                HighBit=7,
            )
        )
        seg.PixelData = np.array(planes).astype(np.uint8).tobytes()
        seg["PixelData"].VR = "OB"
        seg.compress(RLELossless, generate_instance_uid=False)
    return _changed(seg, fields)


def seg_by_dcmqi(source: Path, label_map: np.ndarray, folder: Path, **fields: Any) -> FileDataset:
    """Return what dcmqi, the writer of 3D Slicer, makes of a label map drawn on a still image.

    It takes no image without Image Position (Patient).
    """
    given, written = folder / "label.nrrd", folder / "dcmqi.dcm"
    fields_of_nrrd = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {SIZE} {SIZE} 1\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        "kinds: domain domain domain\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    given.write_bytes(fields_of_nrrd.encode() + label_map.tobytes())
    segments = [
        {
            "labelID": value,
            "SegmentDescription": meaning,
            "SegmentLabel": meaning,
            "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": _json(STRUCTURE),
            "SegmentedPropertyTypeCodeSequence": _json((code, scheme, meaning)),
        }
        for value, (code, scheme, meaning) in enumerate((LIVER, KIDNEY), start=1)
    ]
    description = folder / "dcmqi.json"
    description.write_text(
        json.dumps(
            {
                "ContentCreatorName": READER,
                "ClinicalTrialSeriesID": "1",
                "ClinicalTrialTimePointID": "1",
                "SeriesDescription": "Segmentation",
                "SeriesNumber": "300",
                "InstanceNumber": "1",
                "segmentAttributes": [segments],
            }
        )
    )
    program = resources.files("dcmqi") / "bin" / "itkimage2segimage"
    command = [
        *(str(program), "--inputDICOMList", str(source), "--inputImageList", str(given)),
        *("--inputMetadata", str(description), "--outputDICOM", str(written)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert written.exists(), done.stdout + done.stderr
    return _changed(dcmread(written), fields)


def report(
    source: Path,
    scores: Mapping[int | None, float],
    *,
    person: str | None = READER,
    concept: tuple[str, str, str] = VIEW_QUALITY,
    answers: Sequence[tuple[tuple[str, str, str], tuple[str, str, str]]] = (),
    **fields: Any,
) -> FileDataset:
    """Return a TID 1500 report with a score for each frame, or None for the image as a whole.

    `answers` are given to questions in each group.
    """
    header = dcmread(source, stop_before_pixels=True)
    proxy = _proxy(header)
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier="quality"),
            qualitative_evaluations=[
                sr.QualitativeEvaluation(_coded(question), _coded(answer))
                for question, answer in answers
            ]
            or None,
            measurements=[sr.Measurement(_coded(concept), value, dicom_codes.UCUM.NoUnits)],
            source_images=[
                sr.SourceImageForMeasurementGroup(
                    proxy.SOPClassUID, proxy.SOPInstanceUID, None if frame is None else [frame]
                )
            ],
        )
        for frame, value in scores.items()
    ]
    device = sr.ObserverContext(
        observer_type=dicom_codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(), name="Workstation"
        ),
    )
    somebody = person and sr.ObserverContext(
        observer_type=dicom_codes.DCM.Person,
        observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(name=person),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_person_context=somebody or None, observer_device_context=device
        ),
        procedure_reported=dicom_codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    made = sr.Comprehensive3DSR(
        evidence=[proxy],
        content=content,
        series_instance_uid=generate_uid(),
        series_number=78,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Reading Room Works",
        is_complete=True,
        is_final=True,
    )
    return _changed(made, fields)


def said_at(moment: str) -> dict[str, str]:
    """Return the attributes of an object that was made at a moment, as 20260102 or 202601021530."""
    return {"ContentDate": moment[:8], "ContentTime": moment[8:].ljust(6, "0")}


def _proxy(header: Dataset) -> Dataset:
    proxy = Dataset()
    proxy.file_meta = FileMetaDataset()
    proxy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "StudyID"):
        setattr(proxy, keyword, None)
    proxy.update(_of(PatientBirthDate=None, PatientSex=None, Modality="US"))
    for keyword in (
        *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
        *("PatientName", "PatientID", "Rows", "Columns"),
    ):
        setattr(proxy, keyword, header[keyword].value)
    return proxy


def _with_geometry(header: Dataset, frames: int) -> Dataset:
    proxy = _proxy(header)
    proxy.NumberOfFrames = frames
    proxy.FrameOfReferenceUID = generate_uid()
    shared = Dataset()
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", UPRIGHT)
    shared.PixelMeasuresSequence = hd.PixelMeasuresSequence((1.0, 1.0), slice_thickness=1.0)
    proxy.SharedFunctionalGroupsSequence = [shared]
    planes = []
    for number in range(frames):
        plane = Dataset()
        position = (0.0, 0.0, float(-number))
        plane.PlanePositionSequence = hd.PlanePositionSequence("PATIENT", position)
        planes.append(plane)
    proxy.PerFrameFunctionalGroupsSequence = planes
    return proxy


def _described(number: int, code: tuple[str, str, str], algorithm: str) -> Any:
    identification = None
    if algorithm != "MANUAL":
        identification = hd.AlgorithmIdentificationSequence(
            name="Magic", family=dicom_codes.DCM.ArtificialIntelligence, version="1"
        )
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=code[2],
        segmented_property_category=_coded(STRUCTURE),
        segmented_property_type=_coded(code),
        algorithm_type=algorithm,
        algorithm_identification=identification,
    )


def _coded(code: tuple[str, str, str]) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(value=code[0], scheme_designator=code[1], meaning=code[2])


def _json(code: tuple[str, str, str]) -> dict[str, str]:
    return dict(zip(("CodeValue", "CodingSchemeDesignator", "CodeMeaning"), code, strict=True))


def _of(**fields: Any) -> Dataset:
    made = Dataset()
    for keyword, value in fields.items():
        setattr(made, keyword, value)
    return made


def _bare_seg(header: Dataset) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    seg.update(_of(SOPClassUID=SEGMENTATION, SOPInstanceUID=generate_uid(), Modality="SEG"))
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "Rows", "Columns"):
        setattr(seg, keyword, header[keyword].value)
    seg.SeriesInstanceUID = generate_uid()
    meta.MediaStorageSOPClassUID = seg.SOPClassUID
    meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID
    instance = _of(
        ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID
    )
    series = _of(SeriesInstanceUID=header.SeriesInstanceUID, ReferencedInstanceSequence=[instance])
    seg.ReferencedSeriesSequence = [series]
    seg.update(_of(**said_at("20260101")))
    return seg


def _segment(
    number: int, code: tuple[str, str, str], label: str, kind: str, algorithm: str
) -> Dataset:
    return _of(
        SegmentNumber=number,
        SegmentLabel=label,
        SegmentAlgorithmType=kind,
        SegmentAlgorithmName=algorithm,
        SegmentedPropertyCategoryCodeSequence=[_of(**_json(code))],
        SegmentedPropertyTypeCodeSequence=[_of(**_json(code))],
    )


def _plane(header: Dataset, segment: int, frame: int) -> Dataset:
    source = _of(
        ReferencedSOPClassUID=header.SOPClassUID,
        ReferencedSOPInstanceUID=header.SOPInstanceUID,
    )
    if "NumberOfFrames" in header:
        source.ReferencedFrameNumber = frame
    return _of(
        DerivationImageSequence=[_of(SourceImageSequence=[source])],
        SegmentIdentificationSequence=[_of(ReferencedSegmentNumber=segment)],
        FrameContentSequence=[_of(DimensionIndexValues=[segment, frame])],
    )


def _fill(seg: FileDataset, planes: np.ndarray, groups: list[Dataset]) -> None:
    seg.update(
        _of(
            NumberOfFrames=len(planes),
            SamplesPerPixel=1,
            PhotometricInterpretation="MONOCHROME2",
            BitsAllocated=1,
            BitsStored=1,
            HighBit=0,
            PixelRepresentation=0,
            PerFrameFunctionalGroupsSequence=groups,
            SharedFunctionalGroupsSequence=[Dataset()],
        )
    )
    bits = np.packbits(planes.reshape(-1), bitorder="little").tobytes()
    seg.PixelData = bits + b"\0" * (len(bits) % 2)
    seg["PixelData"].VR = "OB"


def _changed(data_set: Any, fields: Mapping[str, Any]) -> FileDataset:
    for keyword, value in fields.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    changed: FileDataset = data_set
    return changed
