"""What people give instead of a plain photograph: one face in every kind of file, and files that are none.

`KINDS` makes the content of files; `write_odd_places` makes what is wrong about a place rather than a content.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageDraw

import restyle_lib as rl
from restyle_lib.evaluation import sets

SIDE = 300  # px of the face that all of them show


class Kind(NamedTuple):
    """A kind of file that shows, or should show, the face [SIDE, SIDE]."""

    suffix: str
    make: Callable[[Image.Image], bytes]
    says: str = ""
    """What the error must say; "" where the file opens."""
    same: bool = True
    """Whether what opens is the face itself, in colours or in grey."""
    face: bool = True
    """Whether a face is found in it."""


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """The image as a file of that format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _grey(face: Image.Image) -> np.ndarray:
    return np.asarray(face.convert("L"))


def _tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb" if values.ndim == 3 else "minisblack")
    return file.getvalue()


def _tiff_of_floats(face: Image.Image, wrong: float | None = None) -> bytes:
    values = _grey(face).astype(np.float32) / 255
    if wrong is not None:
        values[:8, :8] = wrong
    return _tiff(values)


def _animated(face: Image.Image, kind: str) -> bytes:
    others = [Image.new("RGB", face.size, colour) for colour in ("red", "blue")]
    return saved(face, kind, save_all=True, append_images=others, duration=100, lossless=True)


def _turned(face: Image.Image, orientation: int) -> bytes:
    """Stored turned or mirrored, with the EXIF orientation that undoes it."""
    T = Image.Transpose
    undone_by = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE}
    undone_by |= {6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = face.transpose(undone_by[orientation]) if orientation in undone_by else face
    return saved(stored, "JPEG", quality=95, exif=exif)


def _with_exif(face: Image.Image, content: bytes) -> bytes:
    return saved(face, "JPEG", quality=95, exif=b"Exif\0\0" + content)


def _transparent(face: Image.Image) -> Image.Image:
    image = face.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 8, 8))
    return image


def wide_gamut_profile() -> bytes:
    """An ICC profile of ProPhoto's primaries and gamma, the widest in use (ISO 22028-2)."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    words = b"wide gamut"
    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256)) + bytes(2)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(words) + 1) + words + bytes(1 + 4 + 4 + 2 + 1 + 67),
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.7977, 0.2880, 0),
        b"gXYZ": xyz(0.1352, 0.7119, 0),
        b"bXYZ": xyz(0.0313, 0.0001, 0.8249),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma),
    }
    place, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">2I", place + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(data), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))
    return head.ljust(128, b"\0") + table + data


def _in_wide_gamut(face: Image.Image, mode: str = "RGB") -> bytes:
    profile = wide_gamut_profile()
    wide = ImageCms.profileToProfile(face, ImageCms.createProfile("sRGB"), io.BytesIO(profile))
    return saved(wide.convert(mode), "PNG", icc_profile=profile)


def _claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose head says that it is that large."""
    content = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    for name, data in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return content


def _unpacks_to(face: Image.Image, megabytes: int) -> bytes:
    """A PNG with a compressed comment that would fill the memory."""
    content = saved(face, "PNG")
    data = b"Comment\0\0" + zlib.compress(bytes(megabytes * 2**20))
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return content[:33] + chunk + content[33:]


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _drawn(face: Image.Image) -> bytes:
    """A smiley."""
    image = Image.new("RGB", face.size, "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 280, 280), fill="gold", outline="black", width=4)
    for x in (100, 200):
        draw.ellipse((x - 18, 95, x + 18, 140), fill="black")
    draw.arc((80, 120, 220, 230), 20, 160, fill="black", width=8)
    return saved(image, "PNG")


@cache
def _turned_aside(person: int) -> bytes:
    """A held-out render whose head is turned by five standard deviations of yaw, as far as it stays a person."""
    G = rl.load_generator("faces-1024")
    code = rl.edit(sets.heldout(person + 1).codes[person:], "pose", 5)
    return saved(rl.to_image(G.synthesize(code)).resize((SIDE, SIDE)), "PNG")


def _pasted(face: Image.Image, places: list[tuple[int, int]], size: tuple[int, int]) -> bytes:
    image = Image.new("RGB", size, "grey")
    for place in places:
        image.paste(face, place)
    return saved(image, "PNG")


NOT_AN_IMAGE, DAMAGED, TOO_LARGE = "not an image", "damaged or truncated", "too large to open safely"

KINDS = {
    # every mode of pixels
    "plain": Kind(".png", lambda face: saved(face, "PNG")),
    "grey": Kind(".png", lambda face: saved(face.convert("L"), "PNG")),
    "one-bit": Kind(".png", lambda face: saved(face.convert("1"), "PNG"), same=False, face=False),
    "palette": Kind(".gif", lambda face: saved(face.quantize(128), "GIF")),
    "palette-with-alpha": Kind(".png", lambda face: saved(_transparent(face).quantize(256), "PNG")),
    "grey-with-alpha": Kind(".png", lambda face: saved(_transparent(face).convert("LA"), "PNG")),
    "transparent": Kind(".png", lambda face: saved(_transparent(face), "PNG")),
    "transparent-colour": Kind(".png", lambda face: saved(face, "PNG", transparency=(1, 2, 3))),
    "cmyk": Kind(".jpg", lambda face: saved(face.convert("CMYK"), "JPEG", quality=95)),
    "cmyk-tiff": Kind(".tif", lambda face: saved(face.convert("CMYK"), "TIFF")),
    "ycbcr-tiff": Kind(".tif", lambda face: saved(face.convert("YCbCr"), "TIFF")),
    "lab-tiff": Kind(
        ".tif",
        lambda face: saved(
            ImageCms.profileToProfile(
                face, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
            ),
            "TIFF",
        ),
    ),
    "16-bit-grey": Kind(".png", lambda face: saved(Image.fromarray(_grey(face).astype(np.uint16) * 257), "PNG")),
    "16-bit-grey-tiff": Kind(".tif", lambda face: _tiff(_grey(face).astype(np.uint16) * 257)),
    "16-bit-colour-tiff": Kind(".tif", lambda face: _tiff(np.asarray(face).astype(np.uint16) * 257)),
    "32-bit-grey-tiff": Kind(".tiff", lambda face: _tiff(_grey(face).astype(np.int32))),
    "32-bit-colour-tiff": Kind(".tiff", lambda face: _tiff(np.asarray(face).astype(np.uint32)), NOT_AN_IMAGE),
    "float-tiff": Kind(".tif", _tiff_of_floats),
    "float-colour-tiff": Kind(".tif", lambda face: _tiff(np.asarray(face).astype(np.float32) / 255), NOT_AN_IMAGE),
    "nan": Kind(".tif", lambda face: _tiff_of_floats(face, np.nan)),
    "infinite": Kind(".tif", lambda face: _tiff_of_floats(face, np.inf)),
    "only-nan": Kind(".tif", lambda face: _tiff(np.full((64, 64), np.nan, np.float32)), same=False, face=False),
    "wide-gamut": Kind(".png", _in_wide_gamut),
    "wide-gamut-transparent": Kind(".png", lambda face: _in_wide_gamut(face, "RGBA")),
    "broken-profile": Kind(".jpg", lambda face: saved(face, "JPEG", quality=95, icc_profile=b"no profile at all")),
    "profile-of-another-mode": Kind(
        ".png", lambda face: saved(face.convert("L"), "PNG", icc_profile=wide_gamut_profile())
    ),
    # every format, and names that say another one
    "jpeg-2000": Kind(".jp2", lambda face: saved(face, "JPEG2000")),
    "webp": Kind(".webp", lambda face: saved(face, "WEBP", lossless=True)),
    "avif": Kind(".avif", lambda face: saved(face, "AVIF", quality=95)),
    "bmp": Kind(".bmp", lambda face: saved(face, "BMP")),
    "progressive": Kind(".jpg", lambda face: saved(face, "JPEG", quality=95, progressive=True)),
    "png-called-jpg": Kind(".jpg", lambda face: saved(face, "PNG")),
    "jpeg-called-png": Kind(".PNG", lambda face: saved(face, "JPEG", quality=95)),
    "animated-gif": Kind(".gif", lambda face: _animated(face, "GIF")),
    "animated-webp": Kind(".webp", lambda face: _animated(face, "WEBP")),
    "animated-png": Kind(".png", lambda face: _animated(face, "PNG")),
    "two-pages": Kind(".tif", lambda face: saved(face, "TIFF", save_all=True, append_images=[Image.new("1", (9, 9))])),
    # the camera's notes
    **{f"exif-{n}": Kind(".jpg", lambda face, n=n: _turned(face, n)) for n in range(1, 9)},
    "exif-nonsense": Kind(".jpg", lambda face: _turned(face, 77)),
    "exif-noise": Kind(".jpg", lambda face: _with_exif(face, bytes(range(256)))),
    "exif-cut": Kind(".jpg", lambda face: _with_exif(face, b"MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03")),
    "exif-points-outside": Kind(
        ".jpg", lambda face: _with_exif(face, b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\xff\x7f\xff\xff\xff\x7f")
    ),
    "exif-orientation-in-words": Kind(
        ".jpg", lambda face: _with_exif(face, b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0")
    ),
    # sizes
    "one-pixel": Kind(".png", lambda face: saved(Image.new("RGB", (1, 1)), "PNG"), same=False, face=False),
    "thin": Kind(".png", lambda face: saved(Image.new("RGB", (1, 5000)), "PNG"), same=False, face=False),
    "flat": Kind(".png", lambda face: saved(Image.new("RGB", (5000, 1)), "PNG"), same=False, face=False),
    "claims-30000": Kind(".png", lambda face: _claims(30000, 30000), TOO_LARGE),
    "claims-2-to-the-31": Kind(".png", lambda face: _claims(2**31 - 1, 2**31 - 1), TOO_LARGE),
    "claims-nothing": Kind(".png", lambda face: _claims(0, 0), NOT_AN_IMAGE),
    "claims-169-megapixels": Kind(".png", lambda face: _claims(13000, 13000), DAMAGED),
    "comment-of-200-megabytes": Kind(".png", lambda face: _unpacks_to(face, 200), DAMAGED),
    # no images
    "zero-bytes": Kind(".jpg", lambda face: b"", "empty"),
    "one-byte": Kind(".jpg", lambda face: b"\xff", NOT_AN_IMAGE),
    "zeros": Kind(".jpg", lambda face: bytes(5000), NOT_AN_IMAGE),
    "noise": Kind(".jpg", lambda face: np.random.default_rng(0).bytes(5000), NOT_AN_IMAGE),
    "text": Kind(".jpg", lambda face: b"this is not a photograph", NOT_AN_IMAGE),
    "page": Kind(".jpg", lambda face: b"<!doctype html><html>404</html>", NOT_AN_IMAGE),
    "drawing": Kind(".jpg", lambda face: b'<svg xmlns="http://www.w3.org/2000/svg"/>', NOT_AN_IMAGE),
    "postscript": Kind(".jpg", lambda face: saved(face, "EPS"), NOT_AN_IMAGE),
    "pdf": Kind(".jpg", lambda face: saved(face, "PDF"), NOT_AN_IMAGE),
    "half-png": Kind(".png", lambda face: _half(saved(face, "PNG")), DAMAGED),
    "half-jpeg": Kind(".jpg", lambda face: _half(saved(face, "JPEG")), DAMAGED),
    "half-webp": Kind(".webp", lambda face: _half(saved(face, "WEBP")), DAMAGED),
    "half-gif": Kind(".gif", lambda face: _half(saved(face, "GIF")), DAMAGED),
    "half-tiff": Kind(".tif", lambda face: _half(saved(face, "TIFF")), DAMAGED),
    "half-bmp": Kind(".bmp", lambda face: _half(saved(face, "BMP")), DAMAGED),
    "half-avif": Kind(".avif", lambda face: _half(saved(face, "AVIF")), NOT_AN_IMAGE),
    # what a photograph shows
    "at-the-border": Kind(".png", lambda face: saved(face.crop((0, 60, 220, SIDE)), "PNG"), same=False),
    "several": Kind(
        ".png", lambda face: _pasted(face, [(0, 0), (320, 0)], (620, 300)), same=False
    ),
    "narrow": Kind(".png", lambda face: saved(face.resize((120, SIDE)), "PNG"), same=False),
    # one eye is seen of the first, both of the second: of that, the photograph is noted to be taken from the side
    "in-profile": Kind(".png", lambda face: _turned_aside(5), same=False, face=False),
    "half-in-profile": Kind(".png", lambda face: _turned_aside(6), same=False),
    "upside-down": Kind(".png", lambda face: saved(face.rotate(180), "PNG"), same=False, face=False),
    "cartoon": Kind(".png", _drawn, same=False, face=False),
    "nobody": Kind(".png", lambda face: saved(Image.new("RGB", face.size, "skyblue"), "PNG"), same=False, face=False),
}  # fmt: skip

LONG = "n" * 251  # with an ending as long as a file system takes it
NAMES = ["with  spaces", "ä ö ü – 写真", "-rf", "a'b\"c", "semi;colon && $(touch x)", "two\nlines", "%s{}", LONG]


def write(folder: Path, face: Image.Image) -> dict[str, Path]:
    """A file of each kind in the folder; their paths."""
    paths = {name: folder / f"{name}{kind.suffix}" for name, kind in KINDS.items()}
    for name, path in paths.items():
        path.write_bytes(KINDS[name].make(face))
    return paths


def write_odd_places(folder: Path) -> list[Path]:
    """What has the name of a photograph and is none: a folder, links in circles or to nothing, a pipe; their paths."""
    paths = [folder / f"{name}.jpg" for name in ("folder", "loop", "dangling", "pipe")]
    paths[0].mkdir()
    paths[1].symlink_to(paths[1])
    paths[2].symlink_to(folder / "nowhere.jpg")
    os.mkfifo(paths[3])
    return paths


def write_odd_names(folder: Path, content: bytes) -> list[Path]:
    """A photograph under strange names, one of them in bytes that are no text; their paths."""
    paths = [folder / f"{name}.png" for name in NAMES] + [Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))]
    for path in paths:
        path.write_bytes(content)
    return paths


def boundaries(content: bytes) -> list[int]:
    """Places of a PNG or JPEG where a part of it begins, one byte beside each, and some within."""
    if content.startswith(b"\x89PNG"):
        starts, place = [8], 8
        while place < len(content):
            place += 12 + struct.unpack(">I", content[place : place + 4])[0]
            starts.append(place)
    else:
        starts = [i for i in range(len(content) - 1) if content[i] == 0xFF and content[i + 1] not in (0, 0xFF)]
    within = [len(content) * share // 20 for share in range(1, 20)]
    near = {start + step for start in starts for step in (-1, 0, 1, 2)} | set(within)
    return sorted(place for place in near if 0 < place < len(content))
