"""Images decoded by imagecodecs are, pixel for pixel, what Pillow makes of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sqlstore import DecodeError
from sqlstore.encodings import ENCODINGS, fast_images
from sqlstore.encodings.images import _Image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 31, 4), np.uint8)
PHOTO = Image.fromarray(PIXELS).convert("RGB").resize((64, 48))


def saved(image: Image.Image, kind: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def by_pillow(kind: str, data: bytes) -> np.ndarray[Any, Any]:
    encoding = ENCODINGS[kind]
    assert isinstance(encoding, _Image)
    return encoding._decode(data)


PLAIN_PNG = {
    **{mode: saved(PHOTO.convert(mode), "PNG") for mode in ("L", "LA", "RGB", "RGBA")},
    "grey of 16 bits": saved(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "PNG"),
    "one pixel": saved(PHOTO.crop((0, 0, 1, 1)), "PNG"),
    "stored": saved(PHOTO, "PNG", compress_level=0),
}
OTHER_PNG = {
    "palette": saved(PHOTO.convert("P"), "PNG"),
    "one bit": saved(PHOTO.convert("1"), "PNG"),
    "a transparent colour": saved(PHOTO, "PNG", transparency=(1, 2, 3)),
    "a long profile": saved(PHOTO, "PNG", icc_profile=np.random.default_rng(1).bytes(9000)),
}
PLAIN_JPG = {
    "RGB": saved(PHOTO, "JPEG"),
    "grey": saved(PHOTO.convert("L"), "JPEG"),
    "progressive": saved(PHOTO, "JPEG", progressive=True),
    "not halved": saved(PHOTO, "JPEG", subsampling=0, quality=97),
    "no other colours": saved(PHOTO, "JPEG", keep_rgb=True),
    "with EXIF": saved(PHOTO, "JPEG", exif=b"Exif\0\0" + bytes(3000)),
}
OTHER_JPG = {"inks": saved(PHOTO.convert("CMYK"), "JPEG"), "cut": PLAIN_JPG["RGB"] + b"\0"}
PLAIN = [("png", name) for name in PLAIN_PNG] + [("jpg", name) for name in PLAIN_JPG]
OTHER = [("png", name) for name in OTHER_PNG] + [("jpg", name) for name in OTHER_JPG]


@pytest.mark.parametrize(("kind", "name"), PLAIN)
def test_plain_images_are_decoded_fast_and_alike(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (PLAIN_PNG if kind == "png" else PLAIN_JPG)[name]
    expected = by_pillow(kind, data)
    monkeypatch.setattr(_Image, "_decode", lambda *_: pytest.fail("Pillow was asked"))
    for given_as in (bytes, bytearray, memoryview):
        found = ENCODINGS[kind].decode(given_as(data))
        assert found.dtype == expected.dtype
        assert found.flags.writeable
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kind", "name"), OTHER)
def test_other_images_are_left_to_pillow(kind: str, name: str) -> None:
    data = {**OTHER_PNG, **OTHER_JPG}[name]
    assert fast_images.decode(data, {"png": "PNG", "jpg": "JPEG"}[kind]) is None
    np.testing.assert_array_equal(ENCODINGS[kind].decode(data), by_pillow(kind, data))


def test_large_images_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_images, "MOST_PIXELS", 64 * 48 - 1)
    assert fast_images.decode(PLAIN_PNG["RGB"], "PNG") is None
    assert fast_images.decode(PLAIN_JPG["RGB"], "JPEG") is None


@settings(max_examples=60)
@given(st.sampled_from(PLAIN), st.data())
def test_what_is_damaged_is_an_image_or_a_decode_error(
    which: tuple[str, str], data: st.DataObject
) -> None:
    kind, name = which
    image = bytearray((PLAIN_PNG if kind == "png" else PLAIN_JPG)[name])
    if data.draw(st.booleans()):
        del image[data.draw(st.integers(0, len(image) - 1)) :]
    else:
        image[data.draw(st.integers(0, len(image) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = ENCODINGS[kind].decode(bytes(image))
    except DecodeError:
        return
    assert found.ndim in (2, 3)
