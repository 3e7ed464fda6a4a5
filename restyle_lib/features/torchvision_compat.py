"""Makes `import torchvision` work beside a CPU-only torch build from the package index.

torchvision's wheel registers fake kernels for two operators of its C++ library at import. Beside a CPU-only torch
that library cannot be loaded, the operators do not exist, and the import dies with "operator torchvision::nms does
not exist". Defining their schemas first is enough: nothing here calls them.
"""

import torch

_library = None  # definitions vanish with the Library object that made them


def make_torchvision_importable() -> None:
    """Defines the two schemas where the import fails; does nothing where it succeeds."""
    global _library
    try:
        import torchvision
    except RuntimeError:
        _library = torch.library.Library("torchvision", "DEF")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
