from dicom_node.page.limits import Allowance


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    clock = Clock()
    allowance = Allowance(at_once=3, a_second=0.5, clock=clock)
    assert [allowance.take("ann") for _ in range(4)] == [0, 0, 0, 2]
    clock.now = 2
    assert allowance.take("ann") == 0
    assert allowance.take("ann") == 2
    clock.now = 1000
    assert [allowance.take("ann") for _ in range(4)] == [0, 0, 0, 2], "never more than that"


def test_one_asker_does_not_use_up_what_another_has() -> None:
    allowance = Allowance(at_once=1, a_second=1, clock=Clock())
    assert allowance.take("ann") == 0
    assert allowance.take("ben") == 0
    assert allowance.take("ann") == 1


def test_what_was_no_misuse_is_given_back() -> None:
    allowance = Allowance(at_once=1, a_second=1, clock=Clock())
    for _ in range(5):
        assert allowance.take("ann") == 0
        allowance.give_back("ann")


def test_askers_without_end_take_no_memory_without_end() -> None:
    allowance = Allowance(at_once=1, a_second=1, clock=Clock())
    for number in range(5000):
        allowance.take(str(number))
    assert len(allowance._left) == 4096
    assert allowance.take("4999") == 1, "the last ones are remembered"
    assert allowance.take("0") == 0, "the first ones are not"
