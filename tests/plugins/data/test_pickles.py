import os
import pickle
import struct

import numpy as np
import pytest
from pickled import python2_pickle, python3_pickle

from lopbench_plugins.data._pickles import Inert, byte_array, unpickled

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


class Evil:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    "content",
    [
        python2_pickle(ARRAY, [1, 1000, 3]),
        python3_pickle({"data": ARRAY, "labels": [1, 1000, 3], "mean": ARRAY.mean(axis=0)}),
        python3_pickle({"data": np.asfortranarray(ARRAY), "labels": [1, 1000, 3]}),
        python3_pickle({b"data": ARRAY, b"labels": [1, 1000, 3]}),
    ],
)
def test_arrays_are_decoded_whoever_wrote_them(content):
    loaded = unpickled(content)
    assert type(loaded["data"]) is Inert
    decoded = byte_array(loaded["data"])
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, ARRAY)
    assert loaded["labels"] == [1, 1000, 3]


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, getattr, Evil])
def test_whatever_a_pickle_names_is_refused_and_not_run(tmp_path, function, protocol):
    content = pickle.dumps({"data": Evil(function, f"mkdir {tmp_path / 'made'}")}, protocol)
    with pytest.raises(pickle.UnpicklingError, match="has no place in a file of images"):
        unpickled(content)
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_numpys_stands_for_nothing_of_numpys():
    loaded = unpickled(b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\nU\x01x\x85Rs.")
    assert type(loaded["a"]) is Inert


@pytest.mark.parametrize("name", ["posix\nsystem", "os\nsystem", "numpy\nload", "numpy\nfrompyfunc", "builtins\nexec"])
@pytest.mark.parametrize("code", [b"c%s\n(S'touch made'\ntR.", b"(S'touch made'\ni%s\n."])
def test_a_function_named_by_hand_is_refused(name, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match="has no place in a file of images"):
        unpickled(code % name.encode())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        python2_pickle(ARRAY, [1, 2, 3])[:-30],
        python2_pickle(ARRAY, [1, 2, 3])[:-1],
        pickle.dumps([1, 2]),
        pickle.dumps({1: 2}),
        b"\x80\x02K\x01K\x02R.",  # calls a number
        b"\x80\x02}cnumpy\nndarray\n}b.",  # sets the class that stands for arrays
        b"\x80\x02}U\x01aU\x01xQs.",  # asks for an object by its id
        b"\x80\x02\x82\x01.",  # a registered extension
    ],
)
def test_a_damaged_pickle_and_one_of_something_else_is_refused(content):
    with pytest.raises(pickle.UnpicklingError) as caught:
        unpickled(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2],
        b"bytes",
        ARRAY.astype(np.float32),
        ARRAY.astype(np.int8),
        ARRAY[0],
        ARRAY.reshape(3, 2, 2),
        np.array([["a"]], dtype=object),
    ],
)
def test_only_an_array_of_bytes_with_two_axes_is_one(value):
    loaded = unpickled(python3_pickle({"data": value}))
    with pytest.raises(pickle.UnpicklingError, match="array of bytes with two axes"):
        byte_array(loaded["data"])


def test_an_array_with_fewer_bytes_than_its_shape_says_is_refused():
    content = python2_pickle(ARRAY, [1]).replace(
        struct.pack("<cHcH", b"M", 3, b"M", 4), struct.pack("<cHcH", b"M", 4, b"M", 4)
    )
    with pytest.raises(pickle.UnpicklingError, match="array of bytes with two axes"):
        byte_array(unpickled(content)["data"])
