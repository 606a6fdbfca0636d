"""OHIF in headless Chromium, used as a radiologist uses it, and asked what it has drawn."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

#: software rendering: no GPU is needed
_ARGUMENTS: Final = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_SIZE: Final = {"width": 1400, "height": 800}
_DEADLINE_MS: Final = 90_000
#: How often a study is opened until OHIF has met its images before their SEG.
_ATTEMPTS: Final = 5

#: The viewer does not explain itself first.
_NO_TOUR: Final = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"
#: What the page is asked; cornerstone's and OHIF's own objects answer.
_DISPLAY_SET: Final = """
(series) => (window.services?.displaySetService?.getActiveDisplaySets() ?? [])
  .find(one => one.SeriesInstanceUID === series)?.displaySetInstanceUID
"""
#: OHIF gives a SEG that it met before its images to the first image of the series (3.13).
_IS_MISTAKEN: Final = """
(uid) => {
  const sets = window.services.displaySetService;
  const { instance, referencedDisplaySetInstanceUID } = sets.getDisplaySetByUID(uid);
  if (!instance?.ReferencedSeriesSequence) return false;
  const wanted = [instance.ReferencedSeriesSequence].flat()
    .flatMap(series => series.ReferencedInstanceSequence)
    .map(reference => reference.ReferencedSOPInstanceUID);
  return !sets.getDisplaySetByUID(referencedDisplaySetInstanceUID)?.instances
    .some(image => wanted.includes(image.SOPInstanceUID));
}
"""
_PANE: Final = """
const pane = () => {
  const id = window.services.viewportGridService.getActiveViewportId();
  return window.services.cornerstoneViewportService.getCornerstoneViewport(id);
};
const segmentation = () =>
  cornerstoneTools.segmentation.state.getSegmentationRepresentations(pane().id)[0];
const labels = () => segmentation() ? cornerstoneTools.segmentation.state
  .getSegmentation(segmentation().segmentationId).representationData.Labelmap.imageIds : [];
const frame = (imageId) => Number(/\\/frames\\/(\\d+)/.exec(imageId)[1]);
const instance = (imageId) => /\\/instances\\/([\\d.]+)/.exec(imageId)[1];
const rendered = (change) => new Promise(resolve => {
  const done = cornerstone.Enums.Events.IMAGE_RENDERED;
  pane().element.addEventListener(done, resolve, { once: true });
  change();
});
"""
_SEGMENTATION_IS_READY: Final = """
() => labels().length > 0 && labels().every(id => cornerstone.cache.getImage(id))
"""
_IMAGE_IS_READY: Final = "() => pane()?.getImageData?.() != null"
_LABEL_MAPS: Final = """
() => Object.fromEntries(labels().map(id => {
  const image = cornerstone.cache.getImage(id);
  const values = Uint8Array.from(image.voxelManager.getScalarData());
  let text = "";
  for (let at = 0; at < values.length; at += 8192)
    text += String.fromCharCode(...values.subarray(at, at + 8192));
  const place = [instance(image.referencedImageId), frame(image.referencedImageId)];
  return [place.join(" "), [image.rows, image.columns, btoa(text)]];
}))
"""
_FRAME: Final = "() => frame(pane().getCurrentImageId())"
_GO_TO_INSTANCE: Final = """
(uid) => pane().setImageIdIndex(pane().getImageIds().findIndex(id => instance(id) === uid))
  .then(() => null)
"""
_GO_TO: Final = "(index) => rendered(() => pane().setImageIdIndex(index)).then(() => null)"
_SHOW_SEGMENTATION: Final = """
(visible) => rendered(() => {
  cornerstoneTools.segmentation.config.visibility.setSegmentationRepresentationVisibility(
    pane().id, { segmentationId: segmentation().segmentationId }, visible);
  pane().render();
}).then(() => null)
"""
_CORNERS: Final = """
() => {
  const image = pane().getImageData();
  const box = pane().canvas.getBoundingClientRect();
  return [[0, 0], [100, 0], [0, 100]].map(([x, y]) => {
    const at = pane().worldToCanvas(image.imageData.indexToWorld([x, y, 0]));
    return [at[0] + box.x, at[1] + box.y];
  });
}
"""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a pane shows of one frame, in the image's own pixels."""

    #: float, grey, without the segmentation, (R, C); NaN outside the pane
    image: NDArray[np.float64]
    #: how much each pixel changes when the segmentation is shown, (R, C)
    change: NDArray[np.float64]


@dataclass
class Radiologist:
    """Someone who opens studies in OHIF and looks."""

    page: Page
    address: str
    pictures: Path
    #: what the page complained of
    complaints: list[str] = field(default_factory=list)

    def open(self, study: str, series: str) -> None:
        """Open a study and put a series into the pane, by a double click on its thumbnail."""
        for _ in range(_ATTEMPTS):
            self.page.goto(f"{self.address}/viewer?StudyInstanceUIDs={study}")
            uid = self._wait(_DISPLAY_SET, series, plain=True)
            self._wait(_IMAGE_IS_READY)
            if not self.page.evaluate(_IS_MISTAKEN, uid):
                self.page.locator(f"[id='thumbnail-{uid}']").dblclick()
                return
        raise AssertionError(f"OHIF takes series {series} for that of another image each time")

    def accept_segmentation(self) -> None:
        """Say yes to the viewer's question whether to open the segmentation."""
        self.page.get_by_role("button", name="Yes", exact=True).click()
        self._wait(_SEGMENTATION_IS_READY)

    def label_maps(self) -> dict[tuple[str, int], NDArray[np.uint8]]:
        """Return cornerstone's label map of each image and frame."""
        found = {}
        for place, (rows, columns, text) in self._ask(_LABEL_MAPS).items():
            uid, frame = place.split()
            values = np.frombuffer(base64.b64decode(text), np.uint8)
            found[uid, int(frame)] = values.reshape(rows, columns)
        return found

    def frame(self) -> int:
        """Return the number of the frame in the pane."""
        return int(self._ask(_FRAME))

    def go_to(self, frame: int) -> None:
        """Show a frame of the cine."""
        if self.frame() != frame:
            self._ask(_GO_TO, frame - 1)

    def go_to_image(self, sop_instance_uid: str) -> None:
        """Show one still of those in the pane."""
        self._ask(_GO_TO_INSTANCE, sop_instance_uid)

    def drawing(self, rows: int, columns: int) -> Drawing:
        """Look at the pane without and with the segmentation."""
        self._ask(_SHOW_SEGMENTATION, False)
        without = self._pixels()
        self._ask(_SHOW_SEGMENTATION, True)
        change = np.abs(self._pixels() - without).max(axis=2)
        at = self._places(rows, columns)
        return Drawing(image=_taken(without.mean(axis=2), at), change=_taken(change, at))

    def read(self, text: str) -> str:
        """Say no to tracking the report's measurements; return the words that stand with `text`."""
        self.page.get_by_role("button", name="No", exact=True).click()
        words = self.page.locator("svg text", has_text=text).first
        words.wait_for(timeout=_DEADLINE_MS)
        return words.text_content() or ""

    def photograph(self, name: str) -> Path:
        """Keep a picture of the whole screen."""
        path = self.pictures / f"{name}.png"
        self.page.mouse.move(0, 0)
        self.page.screenshot(path=path)
        return path

    def _pixels(self) -> NDArray[np.float64]:
        with Image.open(io.BytesIO(self.page.screenshot())) as picture:
            return np.asarray(picture.convert("RGB"), np.float64)

    def _places(self, rows: int, columns: int) -> NDArray[np.intp]:
        """Return the screen's (y, x) of every pixel of the image, (2, R, C)."""
        origin, right, down = (np.array(point) for point in self._ask(_CORNERS))
        y, x = np.mgrid[:rows, :columns]
        screen = (
            origin[:, None, None]
            + ((right - origin) / 100)[:, None, None] * x
            + ((down - origin) / 100)[:, None, None] * y
        )
        return np.floor(screen[::-1]).astype(np.intp)

    def _ask(self, question: str, argument: Any = None) -> Any:
        return self.page.evaluate(
            f"(argument) => {{ {_PANE} return ({question})(argument); }}", argument
        )

    def _wait(self, question: str, argument: Any = None, *, plain: bool = False) -> Any:
        before = "" if plain else _PANE
        asked = f"(argument) => {{ {before} return ({question})(argument); }}"
        return self.page.wait_for_function(asked, arg=argument, timeout=_DEADLINE_MS).json_value()


def _taken(picture: NDArray[np.float64], at: NDArray[np.intp]) -> NDArray[np.float64]:
    y, x = at
    inside = (y >= 0) & (x >= 0) & (y < picture.shape[0]) & (x < picture.shape[1])
    taken = np.full(y.shape, np.nan)
    taken[inside] = picture[y[inside], x[inside]]
    return taken


@contextmanager
def radiologist(chromium: str, address: str, pictures: Path) -> Iterator[Radiologist]:
    """Start Chromium; pictures go into a folder."""
    pictures.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport=_SIZE)
            page.set_default_timeout(_DEADLINE_MS)
            someone = Radiologist(page=page, address=address, pictures=pictures)
            page.add_init_script(_NO_TOUR)
            page.on("pageerror", lambda error: someone.complaints.append(str(error)))
            yield someone
        finally:
            browser.close()
