"""What the official checkpoints of faces, cars, churches, horses, wild animals and cartoons expect of an image."""

import re
from dataclasses import dataclass

from PIL import Image, ImageOps

from restyle_lib.faces.align import cut_face, find_square
from restyle_lib.images import PhotoError, upright_rgb


@dataclass(frozen=True)
class Domain:
    """The settings of one domain, those of the official code."""

    name: str
    output_size: int
    """Width of the generator's image in pixels."""
    input_size: tuple[int, int] = (256, 256)
    """Height and width that the encoder sees."""
    rows: tuple[float, float] | None = None
    """Share of the generator's rows that is kept, from and to; the cars' generator pads 512 x 384 to a square."""
    faces: bool = False
    """Photographs are cropped by face alignment, and identity is compared by face embeddings."""
    backbone: str = "resnet34"
    """The official encoder's backbone."""
    lambda_id: float = 0.0
    """Weight of the identity loss in training, for faces."""
    lambda_moco: float = 0.5
    """Weight of the similarity of MoCo features, which takes the place of identity elsewhere."""

    def prepare(self, photo: Image.Image, size: int | None = None) -> Image.Image:
        """A photograph as an encoder of this domain expects it: aligned (faces), or cut to the proportions.

        size: height in pixels, that of the encoder's input where not given. A face that is smaller than that input
              keeps its own resolution, at which inversion compares it. Raises NoFaceError for faces.
        """
        if not self.faces:
            return self.fit(photo, size)
        photo, height = upright_rgb(photo), self.input_size[0]
        return cut_face(photo, find_square(photo), size or height, height)

    def cropped(self, photo: Image.Image, size: int | None = None) -> Image.Image:
        """A photograph that is aligned, or cut, already; see `prepare`. Raises PhotoError for other proportions.

        A square one that is smaller keeps its resolution.
        """
        height, width = self.input_size
        size = size or height
        photo = upright_rgb(photo)
        if abs(photo.width / photo.height * height / width - 1) > 0.02:
            advice = "" if self.faces else ", or give the encoder's --input-size"
            raise PhotoError(
                f"{photo.width} x {photo.height}, not cropped to {width} : {height}; omit --aligned{advice}"
            )
        if height == width:
            size = min(size, photo.height)
        return photo.resize((round(size * width / height), size), Image.Resampling.BICUBIC)

    def fit(self, photo: Image.Image, size: int | None = None) -> Image.Image:
        """A photograph cut to the proportions of the encoder's input; see `prepare`."""
        height, width = self.input_size
        size = size or height
        return ImageOps.fit(upright_rgb(photo), (round(size * width / height), size), Image.Resampling.BICUBIC)


DOMAINS = {
    domain.name: domain
    for domain in (
        Domain("faces", 1024, faces=True, backbone="ir_se50", lambda_id=0.1, lambda_moco=0.0),
        Domain("cars", 512, input_size=(192, 256), rows=(1 / 8, 7 / 8)),
        Domain("church", 256),
        Domain("horse", 256),
        Domain("wild", 512),
        Domain("toonify", 1024, faces=True, backbone="ir_se50", lambda_id=1.0, lambda_moco=0.0),
    )
}


def of_dataset(dataset_type: str) -> Domain:
    """The domain of an official checkpoint's `dataset_type`, such as "ffhq_encode" or "afhq_wild_encode", or its name.

    An unknown type is taken for a user's own domain: square 256 px inputs, no alignment.
    """
    for word in re.findall("[a-z]+", dataset_type.lower()):
        if word.startswith(("ffhq", "celeb")):
            return DOMAINS["faces"]
        for name in DOMAINS:
            if word in (name, f"{name}s", f"{name}es"):
                return DOMAINS[name]
    return Domain(dataset_type or "own", output_size=0)


def named(name: str) -> Domain:
    """The domain `name`, or a user's own under "own": square 256 px images, ResNet34. Raises ValueError."""
    if name != "own" and name not in DOMAINS:
        raise ValueError(f"no domain {name!r}; there are {', '.join(DOMAINS)}, and own")
    return DOMAINS.get(name) or Domain("own", output_size=0)


def size_of(words: str) -> tuple[int, int]:
    """An encoder's input as people write it, "256" or "192x256" (height x width) -> (height, width).

    Raises ValueError for another word, and for sides that no encoder sees.
    """
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", words)
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not all(32 <= side <= 1024 for side in size):
        raise ValueError(f"no input size {words!r}: give height x width of 32 to 1024 px, such as 256 or 192x256")
    return size
