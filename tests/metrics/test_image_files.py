"""Reference images: any PNG or JPEG file is read exactly, or refused with the reason."""

import io
import os
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageCms

from ggf_cli.errors import UsageError
from ggf_cli.metrics.image_files import FORMATS, OTHERS, find_images, read_levels, upright_size
from ggf_cli.metrics.reference_files import ImageFolder
from png_files import png_chunk

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
ORIENTATION = 0x0112


def low(bits):
    """Grey levels of `bits` bits."""
    return GREY & np.uint8(min(2**bits, 256) - 1)


def three(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, -1)


# --- PNG files made here, because Pillow writes few of the kinds ---------------------------------

GREYS, COLOURS, PALETTE, GREYS_ALPHA, COLOURS_ALPHA = 0, 2, 3, 4, 6


def packed(rows, depth):
    """Rows of numbers, each without a filter, most significant bit first."""
    if depth == 16:
        return b"".join(b"\0" + np.asarray(row, ">u2").tobytes() for row in rows)
    columns = (np.asarray(row, np.uint8).reshape(-1, 1) for row in rows)
    bits = [np.unpackbits(column, axis=1)[:, -depth:] for column in columns]
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)


def interlaced(levels, depth):
    """The seven passes of Adam7."""
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    parts = [levels[y::dy, x::dx] for y, x, dy, dx in passes]
    return b"".join(packed(part, depth) for part in parts if part.size)


def png(levels, depth, kind, *, before=b"", after=b"", adam7=False):
    levels = np.asarray(levels)
    height, width = levels.shape[:2]
    pixels = (interlaced if adam7 else packed)(levels, depth)
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(adam7))
    data = png_chunk(b"IHDR", head) + before + png_chunk(b"IDAT", zlib.compress(pixels)) + after
    return b"\x89PNG\r\n\x1a\n" + data + png_chunk(b"IEND", b"")


def saved(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def channels(*arrays):
    return np.concatenate([np.asarray(a).reshape(*GREY.shape, -1) for a in arrays], -1)


OPAQUE = np.full(GREY.shape, 255)
PLTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
SIXTEEN = RNG.integers(0, 2**16, GREY.shape)
ALL_16 = np.arange(2**16).reshape(256, 256)


def indexed(depth, **options):
    palette = png_chunk(b"PLTE", PLTE[: 2**depth].tobytes())
    return png(low(depth), depth, PALETTE, before=palette, **options)


def rgb(*chunks):
    """A PNG file of RGB with chunks before the pixels."""
    return png(RGB, 8, COLOURS, before=b"".join(chunks))


def gamma(value):
    return png_chunk(b"gAMA", struct.pack(">I", value))


def profile(swap=False):
    """The profile of sRGB, or one with red and blue exchanged."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if not swap:
        return content
    return content.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")


def grey_profile(curve):
    """An ICC profile of grey images with a tone curve of 16-bit numbers, or of one gamma."""
    table = [round(c * 65535) for c in curve] if len(curve) > 1 else [round(curve[0] * 256)]
    curv = b"curv" + bytes(4) + struct.pack(f">I{len(table)}H", len(table), *table)
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, len(curv))
    body = tags + white + curv
    fields = (128 + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    head = struct.pack(">I4sI4s4s4s12x4s", *fields)
    head += bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + body


def srgb_curve(n=1024):
    ramp = np.linspace(0, 1, n)
    return np.where(ramp <= 0.04045, ramp / 12.92, ((ramp + 0.055) / 1.055) ** 2.4)


def paletted(alpha):
    image = Image.fromarray(GREY % 4, "L").copy()
    image = image.convert("P")
    image.putpalette(PLTE[:4].tobytes())
    return saved(image, transparency=bytes([alpha, 255, 255, 255]))


def with_levels(content):
    """(file, levels as Pillow decodes them)"""
    return content, decoded(content)


def grey_of(depth, **options):
    """(file, levels) of grey of `depth` bits."""
    levels = low(depth) * (255 // (2**depth - 1))
    return png(low(depth), depth, GREYS, **options), three(levels)


def rounded(levels):
    """Levels of 16 bits as levels of 8 bits."""
    return three(np.round(levels * 255 / 65535))


DEPTHS = (1, 2, 4, 8)
IMAGE, FLIPPED = Image.fromarray(RGB), Image.fromarray(RGB[::-1])
GREY_IMAGE = Image.fromarray(GREY)
# An animation of one frame.
ONE_FRAME = (
    png_chunk(b"acTL", struct.pack(">II", 1, 0)),
    png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 7, 5, 0, 0, 1, 1, 0, 0)),
)
SRGB_CHUNK = png_chunk(b"sRGB", b"\0")

RIGHT = {
    **{f"grey of {d} bits": grey_of(d) for d in DEPTHS},
    **{f"grey of {d} bits, interlaced": grey_of(d, adam7=True) for d in DEPTHS},
    "grey of 16 bits": (png(ALL_16, 16, GREYS), rounded(ALL_16)),
    "grey of 16 bits, interlaced": (png(SIXTEEN, 16, GREYS, adam7=True), rounded(SIXTEEN)),
    "grey of 16 bits that were 8": (png(GREY.astype(int) * 257, 16, GREYS), three(GREY)),
    "grey of 16 bits by Pillow": (
        saved(Image.fromarray(SIXTEEN.astype(np.uint16))),
        rounded(SIXTEEN),
    ),
    **{f"palette of {d} bits": (indexed(d), PLTE[low(d)]) for d in DEPTHS},
    "palette, interlaced": (indexed(8, adam7=True), PLTE[GREY]),
    "palette, opaque": (paletted(255), PLTE[GREY % 4]),
    "RGB": (rgb(), RGB),
    "RGB, interlaced": (png(RGB, 8, COLOURS, adam7=True), RGB),
    "RGBA, opaque": (png(channels(RGB, OPAQUE), 8, COLOURS_ALPHA), RGB),
    "LA, opaque": (png(channels(GREY, OPAQUE), 8, GREYS_ALPHA), three(GREY)),
    "JPEG": with_levels(saved(IMAGE, "JPEG", quality=100)),
    "JPEG, grey": with_levels(saved(GREY_IMAGE, "JPEG", quality=100)),
    "JPEG, progressive": with_levels(saved(IMAGE, "JPEG", quality=100, progressive=True)),
    "JPEG, YCbCr": with_levels(saved(IMAGE.convert("YCbCr"), "JPEG", quality=100)),
    "JPEG of several pictures": with_levels(
        saved(IMAGE, "MPO", save_all=True, append_images=[FLIPPED])
    ),
    "PNG of one frame, animated": (rgb(*ONE_FRAME), RGB),
    "sRGB profile": (saved(IMAGE, icc_profile=profile()), RGB),
    "sRGB profile, palette": (saved(GREY_IMAGE.convert("P"), icc_profile=profile()), three(GREY)),
    "sRGB profile in a grey image": (saved(GREY_IMAGE, icc_profile=profile()), three(GREY)),
    "grey profile with the curve of sRGB": (
        saved(GREY_IMAGE, icc_profile=grey_profile(srgb_curve())),
        three(GREY),
    ),
    "sRGB chunk": (rgb(SRGB_CHUNK), RGB),
    "gamma of sRGB": (rgb(gamma(45455)), RGB),
    "sRGB chunk, before any gamma": (rgb(SRGB_CHUNK, gamma(10**5)), RGB),
}

ONE_CLEAR = OPAQUE.copy()
ONE_CLEAR[2, 3] = 254
XYZ_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()


def grey_with_clear_level(depth):
    clear = png_chunk(b"tRNS", struct.pack(">H", low(depth)[0, 0]))
    return png(low(depth), depth, GREYS, before=clear)


def bomb(*, real_pixels):
    """A PNG file whose header has a huge size."""
    if real_pixels:
        size = struct.pack(">II", 30_000, 30_000)
        return png(np.zeros((1, 1)), 8, GREYS).replace(struct.pack(">II", 1, 1), size)
    head = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", b"")


OTHER_PROFILE = "colour profile other than sRGB"
REFUSED = {
    "RGB of 16 bits": (png(RGB.astype(int) * 257, 16, COLOURS), "of 16 bits"),
    "RGB of 16 bits, interlaced": (
        png(RGB.astype(int) * 257, 16, COLOURS, adam7=True),
        "of 16 bits",
    ),
    "RGBA of 16 bits": (png(channels(RGB, OPAQUE) * 257, 16, COLOURS_ALPHA), "of 16 bits"),
    "LA of 16 bits": (png(channels(GREY, OPAQUE) * 257, 16, GREYS_ALPHA), "of 16 bits"),
    "RGBA": (png(channels(RGB, ONE_CLEAR), 8, COLOURS_ALPHA), "transparent in places"),
    "LA": (png(channels(GREY, ONE_CLEAR), 8, GREYS_ALPHA), "transparent in places"),
    "palette with transparency": (paletted(254), "transparent in places"),
    **{
        f"grey of {d} bits, a transparent one": (grey_with_clear_level(d), "a transparent colour")
        for d in (*DEPTHS, 16)
    },
    "RGB, a transparent colour": (
        rgb(png_chunk(b"tRNS", struct.pack(">3H", *RGB[0, 0]))),
        "a transparent colour",
    ),
    "CMYK": (saved(IMAGE.convert("CMYK"), "JPEG"), "is CMYK"),
    "animated": (saved(IMAGE, save_all=True, append_images=[FLIPPED]), "animated, 2 frames"),
    "another profile": (saved(IMAGE, icc_profile=profile(swap=True)), OTHER_PROFILE),
    "another profile, JPEG": (saved(IMAGE, "JPEG", icc_profile=profile(swap=True)), OTHER_PROFILE),
    "another profile, grey": (saved(GREY_IMAGE, icc_profile=grey_profile([1.8])), OTHER_PROFILE),
    "a profile of no images": (saved(IMAGE, icc_profile=XYZ_PROFILE), OTHER_PROFILE),
    "a damaged profile": (saved(IMAGE, "JPEG", icc_profile=b"profile"), "cannot be read"),
    "a linear gamma": (rgb(gamma(10**5)), "a gamma of 1"),
    "damaged EXIF data": (
        saved(IMAGE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        "cannot be read",
    ),
    "of no size": (png(np.zeros((0, 4)), 8, GREYS), "cannot be read"),
    "of no bytes": (b"", "cannot be read"),
    "a bomb": (bomb(real_pixels=True), "cannot be read"),
    "a small bomb": (bomb(real_pixels=False), "cannot be read"),
    **{
        f"{format} by the name of PNG": (saved(IMAGE, format), "cannot be read")
        for format in ("GIF", "BMP", "TIFF", "WEBP", "PPM")
    },
}


@pytest.mark.parametrize("kind", RIGHT)
def test_images_are_read_exactly(tmp_path, kind):
    content, levels = RIGHT[kind]
    file = tmp_path / "a.png"
    file.write_bytes(content)
    found = read_levels(file)
    assert found.dtype == np.uint8
    assert np.array_equal(found, levels)
    assert upright_size(file) == (found.shape[1], found.shape[0])


@pytest.mark.parametrize("kind", REFUSED)
def test_ambiguous_images_are_refused_with_the_reason(tmp_path, kind):
    content, reason = REFUSED[kind]
    file = tmp_path / "a.png"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=rf"a\.png.* {reason}") as refused:
        read_levels(file)
    assert refused.value.hint
    # Whether all pixels are opaque is not in the header.
    if reason != "transparent in places":
        with pytest.raises(UsageError, match=reason):
            upright_size(file)


MODES = [
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "I;16B",
    "I;16L",
    "I;16N",
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_pillow_writes_in_any_mode_is_read_exactly_or_refused(tmp_path, mode, format):
    image = Image.new(mode, (7, 5))
    white = mode in ("1", "L", "P", "RGB", "YCbCr", "RGBX")
    try:
        image.save(tmp_path / "a.png", format)
    except OSError:
        # Pillow does not write this mode.
        return
    if mode in ("LA", "RGBA", "CMYK"):
        with pytest.raises(UsageError, match=r"transparent in places|is CMYK"):
            read_levels(tmp_path / "a.png")
    else:
        assert white or mode.startswith("I")
        expected = np.asarray(image.convert("RGB")) if white else np.zeros((5, 7, 3))
        assert np.abs(read_levels(tmp_path / "a.png") - expected.astype(float)).max() <= 1


# Transformation of the stored levels by EXIF orientation.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
    # 0 and 9 are not orientations.
    0: lambda a: a,
    9: lambda a: a,
}


def exif(orientation):
    made = Image.Exif()
    made[ORIENTATION] = orientation
    return made.tobytes()


def rotated(kind, orientation):
    """A file with an EXIF orientation, and its levels as stored."""
    data = exif(orientation)
    bare = png_chunk(b"eXIf", data.removeprefix(b"Exif\0\0"))
    palette = png_chunk(b"PLTE", PLTE.tobytes())
    if kind == "JPEG":
        return saved(Image.fromarray(RGB), "JPEG", exif=data), decoded(JPEG_STORED)
    if kind == "PNG by Pillow":
        return saved(Image.fromarray(RGB), exif=data), RGB
    if kind == "grey of 16 bits":
        return png(GREY.astype(int) * 257, 16, GREYS, before=bare), three(GREY)
    if kind == "palette":
        return png(GREY, 8, PALETTE, before=palette + bare), PLTE[GREY]
    if kind == "palette, opaque":
        opaque = png_chunk(b"tRNS", b"\xff")
        return png(GREY, 8, PALETTE, before=palette + opaque + bare), PLTE[GREY]
    if kind == "one bit":
        return png(GREY % 2, 1, GREYS, before=bare), three(GREY % 2 * 255)
    return png(RGB, 8, COLOURS, after=bare), RGB


JPEG_STORED = saved(Image.fromarray(RGB), "JPEG")
KINDS = [
    "JPEG",
    "PNG by Pillow",
    "grey of 16 bits",
    "palette",
    "palette, opaque",
    "one bit",
    "behind the pixels",
]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_upright(tmp_path, kind, orientation):
    content, stored = rotated(kind, orientation)
    (tmp_path / "a.png").write_bytes(content)
    upright = TURNED[orientation](stored)
    assert np.array_equal(read_levels(tmp_path / "a.png"), upright)
    if kind != "behind the pixels":
        assert upright_size(tmp_path / "a.png") == (upright.shape[1], upright.shape[0])


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_is_refused_or_read_exactly(tmp_path, format):
    content = saved(Image.fromarray(RGB), format)
    whole, refused = decoded(content), 0
    for length in [*range(0, len(content) - 24, 5), *range(len(content) - 24, len(content))]:
        (tmp_path / "a.png").write_bytes(content[:length])
        try:
            assert np.array_equal(read_levels(tmp_path / "a.png"), whole)
        except UsageError:
            refused += 1
    # A file without the last checksums and the end marker may be read.
    assert refused >= (len(content) - 24) // 5


def test_a_png_file_with_a_changed_byte_is_refused_or_read_exactly(tmp_path):
    content = png(RGB, 8, COLOURS)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "a.png").write_bytes(changed)
        with suppress(UsageError):
            assert np.array_equal(read_levels(tmp_path / "a.png"), RGB), place


# --- folders -------------------------------------------------------------------------------------


def fill(folder, *names, content=RIGHT["RGB"][0]):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def found(folder):
    return [str(file.relative_to(folder)) for file in find_images(folder)]


def test_hidden_files_and_folders_are_skipped(tmp_path):
    counted = ["a.png", "b.JPG", "c.Jpeg", "d/e.png", "d/f.g/h.PNG"]
    hidden = [".a.png", ".ipynb_checkpoints/a.png", "d/.cache/deep/a.png"]
    fill(tmp_path, *counted, *hidden, "__MACOSX/a.png", "d/__MACOSX/._a.png")
    fill(tmp_path, "notes.txt", "labels.json", "no_suffix", "png", content=b"")
    assert found(tmp_path) == sorted(counted)


def test_the_folder_itself_may_be_hidden(tmp_path):
    folder = tmp_path / ".cache/__MACOSX/.images"
    fill(folder, "a.png", "b/c.png")
    assert found(folder) == ["a.png", "b/c.png"]


def test_linked_folders_count_once_and_loops_end(tmp_path):
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    fill(images, "a.png", "b/c.png")
    fill(elsewhere, "d.png", "e/f.png")
    (images / "link").symlink_to(elsewhere)
    (images / "link-again").symlink_to(elsewhere)
    (images / "b/up").symlink_to(images)
    (elsewhere / "across").symlink_to(images)
    (images / "g.png").symlink_to(elsewhere / "d.png")
    assert found(images) == ["a.png", "b/c.png", "g.png", "link/d.png", "link/e/f.png"]


@pytest.mark.parametrize("kind", ["dangling", "loop", "pipe"])
def test_dangling_links_loops_and_pipes_are_refused(tmp_path, kind):
    fill(tmp_path, "a.png")
    if kind == "pipe":
        os.mkfifo(tmp_path / "b.png")
    else:
        (tmp_path / "b.png").symlink_to(tmp_path / ("b.png" if kind == "loop" else "nothing"))
    with pytest.raises(UsageError, match=r"b\.png is no file"):
        find_images(tmp_path)


@pytest.mark.parametrize("suffix", [*sorted(OTHERS), ".WebP"])
def test_images_of_other_formats_are_an_error(tmp_path, suffix):
    fill(tmp_path, "a.png", f"b/c{suffix}")
    with pytest.raises(UsageError, match=rf"c\{suffix} is no PNG or JPEG"):
        find_images(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    fill(tmp_path, "a.png", "b/c.png")
    scan = os.scandir

    def denied(place):
        if str(place).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UsageError, match=r"/b cannot be read: Permission denied"):
        find_images(tmp_path)


def test_sizes_are_those_of_upright_images(tmp_path):
    fill(tmp_path, *(f"{i}.png" for i in range(9)), content=rgb())
    fill(tmp_path, "rotated.jpg", content=rotated("JPEG", 6)[0])
    with pytest.raises(UsageError, match=r"0\.png is 7 x 5, rotated\.jpg is 5 x 7"):
        ImageFolder(tmp_path, (3, 5, 7))

    turned = saved(Image.fromarray(np.ascontiguousarray(np.rot90(RGB))), "JPEG", exif=exif(6))
    fill(tmp_path, "rotated.jpg", content=turned)
    (batch,) = ImageFolder(tmp_path, (3, 5, 7)).batches(16)
    assert batch.shape == (10, 3, 5, 7)


def test_an_orientation_stored_after_the_pixels_is_used_in_the_size_check(tmp_path):
    fill(tmp_path, *(f"{i}.png" for i in range(9)))
    fill(tmp_path, "late.png", content=rotated("behind the pixels", 6)[0])
    images = ImageFolder(tmp_path, (3, 5, 7))
    with pytest.raises(UsageError, match=r"late\.png is 5 x 7"):
        list(images.batches(4))


def test_sizes_are_read_without_pixels(tmp_path, monkeypatch):
    for kind in ("RGB", "JPEG", "palette of 8 bits", "sRGB profile"):
        fill(tmp_path, f"{kind}.png", content=RIGHT[kind][0])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    assert {upright_size(file) for file in find_images(tmp_path)} == {(7, 5)}
