"""Bars of what the store holds, as SVG or PNG: one bar a group, its parts the geometries."""

from collections.abc import Mapping
from io import BytesIO
from xml.etree import ElementTree as Tree

from PIL import Image, ImageDraw, ImageFont

from dicom_node.records import Geometry

#: Colours that differ for every kind of sight (Okabe and Ito, 2008); unknown is grey.
COLOURS = {
    Geometry.LINEAR: "#0072b2",
    Geometry.CURVILINEAR: "#e69f00",
    Geometry.PHASED: "#009e73",
    Geometry.ENDOCAVITY: "#cc79a7",
    Geometry.VOLUME: "#56b4e9",
    Geometry.UNKNOWN: "#999999",
}
#: In pixels.
MARGIN, NAMES, BAR, COUNTS = 16, 96, 480, 96
ROW, THICKNESS, LEGEND = 28, 18, 104
LETTERS = 13
#: A PNG has so many pixels for each of these: printed, it is as sharp as the SVG.
PNG_SCALE = 2


def plotted(table: Mapping[str, Mapping[str, int]]) -> str:
    """Draw frames by group and geometry.

    Parameters
    ----------
    table : mapping
        Group to geometry to number of frames.

    Returns
    -------
    str
        An SVG document.
    """
    return Tree.tostring(_drawing(table), encoding="unicode") + "\n"


def plotted_png(table: Mapping[str, Mapping[str, int]]) -> bytes:
    """Draw what `plotted` draws as PNG."""
    drawing = _drawing(table)
    size = int(drawing.attrib["width"]) * PNG_SCALE, int(drawing.attrib["height"]) * PNG_SCALE
    image = Image.new("RGB", size)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(LETTERS * PNG_SCALE)
    for part in drawing:
        x, y = (float(part.attrib[name]) * PNG_SCALE for name in ("x", "y"))
        if part.tag == "rect":
            wide, high = (float(part.attrib[n]) * PNG_SCALE for n in ("width", "height"))
            pen.rectangle((x, y, x + wide - 1, y + high - 1), part.attrib["fill"])
        else:
            pen.text((x, y), part.text or "", "#000000", font, anchor="ls")
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _drawing(table: Mapping[str, Mapping[str, int]]) -> Tree.Element:
    most = max((sum(row.values()) for row in table.values()), default=1)
    width = max(2 * MARGIN + NAMES + BAR + COUNTS, 2 * MARGIN + LEGEND * len(COLOURS))
    height = 2 * MARGIN + ROW * (len(table) + 2)
    size = {"width": str(width), "height": str(height), "viewBox": f"0 0 {width} {height}"}
    style = {"font-family": "sans-serif", "font-size": str(LETTERS)}
    drawing = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, **style})
    _rectangle(drawing, (0, 0, width, height), "#ffffff")
    _text(drawing, MARGIN, MARGIN + 14, "Frames by group and geometry")
    for place, geometry in enumerate(COLOURS):
        x, y = MARGIN + place * LEGEND, MARGIN + ROW
        _rectangle(drawing, (x, y + 4, 12, 12), COLOURS[geometry])
        _text(drawing, x + 18, y + 15, geometry.value)
    for place, (group, row) in enumerate(sorted(table.items())):
        _bar(drawing, MARGIN + ROW * (place + 2), group, row, BAR / most)
    return drawing


def _bar(drawing: Tree.Element, y: float, group: str, row: Mapping[str, int], scale: float) -> None:
    _text(drawing, MARGIN, y + 14, group)
    x = float(MARGIN + NAMES)
    for geometry, colour in COLOURS.items():
        count = row.get(geometry.value, 0)
        if count:
            part = _rectangle(drawing, (x, y, count * scale, THICKNESS), colour)
            Tree.SubElement(part, "title").text = f"{group}, {geometry.value}: {count}"
        x += count * scale
    _text(drawing, x + 6, y + 14, str(sum(row.values())))


def _rectangle(
    drawing: Tree.Element, place: tuple[float, float, float, float], colour: str
) -> Tree.Element:
    named = zip(("x", "y", "width", "height"), (f"{value:.2f}" for value in place), strict=True)
    return Tree.SubElement(drawing, "rect", {**dict(named), "fill": colour})


def _text(drawing: Tree.Element, x: float, y: float, text: str) -> None:
    Tree.SubElement(drawing, "text", {"x": f"{x:.2f}", "y": f"{y:.2f}"}).text = text
