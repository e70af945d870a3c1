"""xxh3-64 of many parts of a buffer in one call, which lets go of the interpreter's lock for all of it.

A call of `xxhash` for each part gives the same digests, and this is what short parts, and those that do not begin at
whole words, still get. Source: Collet, xxHash, "XXH3", its default secret and no seed, for inputs of more than 240
bytes; https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
"""

import sys

import numpy as np
import numpy.typing as npt
import xxhash

from .jit import compiled

_LONG = 240
"""Bytes up to which XXH3 has other ways."""
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_Words = npt.NDArray[np.uint64]
_P32_1, _P32_2, _P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_START = np.array([_P32_3, _P1, _P2, _P3, _P4, _P32_2, _P5, _P32_1], np.uint64)


def _secret_at(place: int) -> _Words:
    return np.frombuffer(_SECRET[place : place + 64], "<u8").astype(np.uint64)


_OF_STRIPE = np.stack([_secret_at(8 * stripe) for stripe in range(16)])
_SCRAMBLE, _OF_LAST, _OF_MERGE = _secret_at(128), _secret_at(121), _secret_at(11)


def xxh3_of_parts(
    buffer: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """xxh3-64 of parts of a buffer; of a part that reaches beyond its end, of what is there.

    Args:
        buffer: uint8 [bytes], contiguous.
        starts, sizes: int64 [n], bytes.

    Returns:
        uint64 [n].
    """
    found = np.empty(len(starts), np.uint64)
    fast = (sizes > _LONG) & (starts % 8 == 0) & (starts >= 0) & (starts + sizes <= len(buffer))
    if sys.byteorder != "little" or buffer.ctypes.data % 8:
        fast[:] = False
    if fast.any():
        words = buffer[: len(buffer) // 8 * 8].view(np.uint64)
        rows = np.flatnonzero(fast)
        _long(buffer, words, starts, sizes, rows, (_START, _OF_STRIPE, _SCRAMBLE, _OF_LAST, _OF_MERGE), found)
    for row in np.flatnonzero(~fast).tolist():
        start = int(starts[row])
        found[row] = xxhash.xxh3_64_intdigest(buffer[start : start + int(sizes[row])].data)
    return found


@compiled
def _long(
    buffer: npt.NDArray[np.uint8],
    words: _Words,
    starts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    constants: tuple[_Words, _Words, _Words, _Words, _Words],
    found: _Words,
) -> None:
    """Digests of some rows, of more than 240 bytes each, that begin at whole words.

    Of eight lanes, each adds up products of its own words, and its neighbour's words as they are. Within a block of
    sixteen stripes the order of additions does not matter, so halves are added to halves: loops that become vectors.
    """
    start, of_stripe, scramble, of_last, of_merge = constants
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    secret = of_stripe.reshape(128)
    lanes, products, plain = np.empty(8, np.uint64), np.empty(64, np.uint64), np.empty(64, np.uint64)
    for row in rows:
        size, at = sizes[row], starts[row] // 8
        blocks, stripes = (size - 1) // 1024, (size - 1) % 1024 // 64
        lanes[:] = start
        for _ in range(blocks):
            block = words[at : at + 128]
            for place in range(64):
                first, second = block[place] ^ secret[place], block[place + 64] ^ secret[place + 64]
                products[place] = (first & low) * (first >> half) + (second & low) * (second >> half)
                plain[place] = block[place] + block[place + 64]
            for place in range(32):
                products[place] += products[place + 32]
                plain[place] += plain[place + 32]
            for place in range(16):
                products[place] += products[place + 16]
                plain[place] += plain[place + 16]
            for lane in range(8):
                total = lanes[lane] + products[lane] + products[lane + 8] + plain[lane ^ 1] + plain[(lane ^ 1) + 8]
                lanes[lane] = (total ^ (total >> np.uint64(47)) ^ scramble[lane]) * np.uint64(0x9E3779B1)
            at += 128
        for stripe in range(stripes):
            for lane in range(8):
                word = words[at + lane]
                keyed = word ^ of_stripe[stripe, lane]
                lanes[lane ^ 1] += word
                lanes[lane] += (keyed & low) * (keyed >> half)
            at += 8
        for lane in range(8):  # the last 64 bytes, wherever they begin
            word = _word(buffer, starts[row] + size - 64 + 8 * lane)
            keyed = word ^ of_last[lane]
            lanes[lane ^ 1] += word
            lanes[lane] += (keyed & low) * (keyed >> half)
        hashed = np.uint64(size) * np.uint64(0x9E3779B185EBCA87)
        for lane in range(0, 8, 2):
            hashed += _folded(lanes[lane] ^ of_merge[lane], lanes[lane + 1] ^ of_merge[lane + 1])
        hashed ^= hashed >> np.uint64(37)
        hashed *= np.uint64(0x165667919E3779F9)
        found[row] = hashed ^ (hashed >> half)


@compiled
def _word(buffer: npt.NDArray[np.uint8], place: int) -> np.uint64:
    """Eight bytes from any place, the first one lowest."""
    found = np.uint64(0)
    for byte in range(8):
        found |= np.uint64(buffer[place + byte]) << np.uint64(8 * byte)
    return found


@compiled
def _folded(first: np.uint64, second: np.uint64) -> np.uint64:
    """The upper half of a product of 128 bits, exclusive or the lower."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    first_low, first_high, second_low, second_high = first & low, first >> half, second & low, second >> half
    lowest, left, right = first_low * second_low, first_high * second_low, first_low * second_high
    carried = (lowest >> half) + (left & low) + right
    upper = (left >> half) + (carried >> half) + first_high * second_high
    return upper ^ ((carried << half) | (lowest & low))
