"""How many frames the store has of which group and geometry."""

from dicom_node.store import WeakLabelStore

NO_GROUP = "no group"


def counted(store: WeakLabelStore) -> dict[str, dict[str, int]]:
    """Count the frames of a store; a frame counts in each of its groups.

    Returns
    -------
    dict
        Group to geometry to number of frames.
    """
    table: dict[str, dict[str, int]] = {}
    for one in store.label_counts():
        for group in sorted(one.groups) or [NO_GROUP]:
            row = table.setdefault(group, {})
            row[one.geometry.value] = row.get(one.geometry.value, 0) + one.frames
    return table
