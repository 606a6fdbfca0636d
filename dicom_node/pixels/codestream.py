"""What a compressed frame says of its own size, read before any decoder sees it.

A decoder allocates what the codestream states, not what the DICOM header states: a JPEG of 65500 x
65500 pixels inside a small image costs gigabytes.
"""

import struct
from typing import Final

#: Start of frame (ITU-T T.81 B.1.1.3; JPEG-LS: T.87 C.2.2). C4, C8 and CC are other markers.
START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
#: Start of scan and end of image: no start of frame can follow.
LAST_MARKERS: Final = frozenset({0xDA, 0xD9})
#: SOC and SIZ, the first two markers of a JPEG 2000 codestream (ITU-T T.800 A.4, A.5).
JPEG_2000_START: Final = b"\xff\x4f\xff\x51"
#: A JP2 wrapper, wrong in DICOM but seen, puts its boxes before the codestream.
JP2_WRAPPER_BYTES: Final = 4096


def stated_size(frame: bytes) -> tuple[int, int] | None:
    """Return rows and columns as a JPEG, JPEG-LS or JPEG 2000 frame states them, None if not.

    Parameters
    ----------
    frame : bytes
        One encoded frame.
    """
    try:
        start = frame.find(JPEG_2000_START, 0, JP2_WRAPPER_BYTES)
        return _jpeg_2000(frame, start) if start >= 0 else _jpeg(frame)
    except (struct.error, IndexError):
        return None


def _jpeg_2000(frame: bytes, start: int) -> tuple[int, int]:
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    return bottom - top, right - left


def _jpeg(frame: bytes) -> tuple[int, int] | None:
    place = 2
    if frame[:place] != b"\xff\xd8":
        return None
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in LAST_MARKERS:
            return None
        if marker in START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", frame, place + 5)
            return rows, columns
        # 0xFF fills the space before a marker; all other markers here carry their length
        place += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None
