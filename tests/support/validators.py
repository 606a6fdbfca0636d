"""Other people's validators of DICOM objects."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_JAR = Path("/usr/share/java/pixelmed.jar")
_LIMITS = "-Djdk.xml.xpathExprOpLimit=0 -Djdk.xml.xpathTotalOpLimit=0 -Djdk.xml.xpathExprGrpLimit=0"
#: What dciodvfy says of a UID that is illegal in the source and has to be copied.
_ILLEGAL_UID = re.compile(
    r"Illegal root for UID|invalid for this VR \[UI\]|UID.*(Leading zero|longer than)"
)


def dciodvfy_errors(path: Path) -> list[str]:
    """Return the errors that dicom3tools finds; skips the test where it is not installed."""
    program = "/usr/bin/dciodvfy"
    if not Path(program).exists():
        pytest.skip("dciodvfy is missing: apt-get install dicom3tools")
    done = subprocess.run(
        [program, "-new", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert lines, "dciodvfy said nothing, not even the name of the IOD"
    return [line for line in lines if line.startswith(("Error", "Abort"))]


def without_illegal_uids(errors: list[str]) -> list[str]:
    """Drop the errors about UIDs that the source brought and a result must repeat."""
    return [error for error in errors if not _ILLEGAL_UID.search(error)]


def pixelmed_errors(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Return the errors that PixelMed's SR validator finds in each file.

    With a JDK one JVM serves all files (1 s each); with a JRE each file takes one (5 s).
    """
    if not _JAR.exists():
        pytest.skip("PixelMed is missing: apt-get install pixelmed-apps")
    if shutil.which("javac", path="/usr/bin"):
        return _by_file(
            _java([str(Path(__file__).parent / "ValidateReports.java"), *map(str, paths)])
        )
    return {
        path: _checked(_java(["com.pixelmed.validate.DicomSRValidator", str(path)]))
        for path in paths
    }


def _java(arguments: list[str]) -> str:
    done = subprocess.run(
        ["/usr/bin/java", "-cp", str(_JAR), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "JAVA_TOOL_OPTIONS": _LIMITS},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _by_file(output: str) -> dict[Path, list[str]]:
    parts = re.split(r"^file: (.*)$", output, flags=re.MULTILINE)[1:]
    return {Path(name): _checked(said) for name, said in zip(parts[::2], parts[1::2], strict=True)}


def _checked(output: str) -> list[str]:
    """Return the errors; a validator that did not get to its end is no witness."""
    assert "Root Template Validation Complete" in output, output
    assert "IOD validation complete" in output, output
    return [line for line in output.splitlines() if line.startswith("Error")]
