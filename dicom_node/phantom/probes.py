"""The probes that phantoms pretend to come from, with the tags that their scanners write."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from dicom_node.records import Geometry


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe of one scanner: how it sees and what it writes."""

    geometry: Geometry
    #: radius of the curved face; 0 for a linear face
    radius_mm: float
    #: half of the opening angle (curvilinear) in degrees; 0 for a linear face
    half_angle_deg: float
    #: half of the width of a linear face; 0 for a curved one
    half_width_mm: float
    depth_mm: float
    #: Manufacturer (0008,0070) and Manufacturer's Model Name (0008,1090)
    manufacturer: str
    model: str
    #: Transducer Data (0018,5010), values joined by a backslash
    transducer_data: str
    #: Transducer Type (0018,6031); None where the scanner leaves it out
    transducer_type: str | None


def _curved(depth_mm: float, maker: tuple[str, str], data: str, kind: str | None) -> Probe:
    return Probe(
        geometry=Geometry.CURVILINEAR,
        radius_mm=60.0,
        half_angle_deg=31.0,
        half_width_mm=0.0,
        depth_mm=depth_mm,
        manufacturer=maker[0],
        model=maker[1],
        transducer_data=data,
        transducer_type=kind,
    )


def _linear(depth_mm: float, maker: tuple[str, str], data: str, kind: str | None) -> Probe:
    return Probe(
        geometry=Geometry.LINEAR,
        radius_mm=0.0,
        half_angle_deg=0.0,
        half_width_mm=25.0,
        depth_mm=depth_mm,
        manufacturer=maker[0],
        model=maker[1],
        transducer_data=data,
        transducer_type=kind,
    )


#: By model token. Serial numbers are invented; they stand there because real ones do.
PROBES: Final = MappingProxyType(
    {
        "SC6-1": _curved(
            150.0, ("SuperSonic Imagine", "Aixplorer"), "SC6-1\\54629\\", "CURVED LINEAR"
        ),
        "C5-1": _curved(160.0, ("Philips Medical Systems", "EPIQ 5G"), "C5_1\\\\", None),
        "6C1": _curved(140.0, ("SIEMENS", "ACUSON S2000"), "6C1 HD", "CURVED LINEAR"),
        "C1-6": _curved(
            155.0, ("GE Healthcare", "LOGIQ E9"), "C1-6\\575\\000000001", "CURVED LINEAR"
        ),
        "L12-5": _linear(55.0, ("Philips Medical Systems", "EPIQ 5G"), "L12_5\\\\", None),
        "9L": _linear(60.0, ("GE Healthcare", "LOGIQ E9"), "9L\\\\", "LINEAR"),
    }
)
