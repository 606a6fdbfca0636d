"""Which tests may run beside others: those that only compute.

A test that listens, kills, or measures time or memory does not, nor does any test of a folder that
is not named here. `make test` runs the first on all cores, then the others, two files at a time, at
last, one by one, those that are marked `alone`.
"""

from typing import Final

import pytest

MARK: Final = "beside"
#: Below `tests`: the tests of these folders and modules only compute, but for what says otherwise.
_COMPUTE: Final = (
    "dicom_node/bundle",
    "dicom_node/cli/test_cli.py",
    "dicom_node/cli/test_databases.py",
    "dicom_node/cli/test_lazy.py",
    "dicom_node/cli/test_machine.py",
    "dicom_node/cli/test_queue.py",
    "dicom_node/cli/test_status.py",
    "dicom_node/cli/test_trial_removal.py",
    "dicom_node/cli/test_trial_steps.py",
    "dicom_node/harvest",
    "dicom_node/infer/test_choice.py",
    "dicom_node/node/test_backup.py",
    "dicom_node/node/test_freezing.py",
    "dicom_node/node/test_upgrade.py",
    "dicom_node/page",
    "dicom_node/phantom",
    "dicom_node/pixels",
    "dicom_node/results",
    "dicom_node/store",
    "dicom_node/test_completion.py",
    "dicom_node/test_config.py",
    "dicom_node/test_forms.py",
    "dicom_node/test_index.py",
    "dicom_node/test_index_evidence.py",
    "dicom_node/test_index_paging.py",
    "dicom_node/test_ladder.py",
    "dicom_node/test_notices.py",
    "dicom_node/test_outages.py",
    "dicom_node/test_outbox.py",
    "dicom_node/test_outbox_lacking.py",
    "dicom_node/test_promises.py",
    "models",
    "project",
    "training",
)
#: What says otherwise: marks, and fixtures of what listens.
_ALONE_MARKS: Final = ("alone", "dimse", "viewers")
_ALONE_FIXTURES: Final = ("free_port", "postgres_url", "_postgres_server", "catalogue_url", "s3")


def mark_beside(items: list[pytest.Item]) -> None:
    """Mark the tests that may run beside others."""
    for item in items:
        path = item.nodeid.split("::")[0].removeprefix("tests/")
        is_named = any(path == name or path.startswith(f"{name}/") for name in _COMPUTE)
        if is_named and not _listens_or_kills(item):
            item.add_marker(MARK)


def _listens_or_kills(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return (
        any(item.get_closest_marker(mark) for mark in _ALONE_MARKS)
        or any(name in fixtures for name in _ALONE_FIXTURES)
        # of a store's catalogue: its server listens
        or (
            getattr(item, "callspec", None) is not None
            and item.callspec.params.get("engine") == "postgresql"
        )  # type: ignore[attr-defined]
    )
