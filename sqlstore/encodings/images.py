"""Images: PNG without loss, and JPEG."""

from __future__ import annotations

import io
import sys
from abc import abstractmethod
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from sqlstore.encodings import fast_images
from sqlstore.encodings.arrays import check_unmasked
from sqlstore.encodings.base import Encoding, as_bytes
from sqlstore.errors import DecodeError, EncodeError, MissingPackageError
from sqlstore.types import Buffer

if TYPE_CHECKING:
    from types import ModuleType

JPEG_QUALITY: Final = 95


class _Image(Encoding):
    """What PNG and JPEG have in common.

    Attributes
    ----------
    format
        Pillow's name.
    signature
        How files begin.
    modes
        Of Pillow images that can be stored.
    depths
        Dtypes of arrays, without byte order, by number of channels.
    """

    parallel = True
    gives_arrays = True
    format: ClassVar[str]
    signature: ClassVar[bytes]
    modes: ClassVar[frozenset[str]]
    depths: ClassVar[dict[int, tuple[str, ...]]]
    expected: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}

    def encode(self, value: Any) -> Buffer:
        given = as_bytes(value)
        if given is not None:
            if not given.startswith(self.signature):
                raise EncodeError(f"these bytes are not a {self.format} file")
            return given
        image = self._image(value)
        if image.mode not in self.modes:
            raise EncodeError(
                f"Pillow images of mode {image.mode} are not stored as {self.format}, only "
                f'{", ".join(sorted(self.modes))}; convert it, as in `image.convert("RGB")`'
            )
        stream = io.BytesIO()
        try:
            _check_pixels(image)
            image.save(stream, self.format, **self.settings)
        except Exception as error:  # Pillow may have to read it first: see below
            raise EncodeError(f"this image cannot be stored: {error}") from error
        return stream.getvalue()

    def _image(self, value: Any) -> Any:
        pillow = _pillow()
        if isinstance(value, pillow.Image):
            return value
        if not isinstance(value, np.ndarray):
            raise EncodeError(
                f"expected a NumPy array, Pillow image or the bytes of a {self.format} file, "
                f"got {type(value).__name__}{_remedy(value)}"
            )
        check_unmasked(value)
        channels = {2: 1, 3: value.shape[-1] if value.ndim == 3 else 0}.get(value.ndim, 0)
        allowed = () if value.ndim == 3 and channels == 1 else self.depths.get(channels, ())
        if value.dtype.str[1:] not in allowed or not value.size:
            raise EncodeError(
                f"an array of shape {value.shape} and dtype {value.dtype} is not stored as "
                f"{self.format}; expected {self.expected}"
            )
        return pillow.fromarray(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))

    def decode(self, data: Buffer) -> np.ndarray[Any, Any]:
        pixels = fast_images.decode(data, self.format)
        return self._decode(data) if pixels is None else pixels

    def _decode(self, data: Buffer) -> np.ndarray[Any, Any]:
        _pillow()
        try:
            # Not by `Image.open`, which warns of an image half as large as the largest allowed.
            with self._opened(io.BytesIO(data)) as image:
                _check_pixels(image)
                return np.array(_plain(image))
        except Exception as error:  # its readers raise whatever occurs to them
            raise DecodeError(f"not a {self.format} image: {error}") from error

    @abstractmethod
    def _opened(self, stream: io.BytesIO) -> Any:
        """Return Pillow's image of a file."""


class Png(_Image):
    """PNG: arrays come back as they were."""

    format = "PNG"
    signature = b"\x89PNG\r\n\x1a\n"
    modes = frozenset({"L", "LA", "RGB", "RGBA", "I;16"})
    depths: ClassVar = {1: ("u1", "u2"), 2: ("u1",), 3: ("u1",), 4: ("u1",)}
    expected = "(H, W), (H, W, 2), (H, W, 3) or (H, W, 4) of uint8, or (H, W) of uint16"

    def _opened(self, stream: io.BytesIO) -> Any:
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(stream)


class Jpg(_Image):
    """JPEG: the bytes of a file are kept as they are; of arrays and images a little is lost."""

    format = "JPEG"
    signature = b"\xff\xd8\xff"
    modes = frozenset({"L", "RGB", "CMYK"})
    depths: ClassVar = {1: ("u1",), 3: ("u1",)}
    expected = "(H, W) or (H, W, 3) of uint8"
    settings: ClassVar = {"quality": JPEG_QUALITY, "subsampling": 0}

    def _opened(self, stream: io.BytesIO) -> Any:
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile(stream)


def _remedy(value: Any) -> str:
    """Return what to do with what is no image, but names or holds one."""
    if isinstance(value, (str, PurePath)):
        return "; of a file, give what it holds: `Path(...).read_bytes()`"
    return "; `numpy.asarray` may make an array of it" if hasattr(value, "__array__") else ""


def _check_pixels(image: Any) -> None:
    """Refuse an image that would fill the memory: Pillow's own limit, which people can change."""
    limit = _pillow().MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > 2 * limit:
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than twice "
            f"PIL.Image.MAX_IMAGE_PIXELS ({limit})"
        )


def _plain(image: Any) -> Any:
    """Return the image without palette or inks, so that every pixel is what a person sees."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "CMYK":
        return image.convert("RGB")
    return image.convert("L") if image.mode == "1" else image


def is_image(value: object) -> bool:
    """Return whether this is an image of Pillow."""
    pillow = sys.modules.get("PIL.Image")  # whoever has an image has imported it
    return pillow is not None and isinstance(value, pillow.Image)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("images need Pillow: pip install 'sqlstore[images]'") from error
    return Image
