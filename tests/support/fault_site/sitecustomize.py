"""Python imports this at its start when the folder is on PYTHONPATH: arms the fault points."""

import os

from tests.support.faults import HASTE, VARIABLE, hurry, install

if VARIABLE in os.environ:
    install()
if HASTE in os.environ:
    hurry(float(os.environ[HASTE]))
