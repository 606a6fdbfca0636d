"""Python imports this at its start when the folder is on PYTHONPATH: arms the fault points."""

import os

from tests.support.faults import VARIABLE, install

if VARIABLE in os.environ:
    install()
