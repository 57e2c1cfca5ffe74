"""Images as PNG (https://www.w3.org/TR/png-3/); arrays need no imaging library."""

import io
import struct
import zlib
from pathlib import PurePosixPath
from typing import Any

from runtide_schemas.errors import InvalidRequest

IMAGES_DIRECTORY = "images"
MAX_PIXELS = 100_000_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
"""Channels to PNG's colour type: grey, RGB, RGBA."""
_PILLOW_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP"}


def series_path(key: str, step: int, timestamp: int, unique: str) -> str:
    """Return where an image of a series lies: MLflow's names, so that its tools find key and step in them."""
    return f"{IMAGES_DIRECTORY}/{key.replace('/', '#')}%step%{step}%timestamp%{timestamp}%{unique}.png"


def encode_image(image: Any, artifact_file: str) -> bytes:
    """Return an image in the format of the file's suffix; formats other than .png need Pillow.

    Args:
        image: a Pillow image, or whatever NumPy makes an array of: height x width, or with 1, 3 or 4 channels behind,
            of whole numbers in 0..255, floats in 0..1, or bools.
        artifact_file: its name.

    Raises:
        InvalidRequest: it is no such image, or the format is not known.
    """
    suffix = PurePosixPath(artifact_file).suffix.lower()
    if suffix not in _PILLOW_FORMATS:
        raise InvalidRequest(f"Image file {artifact_file!r} must end in one of {', '.join(_PILLOW_FORMATS)}")
    if type(image).__module__.startswith("PIL."):
        return _by_pillow(image, suffix)
    png = encode_png(image)
    if suffix == ".png":
        return png
    try:
        from PIL import Image
    except ImportError as error:
        raise InvalidRequest(f"storing {artifact_file!r} needs Pillow; name it .png, or install pillow") from error
    return _by_pillow(Image.open(io.BytesIO(png)), suffix)


def encode_png(image: Any) -> bytes:
    """Return an array as a PNG of 8 bits per channel."""
    import numpy as np

    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # e.g. a tensor on a GPU; its message says what to do
        raise InvalidRequest(f"cannot make an image of a {type(image).__name__}: {error}") from error
    pixels = _as_bytes(array)
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row opens with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 6)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _as_bytes(array: Any) -> Any:
    """Return height x width x channels of uint8."""
    import numpy as np

    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or array.shape[2] not in _COLOR_TYPES or 0 in array.shape:
        raise InvalidRequest(
            f"An image has the shape height x width, or with 1, 3 or 4 channels behind; got {array.shape}"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InvalidRequest(f"An image has at most {MAX_PIXELS} pixels, got {array.shape[0] * array.shape[1]}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "uif":
        raise InvalidRequest(f"An image is of whole numbers, floats or bools, got {array.dtype}")
    most = 1 if array.dtype.kind == "f" else 255
    least, greatest = array.min(), array.max()
    if not (least >= 0 and greatest <= most):  # NaN is not
        raise InvalidRequest(
            f"Pixels of type {array.dtype} lie in 0..{most}, got {least}..{greatest}; scale them first"
        )
    return np.rint(array * 255).astype(np.uint8) if most == 1 else array.astype(np.uint8)


def _by_pillow(image: Any, suffix: str) -> bytes:
    buffer = io.BytesIO()
    try:
        rgb = image.convert("RGB") if suffix in (".jpg", ".jpeg") and image.mode != "RGB" else image
        rgb.save(buffer, format=_PILLOW_FORMATS[suffix])
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"cannot store an image of mode {image.mode} as {suffix}: {error}") from error
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
