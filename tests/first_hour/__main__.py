"""The first hour, timed: ``python -m tests.first_hour``."""

import sys
import tempfile
from pathlib import Path

from tests.first_hour.hour import FirstHour, found_storescu


def main() -> int:
    """Do it in a new folder and print the table."""
    storescu = found_storescu()
    if storescu is None:
        sys.stderr.write("DCMTK's storescu is not there: apt-get install dcmtk\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="first-hour-") as folder:
        hour = FirstHour(folder=Path(folder), storescu=storescu)
        hour.run()
    sys.stdout.write(hour.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
