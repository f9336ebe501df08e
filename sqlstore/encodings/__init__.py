"""Encodings: a value to bytes, and back.

========  ===========================================================  =======================
name      takes                                                        gives back
========  ===========================================================  =======================
bytes     bytes, bytearray, memoryview                                 bytes
utf8      str                                                          str
int       integers of any size                                         int
i64, u64  integers of 64 bits, with and without a sign                 int
json      what JSON can hold                                           the same
msgpack   what MessagePack can hold (needs msgpack)                    the same
array     NumPy arrays and scalars of any dtype that holds no objects  numpy.ndarray
npy       the same as an ``.npy`` file, or the bytes of one            numpy.ndarray
tree      nested dicts, lists and tuples of arrays, bytes, text,       the same
          numbers, bools and None
png       arrays (H, W), (H, W, 2), (H, W, 3), (H, W, 4) of uint8 or   numpy.ndarray
          (H, W) of uint16; Pillow images; the bytes of a PNG file
jpg       the bytes of a JPEG file; with some loss, at quality 95,     numpy.ndarray
          arrays (H, W) or (H, W, 3) of uint8 and Pillow images
pickle    any object; only with ``allow_pickle=True``                  an equal object
========  ===========================================================  =======================

With ``[]`` behind the name, a sequence of such values of any length.
"""

from sqlstore.encodings.arrays import stacked_arrays
from sqlstore.encodings.base import Encoding
from sqlstore.encodings.registry import ENCODINGS, Encodings, OwnEncoding

__all__ = ["ENCODINGS", "Encoding", "Encodings", "OwnEncoding", "stacked_arrays"]
