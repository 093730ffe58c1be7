"""Batches of images as older versions of Python and numpy pickled them."""

import pickle
import struct


def python2_pickle(images, labels):
    """Return a batch of images ``(N, D)`` with their labels, up to 65,535, as Python 2 and its numpy wrote it."""
    shape = struct.pack("<cHcH", b"M", images.shape[0], b"M", images.shape[1]) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + b"U\x02u1K\x00K\x01\x87R" + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + b"cnumpy\nndarray\n"
        + b"K\x00\x85U\x01b\x87R(K\x01"
        + shape
        + dtype
        + b"\x89T"
        + struct.pack("<I", images.nbytes)
        + images.tobytes()
        + b"tb"
    )
    numbers = b"](" + b"".join(struct.pack("<cH", b"M", label) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def python3_pickle(value):
    """Return a pickle of Python 3 and numpy 1, in which one module had another name than it has now."""
    return pickle.dumps(value, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
