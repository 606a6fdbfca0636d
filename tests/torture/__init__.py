"""The torture harness: kill the node at every step while modalities send, and count what is left.

::

    python -m tests.torture --kills 200 --seed 0
"""
