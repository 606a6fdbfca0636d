import struct
from pathlib import Path

import gdcm
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.errors import PixelError
from dicom_node.pixels.decode import decode, decode_stored
from tests.support.frames import PYDICOM_FILES, changed, pydicom_file, saved, speckle, ultrasound

#: pydicom tells of padding and of doubtful headers; in the node nobody listens.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def _one(path: Path) -> np.ndarray:
    ((_, frame),) = decode(path, [1])
    return frame


def _luma(rgb: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(rgb).convert("L"))


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_the_real_files_of_pydicom_decode_to_grey(name: str) -> None:
    header = dcmread(pydicom_file(name))
    count = PYDICOM_FILES[name][0]
    frames = list(decode(pydicom_file(name), range(1, count + 1)))
    assert [number for number, _ in frames] == list(range(1, count + 1))
    for _, frame in frames:
        assert (frame.shape, frame.dtype) == ((header.Rows, header.Columns), np.uint8)
        assert frame.std() > 1


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"]
)
def test_stored_values_are_signed_numbers(name: str) -> None:
    [(number, values)] = decode_stored(pydicom_file(name), [1])
    assert (number, values.dtype) == (1, np.int32)
    np.testing.assert_array_equal(values, dcmread(pydicom_file(name)).pixel_array)


def test_bits_above_bits_stored_are_no_part_of_a_value(tmp_path: Path) -> None:
    samples = np.array([[0x7FFF, 0xF800]], "<u2")
    fields = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    path = saved(ultrasound(samples[None], **fields), tmp_path / "a.dcm")
    [(_, values)] = decode_stored(path, [1])
    assert values.tolist() == [[-1, -2048]]


def test_colours_have_no_stored_values() -> None:
    with pytest.raises(PixelError, match="no grey one"):
        list(decode_stored(pydicom_file("examples_rgb_color.dcm"), [1]))


def test_y_of_a_jpeg_is_the_luma_of_its_colours() -> None:
    path = pydicom_file("examples_ybr_color.dcm")
    colours = dcmread(path).pixel_array  # (30, R, C, 3), RGB
    for number, frame in decode(path, [1, 15, 30]):
        difference = _luma(colours[number - 1]).astype(int) - frame
        # colours outside RGB are clipped there, so a few differ by more than rounding
        assert (np.abs(difference) <= 1).mean() > 0.99


def test_frames_that_were_not_asked_for_are_not_given() -> None:
    numbers = [number for number, _ in decode(pydicom_file("examples_ybr_color.dcm"), [2, 29])]
    assert numbers == [2, 29]
    assert list(decode(pydicom_file("examples_ybr_color.dcm"), [])) == []


@pytest.mark.parametrize("numbers", [[31], [0, 1], [2, 1], [3, 3]])
def test_impossible_frame_numbers_are_refused(numbers: list[int]) -> None:
    with pytest.raises(PixelError, match="frame"):
        list(decode(pydicom_file("examples_ybr_color.dcm"), numbers))


def test_grey_samples_pass_unchanged_and_inverted(tmp_path: Path) -> None:
    cine = np.stack([speckle(seed=seed) for seed in range(3)])
    path = saved(ultrasound(cine), tmp_path / "a.dcm")
    assert all(np.array_equal(frame, cine[number - 1]) for number, frame in decode(path, [1, 3]))
    inverted = ultrasound(cine[:1], PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(_one(saved(inverted, path)), 255 - cine[0])


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_by_pixel_and_by_plane_is_the_same_grey(tmp_path: Path, planar: int) -> None:
    rgb = np.stack([speckle(seed=seed) for seed in range(3)], axis=-1)
    data_set = ultrasound(rgb[None], PlanarConfiguration=planar)
    if planar:
        data_set.PixelData = np.ascontiguousarray(rgb.transpose(2, 0, 1)).tobytes()
    assert np.array_equal(_one(saved(data_set, tmp_path / "a.dcm")), _luma(rgb))


def test_sixteen_bits_keep_the_eight_most_significant_of_bits_stored(tmp_path: Path) -> None:
    values = (speckle().astype(np.uint16) << 4) | 0xF00F  # an overlay above bit 11
    data_set = ultrasound(values[None], BitsStored=12, HighBit=11)
    assert np.array_equal(_one(saved(data_set, tmp_path / "a.dcm")), speckle())


def test_signed_samples_are_darkest_where_they_are_smallest(tmp_path: Path) -> None:
    signed = np.array([[-32768, -1, 0, 32767]], np.int16)
    data_set = ultrasound(signed.view(np.uint16)[None], PixelRepresentation=1)
    assert _one(saved(data_set, tmp_path / "a.dcm")).tolist() == [[0, 127, 128, 255]]


def _palette(tmp_path: Path, *, big_endian: bool) -> Path:
    indices = np.arange(4096, dtype=np.uint16).reshape(1, 64, 64)
    entries = (np.arange(4096, dtype=np.uint16) << 4).astype(">u2" if big_endian else "<u2")
    data_set = ultrasound(indices, PhotometricInterpretation="PALETTE COLOR", BitsStored=12)
    for colour in ("Red", "Green", "Blue"):
        setattr(data_set, f"{colour}PaletteColorLookupTableDescriptor", [4096, 0, 16])
        setattr(data_set, f"{colour}PaletteColorLookupTableData", entries.tobytes())
        data_set[f"{colour}PaletteColorLookupTableData"].VR = "OW"
    if big_endian:
        data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
        data_set.PixelData = indices.astype(">u2").tobytes()
        data_set["PixelData"].VR = "OW"
    path = tmp_path / "a.dcm"
    dcmwrite(path, data_set, implicit_vr=False, little_endian=not big_endian)
    return path


@pytest.mark.parametrize("big_endian", [False, True])
def test_a_palette_gives_the_grey_of_its_colours(tmp_path: Path, big_endian: bool) -> None:
    grey = _one(_palette(tmp_path, big_endian=big_endian))
    assert np.array_equal(grey.ravel(), np.arange(4096) >> 4)


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize(
    ("uid", "plugin"),
    [(RLELossless, "pydicom"), (JPEGLSLossless, "pyjpegls"), (JPEG2000Lossless, "pylibjpeg")],
)
def test_a_lossless_cine_is_what_it_was(tmp_path: Path, uid: UID, plugin: str, bits: int) -> None:
    cine = np.stack([speckle(seed=seed) for seed in range(2)])
    stored = cine if bits == 8 else cine.astype(np.uint16) << 4
    data_set = ultrasound(stored, BitsStored=bits, HighBit=bits - 1)
    data_set.compress(uid, encoding_plugin=plugin)
    path = saved(data_set, tmp_path / "a.dcm")
    frames = dict(decode(path, [1, 2]))
    assert all(np.array_equal(frames[number], cine[number - 1]) for number in (1, 2))


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("process", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1"])
def test_a_lossless_jpeg_is_what_it_was(tmp_path: Path, process: str, colour: bool) -> None:
    grey = speckle()
    pixels = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1) if colour else grey
    plain, jpeg = saved(ultrasound(pixels[None]), tmp_path / "a.dcm"), tmp_path / "b.dcm"
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, process)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(jpeg))
    assert writer.Write()
    assert np.array_equal(_one(jpeg), _luma(pixels) if colour else grey)


def _with_frames(path: Path, frames: list[bytes], **fields: object) -> Path:
    return changed("examples_ybr_color.dcm", path, PixelData=encapsulate(frames), **fields)


def _jpeg_frames() -> list[bytes]:
    return list(
        generate_frames(
            dcmread(pydicom_file("examples_ybr_color.dcm")).PixelData, number_of_frames=30
        )
    )


def test_a_codestream_that_states_another_size_is_not_decoded(tmp_path: Path) -> None:
    frame = bytearray(_jpeg_frames()[0])
    place = frame.index(b"\xff\xc0") + 5
    frame[place : place + 4] = struct.pack(">HH", 65500, 65500)
    path = _with_frames(tmp_path / "a.dcm", [bytes(frame)], NumberOfFrames=1)
    with pytest.raises(PixelError, match="states 65500 x 65500 pixels, the header 240 x 320"):
        _one(path)


def test_a_cine_with_too_few_frames_gives_those_that_are_there(tmp_path: Path) -> None:
    path = _with_frames(tmp_path / "a.dcm", _jpeg_frames()[:10])
    seen = []
    with pytest.raises(PixelError, match="ends before frame 11"):
        for number, _ in decode(path, range(1, 31)):
            seen.append(number)
    assert seen == list(range(1, 11))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\0" * 64, b"\xff\xd8\xff\xc0\0\x08"])
def test_a_frame_that_is_no_jpeg_is_refused(tmp_path: Path, content: bytes) -> None:
    path = _with_frames(tmp_path / "a.dcm", [content or b"\0\0"], NumberOfFrames=1)
    with pytest.raises(PixelError, match="no size"):
        _one(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 999_999_999},
        {"PixelData": b""},
        {"PixelData": b"\0" * 1002},
    ],
)
def test_less_pixel_data_than_promised_is_refused(tmp_path: Path, fields: dict[str, int]) -> None:
    path = changed("examples_rgb_color.dcm", tmp_path / "a.dcm", **fields)
    with pytest.raises(PixelError, match="where the header promises"):
        _one(path)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(pydicom_file("examples_rgb_color.dcm").read_bytes()[:100_000])
    with pytest.raises(PixelError, match="where the header promises"):
        _one(path)
    path.write_bytes(pydicom_file("examples_rgb_color.dcm").read_bytes()[:800])
    with pytest.raises(PixelError, match="no Pixel Data"):
        _one(path)


@pytest.mark.parametrize(
    ("uid", "fault"),
    [
        ("1.2.840.10008.1.2.4.111", "no decoder for transfer syntax"),  # JPEG XL
        ("1.2.840.10008.1.2.4.103", "no decoder for transfer syntax"),  # MPEG-4
        ("1.2.840.10008.1.2.1", "not encoded as transfer syntax"),  # encapsulated, called native
    ],
)
def test_a_transfer_syntax_that_cannot_be_decoded_is_said(
    tmp_path: Path, uid: str, fault: str
) -> None:
    content = pydicom_file("examples_ybr_color.dcm").read_bytes()
    old = b"UI\x16\x001.2.840.10008.1.2.4.50"
    assert content.count(old) == 1
    new = uid.encode() + b"\0" * (len(uid) % 2)
    length = struct.unpack_from("<L", content, 140)[0] + len(new) - 22
    content = content.replace(old, b"UI" + struct.pack("<H", len(new)) + new)
    path = tmp_path / "a.dcm"
    path.write_bytes(content[:140] + struct.pack("<L", length) + content[144:])
    with pytest.raises(PixelError, match=fault):
        _one(path)


@pytest.mark.data
def test_every_real_image_decodes(test_data: Path) -> None:
    refused = {}
    for path in sorted((test_data / "dicom_us").glob("*.dcm")):
        try:
            assert _one(path).std() > 0, path.name
        except PixelError as exc:
            refused[path.name] = str(exc)
    assert list(refused) == ["cornerstone3D__no-meta-length-test.dcm"]
    assert "no Pixel Data" in refused["cornerstone3D__no-meta-length-test.dcm"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pydicom__OBXXXX1A", "pydicom-data__OBXXXX1A_expb"),
        ("pydicom__OBXXXX1A", "pydicom__OBXXXX1A_rle"),
        ("dicom-test-files__gdcm-US-ALOKA-16", "dicom-test-files__gdcm-US-ALOKA-16_big"),
        ("pydicom__color-pl", "pydicom__color-px"),
        ("dicom-test-files__US1_UNC.zst", "dicom-test-files__US1_RLE"),
        ("cornerstone3D__US-YBR_FULL_422-EVRLE", "dcm4che__YBR_422"),
    ],
)
def test_one_image_in_two_encodings_is_the_same_grey(test_data: Path, one: str, other: str) -> None:
    folder = test_data / "dicom_us"
    assert np.array_equal(_one(folder / f"{one}.dcm"), _one(folder / f"{other}.dcm"))
