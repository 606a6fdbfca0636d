from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from dicom_node.harvest.volumes import assembling, labelling, resampling
from dicom_node.store.volumes import SHAPE
from tests.support.commands import status_of
from tests.support.slices import read
from training.volumes.source import from_folder

nib = pytest.importorskip("nibabel", reason="pip install --group train")
nifti = pytest.importorskip("training.volumes.nifti")

#: Voxels to the right, the front and the head, (x, y, z), and millimetres between them.
SIZE = (24, 16, 12)
SPACING_MM = (1.0, 2.0, 4.0)
TO_THE_HEAD = np.diag((*SPACING_MM, 1.0))


@pytest.fixture
def seen() -> NDArray[np.int16]:
    """Return air, and something dense to the right, in front and above."""
    values = np.full(SIZE, -1000, np.int16)
    values[12:, 8:, 6:] = 500
    return values


def saved(path: Path, values: NDArray[Any], affine: NDArray[np.float64] = TO_THE_HEAD) -> Path:
    header = nib.Nifti1Header()
    header.set_data_dtype(values.dtype)
    header.set_sform(affine, code="aligned")
    nib.save(nib.Nifti1Image(values, None, header), path)
    return path


def pair(folder: Path, values: NDArray[Any], labels: NDArray[Any], **how: Any) -> Path:
    """Convert a volume with its mask, and return the file."""
    volume = saved(folder / "volume-0.nii", values, **how)
    mask = saved(folder / "segmentation-0.nii.gz", labels, **how)
    nifti.convert(volume, mask, folder / "0.npz")
    return folder / "0.npz"


def turned(values: NDArray[Any], codes: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return an image whose axes run to other sides, and its affine; it shows the same."""
    image = nib.Nifti1Image(values, TO_THE_HEAD)
    wanted = nib.orientations.axcodes2ornt(codes)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
    found = image.as_reoriented(turn)
    return np.asanyarray(found.dataobj), found.affine


def test_the_patient_s_left_back_and_head_come_last(
    seen: NDArray[np.int16], tmp_path: Path
) -> None:
    labels = (seen > 0).astype(np.uint8)
    with np.load(pair(tmp_path, seen, labels)) as found:
        volume, mask = found["volume"], found["mask"]
    assert volume.shape == mask.shape == SHAPE
    # 24 x 32 mm: rows of 192 voxels, columns of 144 in the middle; right is first, front is first
    assert (volume[-1, :88, 28:92] == 255).all()
    assert (volume[0] == 0).all()
    assert (volume[-1, 104:] == 0).all()
    assert (volume[-1, :, 100:] == 0).all()
    np.testing.assert_array_equal(np.unique(mask), [0, 1])
    assert (mask[-1, :92, 28:92] == 1).all()
    assert mask[-1].sum() == 96 * 72
    assert (mask[:20] == 0).all()


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SLA", "PSR"])
def test_what_a_file_shows_does_not_hang_on_its_axes(
    seen: NDArray[np.int16], tmp_path: Path, codes: str
) -> None:
    seen[2:5, 3:6, 2:4] = 100
    labels = (seen > -1000).astype(np.uint8) + (seen > 200)
    plain = pair(tmp_path, seen, labels).read_bytes()
    (tmp_path / "other").mkdir()
    for name, values in (("volume", seen), ("segmentation", labels)):
        saved(tmp_path / "other" / f"{name}-0.nii", *turned(values, codes))
    [(_, volume, mask)] = nifti.pairs(tmp_path / "other")
    assert nifti.convert(volume, mask, tmp_path / "again.npz") == 2
    assert (tmp_path / "again.npz").read_bytes() == plain


def test_stored_values_are_scaled(seen: NDArray[np.int16], tmp_path: Path) -> None:
    labels = (seen > 0).astype(np.uint8)
    with np.load(pair(tmp_path, seen, labels)) as plain:
        wanted = plain["volume"], plain["mask"]
    scaled = nib.Nifti1Image(seen / 3.0 + 100, TO_THE_HEAD)
    scaled.set_data_dtype(np.int16)
    nib.save(scaled, tmp_path / "volume-0.nii")
    assert nib.load(tmp_path / "volume-0.nii").dataobj.slope != 1
    seen[:] = seen / 3.0 + 100
    whole = pair(tmp_path, seen, labels)
    nib.save(scaled, tmp_path / "volume-0.nii")
    nifti.convert(tmp_path / "volume-0.nii", tmp_path / "segmentation-0.nii.gz", whole)
    with np.load(whole) as found:
        assert found["volume"].max() == round((500 / 3 + 600) * 0.255)
        np.testing.assert_array_equal(found["mask"], wanted[1])


def test_a_volume_looks_as_the_harvest_makes_it(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-600, 600, (24, 16, 12)).astype(np.int16)
    one = {"Rows": 16, "Columns": 24, "PixelSpacing": [2, 1]}
    slices = [read(n, ImagePositionPatient=[0, 0, 4 * n], **one) for n in range(12)]
    stack = assembling.assembled(slices)
    assert isinstance(stack, assembling.Stack)
    canvas = resampling.Canvas(stack)
    drawn = {n: canvas.drawn(n, values[:, :, n].T.astype(np.float32)) for n in range(12)}
    wanted = resampling.voxels_of(drawn, 12, "CT")
    assert wanted is not None
    affine = np.diag((-1.0, -2.0, 4.0, 1.0))  # the harvest's axes: left, back, head
    with np.load(pair(tmp_path, values, np.zeros(SIZE, np.uint8), affine=affine)) as found:
        assert np.abs(found["volume"].astype(int) - wanted).max() <= 1
    limits = (assembling.FEWEST_SLICES, labelling.LEAST_PART)
    assert limits == (nifti.FEWEST_SLICES, nifti.LEAST_PART)


ASKEW = np.eye(4)
ASKEW[:2, :2] = [[0.7, -0.7], [0.7, 0.7]]
SHEARED = np.eye(4)
SHEARED[1, 2] = 0.3
COLOUR = np.dtype([(name, "u1") for name in "RGB"])
AIR = np.full(SIZE, -1000, np.int16)
FAULTS = {
    "mask": (AIR, np.zeros((24, 16, 11), np.uint8), None, None),
    "another place": (AIR, np.zeros(SIZE, np.uint8), None, np.eye(4)),
    "askew": (AIR, np.zeros(SIZE, np.uint8), ASKEW, ASKEW),
    "askew;": (AIR, np.zeros(SIZE, np.uint8), SHEARED, SHEARED),
    "no size": (AIR, np.zeros(SIZE, np.uint8), np.diag((0.0, 1, 1, 1)), np.diag((0.0, 1, 1, 1))),
    "7 slices": (AIR[..., :7], np.zeros((24, 16, 7), np.uint8), None, None),
    "one channel": (np.zeros(SIZE, COLOUR), np.zeros(SIZE, np.uint8), None, None),
    "three axes": (AIR[..., None], np.zeros((*SIZE, 1), np.uint8), None, None),
    "one grey": (AIR, np.zeros(SIZE, np.uint8), None, None),
}


@pytest.mark.parametrize("said", FAULTS)
def test_what_is_no_volume_with_its_mask_is_said(tmp_path: Path, said: str) -> None:
    values, labels, affine, other = FAULTS[said]
    volume = saved(tmp_path / "volume-0.nii", values, TO_THE_HEAD if affine is None else affine)
    mask = saved(tmp_path / "mask.nii", labels, TO_THE_HEAD if other is None else other)
    with pytest.raises(StoreError, match=said):
        nifti.convert(volume, mask, tmp_path / "0.npz")
    assert not (tmp_path / "0.npz").exists()


@pytest.mark.parametrize(
    ("label", "said"), [(16, "0 to 15"), (-1, "0 to 15"), (np.nan, "0 to 15"), (0.5, "between")]
)
def test_labels_are_small_whole_numbers(
    seen: NDArray[np.int16], tmp_path: Path, label: float, said: str
) -> None:
    labels = np.zeros(SIZE, np.float32)
    labels[3, 3, 3] = label
    with pytest.raises(StoreError, match=said):
        pair(tmp_path, seen, labels)


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("1/volume-7.nii", "2/volume-7.nii", "1/segmentation-7.nii"),
        ("1/volume-7.nii", "1/segmentation-7.nii.gz", "2/segmentation-7.nii"),
        ("1/volume-7.nii", "2/segmentation-7.nii", "2/volume-8.nii"),
    ],
)
def test_what_lies_in_one_folder_belongs_together_first(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    [(name, volume, _)] = nifti.pairs(touched(tmp_path, *names))
    assert (name, volume) == ("7", tmp_path / "1" / "volume-7.nii")


@pytest.mark.parametrize(
    "names",
    [
        ("1/volume-7.nii", "1/segmentation-7.nii", "2/volume-7.nii", "2/segmentation-7.nii"),
        ("1/volume-7.nii", "2/volume-7.nii", "segmentation-7.nii"),
        ("volume-7.nii", "volume-7.nii.gz", "segmentation-7.nii"),
    ],
)
def test_two_volumes_or_masks_of_one_name_are_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(StoreError, match=r"7\.nii.* have one name.*name each pair otherwise"):
        list(nifti.pairs(touched(tmp_path, *names)))


def test_the_command_converts_what_it_can_and_says_what_it_left_out(
    seen: NDArray[np.int16], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "lits", tmp_path / "out"
    (folder / "batch 1").mkdir(parents=True)
    for name in ("7", "8", "9"):
        saved(folder / "batch 1" / f"volume-{name}.nii", seen)
        saved(folder / f"segmentation-{name}.nii", (seen > 0).astype(np.uint8) * 2)
    (folder / "batch 1" / "volume-8.nii").write_bytes(b"no NIfTI")
    whole = (folder / "segmentation-9.nii").read_bytes()
    (folder / "segmentation-9.nii").write_bytes(whole[:1000])
    assert status_of("volumes", "convert", folder, "--out", out) == 0
    told = capsys.readouterr().out
    assert "1 volumes, --labels 3" in told
    for name in ("volume-8.nii", "segmentation-9.nii"):
        assert f"left out: {name}: no whole NIfTI file" in told
    volumes = from_folder(out)
    assert (volumes.names, volumes.patients) == (("7",), ("7",))
    assert set(np.unique(volumes.read(0)[1])) == {0, 2}
    (folder / "batch 1" / "volume-7.nii").unlink()
    assert status_of("volumes", "convert", folder, "--out", out) == 1
    assert status_of("volumes", "convert", tmp_path / "none", "--out", out) == 1
