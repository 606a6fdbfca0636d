"""Which objects of some classes came since somebody looked last."""

from collections.abc import Iterable

import sqlalchemy as sa

from dicom_node.index.tables import INSTANCE

#: SQLite's own number of a row: the next one is higher than all.
_SERIAL = sa.literal_column("instance.rowid", sa.Integer)


class Newcomers:
    """The order in which instances were registered; made by `Index`."""

    def __init__(self, reads: sa.Engine) -> None:
        self._reads = reads

    def after(self, serial: int, sop_class_uids: Iterable[str]) -> tuple[int, list[str]]:
        """Return the studies of the objects that were registered after others.

        Parameters
        ----------
        serial : int
            What the last call returned; 0 for all. One that the index has not reached counts as 0:
            it was rebuilt since.
        sop_class_uids : iterable of str
            Which objects.

        Returns
        -------
        int
            For the next call.
        list of str
            Study Instance UIDs.
        """
        with self._reads.connect() as connection:
            last = int(
                connection.scalar(sa.select(sa.func.max(_SERIAL)).select_from(INSTANCE)) or 0
            )
            if last == serial:
                return last, []
            first = serial if serial < last else 0
            query = (
                sa.select(INSTANCE.c.study_instance_uid)
                .where(_SERIAL.between(first + 1, last))
                .where(INSTANCE.c.sop_class_uid.in_(sorted(sop_class_uids)))
                .distinct()
            )
            return last, sorted(connection.scalars(query))
