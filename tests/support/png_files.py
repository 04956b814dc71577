"""Build PNG files from chunks."""

import zlib


def png_chunk(kind, data):
    """Return the bytes of one chunk: its length, kind, data and checksum."""
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
