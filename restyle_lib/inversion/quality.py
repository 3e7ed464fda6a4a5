"""How much is done for a photograph, in one word: what follows the encoder's steps."""

from typing import Literal, NamedTuple

Quality = Literal["fast", "good", "best"]


class Effort(NamedTuple):
    """What follows the encoder's steps: steps of the search for a code, and of tuning the generator to it."""

    search: int
    tuning: int


QUALITY = {"fast": Effort(0, 0), "good": Effort(40, 0), "best": Effort(40, 60)}
PHOTO_SIZE = 256  # px of the aligned crop that an inversion starts from
TUNED_SIZE = 512  # px of the crop that a generator is tuned to
