from dicom_node.receive.statuses import STATUSES, SUCCESS


def test_every_failure_has_its_own_code_and_cites_its_clause() -> None:
    codes = [status.code for status in STATUSES]
    assert len(set(codes)) == len(codes)
    assert all(status.clause.startswith("PS3.") for status in STATUSES)


def test_comments_fit_into_error_comment() -> None:
    # (0000,0902) has VR LO: at most 64 characters, no backslash
    for status in STATUSES:
        assert len(status.comment) <= 64
        assert "\\" not in status.comment
        assert bool(status.comment) is (status is not SUCCESS)
