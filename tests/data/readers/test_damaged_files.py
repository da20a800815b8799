"""Damaged files of data sets: never a traceback, never a silent loss."""

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cl2cm.data.official_numbers import differences
from fixtures.datasets import FIXTURES, STORED, Damage, Fixture, as_published, damage, judge

CASES = 200


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folder and what is read of it, by name; made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            folder = FIXTURES[name].write(tmp_path_factory.mktemp("fuzz") / "source")
            made[name] = folder, FIXTURES[name].read(folder)
        return made[name]

    return get


@pytest.mark.parametrize("name", FIXTURES)
@settings(
    max_examples=-(-CASES // len(FIXTURES)),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_damage_is_refused_or_said_or_loses_nothing(prepared, name, seed):
    folder, whole = prepared(name)
    done = damage(random.Random(seed), folder)
    try:
        judge(FIXTURES[name], whole, folder, done)
    finally:
        done.undo()


@pytest.mark.parametrize("name", FIXTURES)
def test_whole_files_meet_their_own_numbers(prepared, name):
    folder, whole = prepared(name)
    assert whole.examples
    assert differences(whole.examples, as_published(whole, whole)) == []
    path = next(path for path in folder.rglob("*") if path.is_file())
    done = Damage(path, "nothing", path.read_bytes())
    assert judge(FIXTURES[name], whole, folder, done) == "unharmed"


class Careless(Fixture):
    """A reader that loses the captions of an item, and adapts its protocol to what it has."""

    def read(self, folder):
        data = super().read(folder)
        examples = [replace(data.examples[0], captions={}), *data.examples[1:]]
        splits = {name: replace(s, captions={}) for name, s in data.protocol.splits.items()}
        return replace(
            data, examples=examples, protocol=replace(data.protocol, splits=splits, free=True)
        )


def test_a_silent_loss_would_be_seen(prepared):
    folder, whole = prepared("mscoco")
    path = folder / "dataset_coco.json"
    done = Damage(path, "flip", path.read_bytes())
    careless = Careless("mscoco", FIXTURES["mscoco"].make, STORED)
    with pytest.raises(AssertionError, match=r"a silent loss: flip of dataset_coco\.json"):
        judge(careless, whole, folder, done)


def test_damage_is_the_same_for_the_same_seed_and_can_be_undone(tmp_path):
    folder = FIXTURES["xtd10"].write(tmp_path / "source")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    changed = set()
    for seed in range(30):
        done = [damage(random.Random(seed), folder)]
        after = done[0].path.read_bytes() if done[0].path.exists() else None
        done[0].undo()
        done.append(damage(random.Random(seed), folder))
        assert after == (done[1].path.read_bytes() if done[1].path.exists() else None)
        done[1].undo()
        changed.add(done[0].what)
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(changed) > 5
