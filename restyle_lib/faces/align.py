"""The FFHQ crop of an ordinary photograph (Karras et al. 2019, appendix A), found with the shipped face networks."""

import numpy as np
from PIL import Image, ImageFilter

from restyle_lib.faces.detect import find_faces, find_landmarks
from restyle_lib.faces.identity import ATTRIBUTE_CROP
from restyle_lib.images import PhotoError, upright_rgb

LEFT_EYE, RIGHT_EYE, MOUTH_CORNERS = slice(36, 42), slice(42, 48), [48, 54]


class NoFaceError(PhotoError):
    """No face was found in a photograph; the message advises."""


def align(image: Image.Image, size: int = 1024) -> Image.Image:
    """The FFHQ-aligned square crop of the largest face, an RGB image of `size` pixels.

    Takes any PIL image: any mode, EXIF orientation and size. Parts of the square outside the photograph are filled by
    reflection, softened. Raises NoFaceError where no face is found.
    """
    image = upright_rgb(image)
    faces = find_faces(image)
    if not faces:
        raise NoFaceError(
            "no face found: use a photograph in which the face is upright, looks towards the camera and is at least "
            "about 60 pixels wide; crop away most of the rest if the face is small"
        )
    square = face_square(find_landmarks(image, faces[0].box))
    # The detector's box is rough. Landmarks found again in the aligned frame, as the network was trained, are better.
    aligned = cut_square(image, square, 256)
    refined = find_landmarks(aligned, ATTRIBUTE_CROP)
    corner, across, down = square[0], square[3] - square[0], square[1] - square[0]
    points = corner + refined[:, :1] / 256 * across + refined[:, 1:] / 256 * down
    return cut_square(image, face_square(points), size)


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
