import threading

from dicom_node.receive.budget import FREE_BYTES, Budget, Share


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    budget = Budget(1000)
    first, second = Share(budget), Share(budget)
    assert first.hold(FREE_BYTES + 700)
    assert not second.hold(FREE_BYTES + 301)
    assert second.hold(FREE_BYTES + 300)
    assert first.hold(FREE_BYTES + 700)


def test_what_is_given_back_can_be_had_again() -> None:
    budget = Budget(1000)
    first, second = Share(budget), Share(budget)
    assert first.hold(FREE_BYTES + 1000)
    assert first.hold(0)
    assert second.hold(FREE_BYTES + 1000)


def test_ordinary_messages_need_none_of_it() -> None:
    budget = Budget(1000)
    assert Share(budget).hold(FREE_BYTES + 1000)
    assert Share(budget).hold(FREE_BYTES)


def test_threads_take_and_give_back_the_same() -> None:
    budget = Budget(8 * 1000)
    full = [False]

    def work() -> None:
        share = Share(budget)
        for number in range(2000):
            full[0] |= not share.hold(FREE_BYTES + number % 1000 + 1)
        share.hold(0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not full[0]
    assert budget.take(8000)
    assert not budget.take(1)
