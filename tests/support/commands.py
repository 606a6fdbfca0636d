"""Run ``python -m training`` in this process: importing torch anew each time would take seconds."""

import sys

import pytest

from training.__main__ import main

#: A run of seconds.
SMALL = (
    *("--encoder", "small", "--encoder-width", "4", "--epochs", "1", "--batch-size", "8"),
    *("--height", "64", "--width", "64", "--accelerator", "cpu", "--precision", "32-true"),
)


def status_of(*arguments: object) -> int:
    """Return the exit status of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["training", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    return int(left.value.code or 0)
