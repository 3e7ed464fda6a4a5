"""The FFHQ crop of an ordinary photograph (Karras et al. 2019, appendix A), found with the shipped face networks."""

import warnings

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from restyle_lib.faces.attributes import yaw
from restyle_lib.faces.detect import Face, find_faces, find_landmarks
from restyle_lib.faces.identity import ATTRIBUTE_CROP
from restyle_lib.images import PhotoError, upright_rgb

LEFT_EYE, RIGHT_EYE, MOUTH_CORNERS = slice(36, 42), slice(42, 48), [48, 54]


# What landmarks of a face are like, with room: of twenty aligned faces and photographs that come out right, the eyes'
# distance is 0.86 to 1.07 of that from eyes to mouth, the two are at right angles up to 6 degrees, and looking again in
# the aligned frame moves the square by 1 % of its side, changes its side by 4 % and turns it by 1 degree.
EYES_TO_MOUTH = (0.55, 1.5)
MOST_SKEW, MOST_TURN = 14, 3  # degrees
MOST_SHIFT, MOST_SCALING = 0.04, 0.07  # of the square's side
SIDEWAYS = 0.6  # the larger `attributes.yaw`, the more of a profile; beyond, nothing aligned looks like that
MOST_OUTSIDE = 0.15  # share of the landmarks that the photograph's edge may cut off
# Without landmarks: the square's side in sides of the detector's box, and how far its centre is above that of the box.
LEVEL_SIDE, LEVEL_RAISED = 1.33, 0.185


class AlignmentWarning(UserWarning):
    """A face was cropped, but not as FFHQ's are; the message says why."""


class NoFaceError(PhotoError):
    """No face was found in a photograph; the message advises."""


def align(image: Image.Image, size: int = 1024, face: int = 1) -> Image.Image:
    """The FFHQ-aligned square crop of a face, an RGB image of `size` pixels.

    face: 1 for the largest, 2 for the next, …; `align_all` has all of them
    Takes any PIL image: any mode, EXIF orientation and size. Parts of the square outside the photograph are filled by
    reflection, softened. Raises NoFaceError where no face is found; warns (`AlignmentWarning`) where what is found is
    hardly a face as FFHQ has them, and then crops without its landmarks if these make no sense.
    """
    image = upright_rgb(image)
    return cut_square(image, find_square(image, face), size)


def align_all(image: Image.Image, size: int = 1024) -> list[Image.Image]:
    """The crops of all faces as `align` makes them, largest first; an empty list where there is none."""
    image = upright_rgb(image)
    return [cut_square(image, square, size) for square in find_squares(image)]


def landmarks_transform(image: Image.Image, size: int = 1024, face: int = 1) -> tuple[Image.Image, Tensor]:
    """The level square about a face, as large as that of `align`, and the transform [3, 3] of its places to that one's.

    Encoders of StyleGAN3 see what `align` makes; `StyleGAN3.synthesize` with this transform draws the code as the face
    is in the level square (Alaluf et al. 2022, section 5). Raises and warns as `align` does.
    """
    image = upright_rgb(image)
    square = find_square(image, face)
    half = np.hypot(*(square[3] - square[0])) / 2
    level = square.mean(0) + half * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)])
    return cut_square(image, level, size), between(level, square)


def between(frame: np.ndarray, square: np.ndarray) -> Tensor:
    """The transform [3, 3] of places in one square to those in another, in widths from their centres, x right, y down.

    frame, square: the corners [4, 2] of both in the same photograph, in the order of `find_square`
    """
    places = []
    for corners in (frame, square):
        place = np.eye(3)  # to the photograph's pixels
        place[:2] = np.stack([corners[3] - corners[0], corners[1] - corners[0], corners.mean(0)], axis=1)
        places.append(place)
    return torch.from_numpy(np.linalg.solve(places[1], places[0])).float()


def find_square(image: Image.Image, face: int = 1) -> np.ndarray:
    """Where `align` crops: the corners [4, 2] of the square in pixels of an upright RGB image.

    Top left, bottom left, bottom right, top right; they may lie outside the image. `cut_square` cuts it out, and
    `faces.paste.paste` puts a face back there. face, errors and warnings: as for `align`.
    """
    if face < 1:
        raise ValueError(f"face must be 1 for the largest, 2 for the next, and so on, not {face}")
    faces = find_faces(image, small=face > 1)
    if not faces:
        raise NoFaceError(
            "no face found: use a photograph in which the face is upright, looks towards the camera and is at least "
            "about 40 pixels wide"
        )
    if face > len(faces):
        raise NoFaceError(f"there is no face {face}: {len(faces)} found")
    return _square(image, faces[face - 1])


def find_squares(image: Image.Image, small: bool = True) -> list[np.ndarray]:
    """The squares of all faces as `find_square` finds them, largest first; an empty list where there is none.

    small: whether small faces are looked for beside large ones, see `find_faces`
    """
    return [_square(image, face) for face in find_faces(image, small)]


def _square(image: Image.Image, face: Face) -> np.ndarray:
    # The detector's box is rough. Landmarks found again in the aligned frame, as the network was trained, are better.
    square = face_square(find_landmarks(image, face.box))
    points = _landmarks_within(image, square)
    if why := implausible(image, points):
        warnings.warn(f"{why}; the crop is level, and results may be poor", AlignmentWarning, stacklevel=4)
        return level_square(face.box)
    if why := doubtful(image, points):
        warnings.warn(f"{why}; results may be poor", AlignmentWarning, stacklevel=4)
    return face_square(points)


def _landmarks_within(image: Image.Image, square: np.ndarray) -> np.ndarray:
    """The 68 landmarks [68, 2] in pixels of `image`, found in the aligned frame that a square cuts out."""
    refined = find_landmarks(cut_square(image, square, 256), ATTRIBUTE_CROP)
    corner, across, down = square[0], square[3] - square[0], square[1] - square[0]
    return corner + refined[:, :1] / 256 * across + refined[:, 1:] / 256 * down


def implausible(image: Image.Image, points: np.ndarray) -> str:
    """Why landmarks [68, 2] cannot be those of a face that looks towards the camera, or nothing where they can.

    The network always answers with something like a face: where it is wrong, another look gives another answer.
    """
    left, right, mouth = points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0), points[MOUTH_CORNERS].mean(0)
    across, down = right - left, mouth - (left + right) / 2
    ratio = np.hypot(*across) / max(np.hypot(*down), 1e-6)
    skew = _between(across, np.array([down[1], -down[0]]))
    if not EYES_TO_MOUTH[0] < ratio < EYES_TO_MOUTH[1] or skew > MOST_SKEW:
        return "eyes and mouth are not where those of a face are: it may be seen from the side, or partly covered"
    square = face_square(points)
    again = face_square(_landmarks_within(image, square))
    side = np.hypot(*(square[3] - square[0]))
    shift = np.hypot(*(again.mean(0) - square.mean(0))) / side
    scaling = abs(np.hypot(*(again[3] - again[0])) / side - 1)
    turn = _between(again[3] - again[0], square[3] - square[0])
    if shift > MOST_SHIFT or scaling > MOST_SCALING or turn > MOST_TURN:
        return "the face is found in another place at every look: it may be upside down, blurred, or partly covered"
    return ""


def doubtful(image: Image.Image, points: np.ndarray) -> str:
    """What about landmarks [68, 2] makes a poor crop of FFHQ's kind likely, or nothing."""
    if abs(yaw(torch.from_numpy(points)[None]).item()) > SIDEWAYS:
        return "the face is seen from the side"
    outside = ((points < 0) | (points > image.size)).any(1).mean()
    if outside > MOST_OUTSIDE:
        return "the face is cut off by the edge of the photograph, and the crop goes on by reflection"
    return ""


def _between(a: np.ndarray, b: np.ndarray) -> float:
    """The angle between two vectors in degrees, 0..180."""
    return abs(np.degrees(np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b)))


def level_square(box: tuple[float, float, float, float]) -> np.ndarray:
    """The corners [4, 2] of an upright square about where FFHQ's is, from the detector's box alone."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    x, y, half = (x0 + x1) / 2, (y0 + y1) / 2 - LEVEL_RAISED * side, LEVEL_SIDE * side / 2
    return np.array([(x - half, y - half), (x - half, y + half), (x + half, y + half), (x + half, y - half)])


def face_square(landmarks: np.ndarray) -> np.ndarray:
    """68 landmarks [68, 2] -> the corners [4, 2] of the FFHQ square: top left, bottom left, bottom right, top right.

    Its side is 4 times the distance of the eyes or 3.6 times that of eyes and mouth, whichever is larger; its axis is
    the mean of the eyes' line and the normal of the line from eyes to mouth.
    """
    left, right = landmarks[LEFT_EYE].mean(0), landmarks[RIGHT_EYE].mean(0)
    eyes, mouth = (left + right) / 2, landmarks[MOUTH_CORNERS].mean(0)
    eye_line, face_line = right - left, mouth - eyes
    axis = eye_line + np.array([face_line[1], -face_line[0]])
    x = axis / np.hypot(*axis) * max(2 * np.hypot(*eye_line), 1.8 * np.hypot(*face_line))
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * face_line
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def cut_square(image: Image.Image, corners: np.ndarray, size: int) -> Image.Image:
    """Cuts a rotated square out of `image` and resamples it to `size` pixels."""
    side = float(np.hypot(*(corners[3] - corners[0])))
    shrink = int(side / size / 2)
    if shrink > 1:  # bilinear sampling alone would alias
        image, corners, side = image.reduce(shrink), corners / shrink, side / shrink
    margin = np.ceil(np.concatenate([-corners.min(0), corners.max(0) - image.size]).max())
    if margin > 0:
        image, corners = _reflect(image, int(margin) + 1, side), corners + int(margin) + 1
    quad = tuple((corners + 0.5).flatten())
    return image.transform((size, size), Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)


def cut_face(image: Image.Image, corners: np.ndarray, size: int, seen: int = 256) -> Image.Image:
    """`cut_square` to `size` pixels, or to as many as the square has where these are fewer than the encoder's `seen`.

    Inversion compares a small face at its own resolution, which this keeps (`restyle_lib.inversion.detail`).
    """
    side = round(float(np.hypot(*(corners[3] - corners[0]))))
    return cut_square(image, corners, min(side, size) if 0 < side < seen else size)


def _reflect(image: Image.Image, margin: int, side: float) -> Image.Image:
    """Extends the image by reflection; the reflected part is blurred, so that no second face appears in it."""
    pixels = np.asarray(image)
    while (missing := margin - (pixels.shape[0] - image.height) // 2) > 0:  # one reflection gives at most the image
        step = min(missing, min(pixels.shape[:2]) - 1)
        pixels = np.pad(pixels, ((step, step), (step, step), (0, 0)), mode="reflect")
    extended = Image.fromarray(pixels)
    soft = extended.filter(ImageFilter.GaussianBlur(side * 0.02))
    # the photograph itself stays sharp; the change to the blurred part is spread over a tenth of the square
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in pixels.shape[:2])
    inside = np.minimum(rows[:, None], columns[None]) - margin
    mask = Image.fromarray((np.clip(1 + inside / (side * 0.1), 0, 1) * 255).astype(np.uint8))
    return Image.composite(extended, soft, mask)
