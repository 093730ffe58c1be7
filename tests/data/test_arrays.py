import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lopbench.core.errors import InvalidInputError
from lopbench.data.arrays import Arrays, array_hash

NUMBERS = st.one_of(
    hnp.integer_dtypes(endianness="="), hnp.floating_dtypes(endianness="=", sizes=(32, 64)), st.just(np.dtype(bool))
)
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
SETS = st.dictionaries(st.sampled_from(["a", "b", "text"]), ARRAYS, min_size=1)


@given(SETS)
def test_what_is_written_is_what_is_opened_with_the_same_hash(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp("entry")
    written = Arrays(arrays=arrays)
    written.write(folder, "", None)
    kept = Arrays.opened(folder)
    assert kept.content_hash == kept.hash() == written.hash("", None) == written.held().content_hash
    assert list(kept.arrays) == list(arrays)
    for name, array in arrays.items():
        assert kept.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(kept.arrays[name], array)


@given(SETS)
def test_order_strides_and_byte_order_are_no_content(arrays):
    turned = {name: array.T.copy().T for name, array in reversed(arrays.items())}
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    assert array_hash(turned) == array_hash(swapped) == array_hash(arrays)


def test_names_types_shapes_and_every_bit_are_content():
    array = np.arange(6, dtype=np.int32)
    others = [
        {"b": array},
        {"a": array.view(np.uint32)},
        {"a": array.reshape(2, 3)},
        {"a": array.reshape(3, 2)},
        {"a": array ^ np.int32(1)},
        {"a": array, "b": array},
        {"a": array[:3], "b": array[3:]},
        {"a": array[:4], "b": array[4:]},
    ]
    assert len({array_hash(arrays) for arrays in [{"a": array}, *others]}) == 1 + len(others)


def test_the_hash_is_pinned():
    # SHA-256 of the JSON and then the two bytes, written down when it was made.
    arrays = {"text": np.frombuffer(b"ab", np.uint8)}
    assert array_hash(arrays) == "befc77b089788168dc2971d88a63a5d5bc3db5c749ca8cfd3d9c42a8987ec0ad"


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"": np.zeros(1)},
        {"../a": np.zeros(1)},
        {1: np.zeros(1)},
        {"a": [1]},
        {"a": np.array([{}])},
        {"a": np.array("x")},
    ],
)
def test_what_cannot_be_kept_is_refused(arrays):
    with pytest.raises(InvalidInputError, match=r"give|name"):
        Arrays(arrays=arrays)


@pytest.mark.parametrize("damage", ["cut", "reshaped", "absent", "meta"])
def test_damage_is_found(tmp_path, damage):
    Arrays(arrays={"a": np.arange(10), "b": np.zeros(3)}).write(tmp_path, "", None)
    file = tmp_path / ("meta.json" if damage == "meta" else "a.npy")
    if damage == "absent":
        file.unlink()
    elif damage == "reshaped":
        np.save(file, np.arange(10).reshape(2, 5))
    else:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises((OSError, ValueError, KeyError, TypeError)):
        Arrays.opened(tmp_path)
