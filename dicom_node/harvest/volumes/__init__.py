"""From received CT and MR series to de-identified volumes with the labels of their headers.

A series is read when its study is complete. Only voxels of a fixed size, the labels, and keyed
pseudonyms go into the store.
"""

from dicom_node.harvest.volumes.storing import VolumeHarvest

__all__ = ["VolumeHarvest"]
