from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from dicom_node.errors import ConfigError, StoreError
from models import encoders
from tests.support.finetuning import settings
from training import recipes, runs
from training.config import EncoderName, PretrainSettings
from training.runs import RunInfo
from training.tasks import starts


def pretrained(folder: Path, *, width: int = 4, finished: bool = True) -> Path:
    """Make a run whose encoder is drawn at random."""
    torch.manual_seed(7)
    given = {"strategy": recipes.load("ce_dcm"), "encoder": "small", "encoder_width": width}
    info = RunInfo(
        kind="pretrain",
        settings=PretrainSettings.model_validate(given),
        store_version="abc",
        finished_at=datetime.now(UTC) if finished else None,
    )
    runs.begin(folder, info)
    runs.save(folder / runs.ENCODER, encoders.build("small", width=width).state_dict())
    return folder


def test_a_pretraining_fills_the_encoder_and_says_what_it_was(tmp_path: Path) -> None:
    run = pretrained(tmp_path / "run")
    start, same = (starts.find(settings(), path, None) for path in (run, run / runs.ENCODER))
    encoder = encoders.build("small", width=4)
    start.fill(encoder)
    state = runs.load_state(run / runs.ENCODER)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert start.text.startswith(
        "ce_dcm small 256x384 epochs=200 batch=32 seed=0 store=abc sha256:"
    )
    assert same.text == f"encoder.pt {start.text.split()[-1]}"


def test_nothing_to_start_from_is_random() -> None:
    assert starts.find(settings(), None, None).text == "random"


def test_two_starts_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="drop one"):
        starts.find(settings(), tmp_path, tmp_path)


def test_a_run_of_another_encoder_is_named(tmp_path: Path) -> None:
    run = pretrained(tmp_path / "run", width=8)
    with pytest.raises(StoreError, match="small of width 8, not small of width 4"):
        starts.find(settings(), run, None)
    with pytest.raises(StoreError, match="small of width 8, not resnet18; give --encoder small"):
        starts.find(settings(encoder="resnet18"), run, None)


def test_a_file_of_another_encoder_is_named(tmp_path: Path) -> None:
    start = starts.find(settings(), pretrained(tmp_path / "run", width=8) / runs.ENCODER, None)
    with pytest.raises(StoreError, match=r"encoder\.pt: the weights of another network"):
        start.fill(encoders.build("small", width=4))


def test_what_is_not_finished_or_no_pretraining_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not finished; give the same 'train pretrain' again"):
        starts.find(settings(), pretrained(tmp_path / "half", finished=False), None)
    runs.begin(
        tmp_path / "other", RunInfo(kind="finetune", settings=settings(), store_version="abc")
    )
    with pytest.raises(StoreError, match="a run of fine-tuning; name one of 'train pretrain'"):
        starts.find(settings(), tmp_path / "other", None)
    with pytest.raises(StoreError, match="no run here"):
        starts.find(settings(), tmp_path, None)
    with pytest.raises(StoreError, match=r"absent\.pt: cannot be read"):
        starts.find(settings(), tmp_path / "absent.pt", None)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 no zip"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "encoder.pt").write_bytes(content)
    encoder = encoders.build("small", width=4)
    with pytest.raises(StoreError, match=r"encoder\.pt: no weights"):
        starts.find(settings(), tmp_path / "encoder.pt", None).fill(encoder)
    with pytest.raises(StoreError, match=r"--imagenet encoder\.pt"):
        starts.find(settings(), None, tmp_path / "encoder.pt").fill(encoder)


def test_imagenet_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = encoders.build("resnet18").state_dict()
    runs.save(tmp_path / "resnet18-0.pth", other)
    start = starts.find(settings(encoder="resnet50"), None, tmp_path / "resnet18-0.pth")
    assert start.text.startswith("resnet18-0.pth sha256:")
    with pytest.raises(StoreError, match=r"--imagenet resnet18-0\.pth is of another network"):
        start.fill(encoders.build("resnet50"))
    encoder = encoders.build("resnet18")
    starts.find(settings(encoder="resnet18"), None, tmp_path / "resnet18-0.pth").fill(encoder)
    assert torch.equal(encoder.state_dict()["conv1.weight"], other["conv1.weight"])


def test_torchvisions_file_of_an_encoder_is_found_or_asked_for(tmp_path: Path) -> None:
    (tmp_path / "resnet50-0.pth").touch()
    assert starts.torchvisions(tmp_path, EncoderName.RESNET50) == tmp_path / "resnet50-0.pth"
    for folder in (None, tmp_path):
        with pytest.raises(StoreError, match=r"give --imagenet FOLDER .* resnet18-\*\.pth"):
            starts.torchvisions(folder, EncoderName.RESNET18)
    with pytest.raises(StoreError, match="torchvision has none of the encoder 'small'; take"):
        starts.torchvisions(tmp_path, EncoderName.SMALL)
