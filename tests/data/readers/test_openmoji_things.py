import pytest

from cl2cm.data.readers.openmoji_things import is_flag, split_of, thing, things_of


def test_equal_pictures_join_in_chains():
    digests = {"1F408": "a", "1F408-200D-2B1B": "b", "1F415": "b", "1F415-200D-1F9BA": "c"}
    digests["1F436"] = "c"
    assert len(set(things_of(digests).values())) == 1


@pytest.mark.parametrize(
    "variants",
    [
        "1F468 1F469 1F9D1 1F468-200D-1F9B0 1F469-200D-1F9B3 1F9D4-200D-2640-FE0F 1F471",
        "1F9D1-200D-1F692 1F468-200D-1F692 1F469-200D-1F692",
        "1F6B6 1F6B6-200D-2640-FE0F 1F6B6-200D-2642-FE0F-200D-27A1-FE0F 1F6B6-200D-27A1-FE0F",
        "1F468-200D-1F9BC 1F9D1-200D-1F9BC-200D-27A1-FE0F",
        "1F46A 1F468-200D-1F466 1F469-200D-1F469-200D-1F467-200D-1F466 1F9D1-200D-1F9D1-200D-1F9D2",
        "1F48F 1F468-200D-2764-FE0F-200D-1F48B-200D-1F468",
        "1F491 1F469-200D-2764-FE0F-200D-1F468",
        "1F46B 1F46C 1F46D 1F9D1-200D-1F91D-200D-1F9D1",
        "1F934 1F478 1FAC5",
        "1F385 1F936 1F9D1-200D-1F384",
        "1F474 1F475 1F9D3",
        "1F415 1F415-200D-1F9BA",
        "2764 2764-FE0F-200D-1F525",
        "1F3F3 1F3F3-FE0F-200D-1F308",
    ],
)
def test_variants_are_one_thing(variants):
    assert len({thing(identity) for identity in variants.split()}) == 1


def test_things_apart():
    apart = "1F468 1F9D1-200D-1F692 1F9D1-200D-1F680 1F415 1F436 2640 2642 27A1 0031-FE0F-20E3"
    apart += " 0032-FE0F-20E3 1F46A 1F48F 1F491 1F46B 1F9D2 1F9D3 1F3F3 1F3F4 1F1E9-1F1EA"
    apart += " 1F1EB-1F1F7 1F3F4-E0067-E0062-E0065-E006E-E0067-E007F"
    assert len({thing(identity) for identity in apart.split()}) == len(apart.split())


def test_is_flag():
    flags = "1F1E9-1F1EA 1F1FF-1F1FC 1F3F4-E0067-E0062-E0065-E006E-E0067-E007F"
    others = "1F3F4 1F3F3 1F3F4-200D-2620-FE0F 1F6A9 1F436 1F1E6 1000268201_693b08cb0e"
    assert all(map(is_flag, flags.split()))
    assert not any(map(is_flag, others.split()))


def test_split_is_eighty_ten_ten_and_fixed():
    counts = {"train": 0, "val": 0, "test": 0}
    for number in range(10_000):
        counts[split_of(f"{number:05X}")] += 1
    assert counts["train"] == pytest.approx(8000, abs=150)
    assert counts["val"] == pytest.approx(1000, abs=120)
    assert [split_of(key) for key in ("1F436", "2764", "1F9D1")] == ["train", "val", "test"]
