from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from tests.support.packs import Still, filled, mask, patients
from training import pack
from training.config import Size

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

SIZE = Size(height=64, width=96)
COUNT = 7


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> pack.Pack:
    folder = tmp_path_factory.mktemp("packs")
    labels = [{"quality": n % 5, "mask": mask(n)} if n % 2 else {} for n in range(COUNT)]
    of = patients("train", COUNT)
    stills = [Still(patient=who, label=said) for who, said in zip(of, labels, strict=True)]
    return pack.build(filled(folder / "store", stills), folder / "pack", SIZE)


@pytest.mark.parametrize(
    ("workers", "start"), [(0, None), (2, "fork"), (1, "spawn")], ids=["own", "forked", "spawned"]
)
def test_a_data_loader_gives_batches_of_the_rows_that_were_drawn(
    packed: pack.Pack, workers: int, start: str | None
) -> None:
    places = [5, 0, 6, 2, 2]
    loader = torch.utils.data.DataLoader(
        packed, sampler=places, batch_size=2, num_workers=workers, multiprocessing_context=start
    )
    batches = list(loader)
    assert [len(batch["frames"]) for batch in batches] == [2, 2, 1]
    for name, expected in packed[places].items():
        found = torch.cat([batch[name] for batch in batches]).numpy()
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def test_a_collating_of_ones_own_gets_samples(packed: pack.Pack) -> None:
    loader = torch.utils.data.DataLoader(packed, batch_size=3, collate_fn=list)
    first = next(iter(loader))[1]
    assert set(first) == set(packed[1])
    assert len(first) == len(packed[1])
    assert np.array_equal(first["frames"], packed.frames[1])


def test_pixels_do_not_travel_with_a_pack(packed: pack.Pack) -> None:
    assert len(ForkingPickler.dumps(packed)) < 1000
