"""The SOP classes that the node knows by name (PS3.4 B.5, retired ones PS3.6 A)."""

from typing import Final

#: Ultrasound images whose pixels the models may see; the retired two are still in every archive.
ULTRASOUND_IMAGES: Final = {
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image Storage",
    "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image Storage",
    "1.2.840.10008.5.1.4.1.1.6": "Ultrasound Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.6.2": "Enhanced US Volume Storage",
}
