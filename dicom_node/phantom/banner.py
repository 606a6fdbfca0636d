"""Burned-in text around the scanned region: fake, and there so that cropping matters."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.phantom.field import SIDE_PX, Field

#: What scanners write beside the picture.
TECHNICAL = "MI 0.9  TIs 0.3   2D  Gen  DR 60  Pen"


def draw_banner(field: Field, name: str) -> NDArray[np.uint8]:
    """Return the picture around the region, uint8 (R, C): text, a grey bar and a depth scale.

    Parameters
    ----------
    field : Field
        Where the scanned region lies.
    name : str
        Patient's name and ID as the scanner would burn them in; the caller keeps it fake.
    """
    picture = Image.new("L", (field.columns, field.rows))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default_imagefont()
    draw.rectangle((0, 0, field.columns, 34), fill=26)
    draw.text((8, 4), name, fill=235, font=font)
    draw.text((8, 19), TECHNICAL, fill=170, font=font)
    draw.text((field.columns - 130, 4), "PHANTOM HOSPITAL", fill=205, font=font)
    content = np.array(picture)
    bar = np.linspace(255, 0, 120).astype(np.uint8)[:, None]
    content[60:180, 8:16] = bar
    ticks = np.arange(field.region.top, field.region.bottom, max(round(10 / field.pixel_mm), 4))
    content[ticks, field.columns - SIDE_PX + 8 : field.columns - SIDE_PX + 14] = 150
    return content
