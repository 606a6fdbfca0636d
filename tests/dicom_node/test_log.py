import io
import json
from pathlib import Path

import pytest

from dicom_node import log


def written(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found = json.loads(capsys.readouterr().err)
    assert isinstance(found, dict)
    return found


def test_a_field_that_is_not_on_the_list_is_dropped_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure()
    log.get("receive").warning("refused", ae_title="US1", patient_name="Secret^Name")
    line = written(capsys)
    assert "Secret" not in str(line)
    assert line["ae_title"] == "US1"
    assert line["what"] == "dropped fields: patient_name"


def test_what_a_stranger_typed_stays_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.get("receive").warning("refused", ae_title='A"}\n{"level": "info"' * 1000)
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert len(json.loads(output)["ae_title"]) == log.LONGEST


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    # unbuffered, so that closing it has nothing left to write
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - a device
        lines = io.TextIOWrapper(full, write_through=True)
        monkeypatch.setattr("sys.stderr", lines)
        log.configure()
        log.get("receive").warning("refused")
        with pytest.raises(OSError, match="No space left"):
            lines.write("this one is not lost in silence")
        lines.detach()
