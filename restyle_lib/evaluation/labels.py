"""How methods and metrics are drawn: names and colours alone, so that figures need nothing that computes."""

# Of methods; colour-blind safe. What belongs together shares a hue, of which the iterative one is darker.
COLOURS = {
    "IDInvert": "#ca9161",
    "pSp": "#56b4e9",
    "e4e": "#f0a830",
    "ReStyle-pSp": "#0173b2",
    "ReStyle-e4e": "#c04a00",
    "ReStyle-pSp, FPN": "#029e73",
    "Optimization, W": "#949494",
    "Optimization, W+": "#333333",
    "Hybrid, pSp": "#e09ad0",
    "Hybrid, ReStyle-pSp": "#a3499b",
    "PTI, ReStyle-pSp": "#d1245b",
}

HIGHER_IS_BETTER = {"ID", "JUDGE", "MS-SSIM", "PSNR"}  # of metrics; of the others, lower
