from pathlib import Path

import pytest

from dicom_node.config import load
from dicom_node.errors import ConfigError

DIMSE = "{name: pacs, ae_title: PACS, host: pacs, port: 104"


def written(folder: Path, *archives: str) -> Path:
    path = folder / "node.yaml"
    path.write_text("archives:\n" + "".join(f"  - {archive}\n" for archive in archives))
    return path


@pytest.mark.parametrize(
    ("archive", "fault"),
    [
        (DIMSE + ", window: 22-06}", "window"),
        (DIMSE + ', window: "24:00-06:00"}', "window"),
        (DIMSE + ', window: "06:00-06:00"}', "it begins when it ends; null = at any time"),
        (DIMSE + ", studies_per_minute: 0}", "studies_per_minute"),
        (DIMSE + ", retrieve: c-get}", "retrieve"),
        (DIMSE + ", kind: wado}", "known are dimse, dicomweb"),
        (DIMSE + ", tls: {key: a.key}}", "archives: pacs: tls: certificate and key belong"),
        (DIMSE + ", url: 1}", r"node.yaml:2: archives.0.url: unknown key; known here: ae_title"),
        (DIMSE + ", tls: {cert: a}}", "known here: ca"),
        ("{name: web, kind: dicomweb, url: 'https://a', port: 1}", "known here: ca, .*token_file"),
        (
            "{name: web, kind: dicomweb, url: 'https://a', user: me}",
            "password_file belong together",
        ),
    ],
)
def test_an_archive_that_cannot_work_is_refused_with_its_key(
    tmp_path: Path, archive: str, fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(written(tmp_path, archive))


def test_two_archives_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give each archive its own name"):
        load(written(tmp_path, DIMSE + "}", DIMSE + "}"))


def test_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    web = "{name: web, kind: dicomweb, url: 'https://a', token_file: t}"
    path = written(tmp_path, DIMSE + ", tls: {ca: ca.pem}}", web)
    pacs, other = load(path).archives
    assert pacs.tls is not None
    assert (pacs.tls.ca, other.token_file) == (tmp_path / "ca.pem", tmp_path / "t")
