"""ReStyle in one file: a photograph is inverted step by step, then searched for, and drawn as a grid.

    python example.py photo.jpg            # or without a photograph: NASA's portrait of Eileen Collins
    python example.py photo.jpg --steps 5 --search 30 --out example.jpg

The loop below is the paper's (Alaluf, Patashnik and Cohen-Or 2021, section 4.1), written out: nothing is hidden in the
library but the networks. `restyle invert` does the same with progress, checks and files.
"""

import argparse

import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image

import restyle_lib as rl
from restyle_lib.faces.identity import shared
from restyle_lib.features.perceptual import st_lpips
from restyle_lib.generators.averaged import averaged
from restyle_lib.precision import autocast

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("photo", nargs="?", help="any picture with a face; without it, a portrait in the public domain")
options.add_argument("--steps", type=int, default=5, help="N, refinement steps of the encoder")
options.add_argument("--search", type=int, default=30, help="steps of gradient descent that go on from there")
options.add_argument("--out", default="example.jpg", help="the grid: photograph, reconstructions, search, a smile")
options = options.parse_args()

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
G = rl.load_generator("faces-1024").to(device)  # frozen; G.w_avg is the mean code [512]
E = rl.load_inverter("faces/restyle-psp").encoder.to(device)  # sees six channels, answers a residual [16, 512]

# A photograph as the generator knows faces: eyes and mouth at fixed places.
portrait = rl.open_photo(options.photo) if options.photo else Image.fromarray(skimage.data.astronaut())
x = rl.to_tensor(rl.align(portrait, 256)).to(device)  # [1, 3, 256, 256] in [-1, 1]


def look(w):
    """What the encoder sees of a code [1, 16, 512]: the image of 1024 px, averaged to 256."""
    return averaged(G, w, 256)


# ReStyle: from the mean code, the encoder sees the photograph beside the current reconstruction and corrects it.
w = G.w_avg.expand(1, 16, 512)
shown = [x]
with torch.no_grad(), autocast(device):
    y = look(w)
    shown.append(y)
    for t in range(1, options.steps + 1):
        w = w + E(torch.cat([x, y], dim=1))
        y = look(w)
        shown.append(y)
        print(f"step {t}: L2 {F.mse_loss(y.clamp(-1, 1), x):.4f}")

# The paper's hybrid: gradient descent on the code, from where the encoder has arrived.
distance, identity = st_lpips().to(device), shared(device)
with torch.no_grad(), autocast(device):
    features, person = distance.features(x), identity(x)
w = w.clone().requires_grad_()
optimizer = torch.optim.Adam([w], lr=0.05)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.search or 1)
for t in range(1, options.search + 1):
    with autocast(device):
        y = look(w)
        loss = F.mse_loss(y, x) + 0.8 * distance(y, features).mean() + 0.3 * (1 - (identity(y) * person).sum())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if t % 10 == 0:
        print(f"search {t}: L2 {F.mse_loss(y.clamp(-1, 1), x):.4f}")

# A code is more than an image: it can be edited, and drawn at 1024 px.
with torch.no_grad():
    shown += [F.adaptive_avg_pool2d(G.synthesize(code), 256) for code in (w, rl.edit(w.cpu(), "smile", 2).to(device))]
grid = torch.cat([image.float().cpu() for image in shown], dim=3)
rl.to_image(grid).save(options.out)
print(f"{options.out}: the photograph, the mean face, {options.steps} steps, the search, and the same with a smile")
