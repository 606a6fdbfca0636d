import numpy as np

from dicom_node.demo.page import COLOURS, OPACITY, overlay


def test_an_overlay_colours_segments_and_leaves_the_rest() -> None:
    frame = np.full((4, 6), 100, np.uint8)
    labels = np.zeros((4, 6), np.uint8)
    labels[1, 2] = 2
    picture = overlay(frame, labels)
    assert picture.shape == (4, 6, 3)
    expected = [int((1 - OPACITY) * 100 + OPACITY * part) for part in COLOURS[2]]
    assert np.allclose(picture[1, 2], expected, atol=1)
    picture[1, 2] = 100
    assert (picture == 100).all()
