from dicom_node.web import Look, examine


def test_one_fault_is_enough_and_says_its_cure() -> None:
    health = examine(
        [
            Look(name="disk", fault=lambda: "", cure="free space"),
            Look(name="port", fault=lambda: "nobody answers", cure="restart"),
        ]
    )
    assert not health.healthy
    assert health.as_dict() == {
        "healthy": False,
        "checks": [
            {"name": "disk", "healthy": True, "fault": "", "cure": ""},
            {"name": "port", "healthy": False, "fault": "nobody answers", "cure": "restart"},
        ],
    }


def test_a_look_that_the_system_breaks_off_is_a_fault_and_stops_no_other() -> None:
    def broken() -> str:
        raise PermissionError(13, "Permission denied")

    health = examine(
        [
            Look(name="inbox", fault=broken, cure="give the folder back"),
            Look(name="disk", fault=lambda: "", cure="free space"),
        ]
    )
    assert [check.healthy for check in health.checks] == [False, True]
    assert "Permission denied" in health.checks[0].fault
