"""JPEG lossless (process 14, first-order prediction) by hand, after ITU-T T.81 Annex H: no pinned codec writes it."""

import struct

import numpy as np

_CATEGORIES = 17
_CODE_BITS = 5  # every category has a code of five bits


def jpeg_lossless(image):
    """A stream of one component of 16 bits; `image` is uint16 `(y, x)`."""
    rows, columns = image.shape
    values = image.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << 15
    difference = (values - predicted + (1 << 15)) % (1 << 16) - (1 << 15)
    size = np.abs(difference)
    category = np.where(size > 0, np.floor(np.log2(np.maximum(size, 1))).astype(np.int64) + 1, 0)
    extra = np.where(difference >= 0, difference, difference + (1 << category) - 1)
    bits = "".join(
        format(kind, f"0{_CODE_BITS}b") + (format(rest, f"0{kind}b") if 0 < kind < _CATEGORIES - 1 else "")
        for kind, rest in zip(category.ravel().tolist(), extra.ravel().tolist(), strict=True)
    )
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    table = bytes([0, *[0] * (_CODE_BITS - 1), _CATEGORIES, *[0] * (16 - _CODE_BITS), *range(_CATEGORIES)])
    frame = struct.pack(">BHHBBBB", 16, rows, columns, 1, 1, 0x11, 0)
    scan = bytes([1, 1, 0, 1, 0, 0])

    def segment(marker, body):
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    return b"\xff\xd8" + segment(0xC4, table) + segment(0xC3, frame) + segment(0xDA, scan) + data + b"\xff\xd9"
