"""The two backbones of the official encoders, named so that their checkpoints load as they are.

Both return every block's feature map on the way, since the FPN encoders read three of them.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def ir_se50_blocks() -> list[tuple[int, int, int]]:
    """(channels in, channels out, stride) of the 24 blocks of IR-SE50 (Deng et al. 2019)."""
    blocks, c_in = [], 64
    for c_out, count in ((64, 3), (128, 4), (256, 14), (512, 3)):
        for i in range(count):
            blocks.append((c_in, c_out, 2 if i == 0 else 1))
            c_in = c_out
    return blocks


def resnet34_blocks() -> list[tuple[int, int, int]]:
    """(channels in, channels out, stride) of the 16 basic blocks of ResNet34 (He et al. 2016)."""
    blocks, c_in = [], 64
    for c_out, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(count):
            blocks.append((c_in, c_out, 2 if i == 0 and c_out > 64 else 1))
            c_in = c_out
    return blocks


class SqueezeExcitation(nn.Module):
    """Scales channels by a function of their means (Hu et al. 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class IRBlock(nn.Module):
    """Improved residual block with squeeze and excitation."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.stride = stride
        if c_in != c_out:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(c_in),
            nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False),
            nn.PReLU(c_out),
            nn.Conv2d(c_out, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            SqueezeExcitation(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = (
            self.shortcut_layer(x) if hasattr(self, "shortcut_layer") else x[:, :, :: self.stride, :: self.stride]
        )
        return self.res_layer(x) + shortcut


class BasicBlock(nn.Module):
    """ResNet's basic block."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class IRSE50(nn.Module):
    """Images [B, in_channels, h, w] -> the maps of its 24 blocks; the last is [B, 512, h/16, w/16]."""

    pyramid = (6, 20, 23)  # blocks that the FPN reads: 1/4, 1/8 and 1/16 of the input size

    def __init__(self, in_channels: int):
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        self.body = nn.Sequential(*(IRBlock(*block) for block in ir_se50_blocks()))

    def maps(self, x: Tensor) -> list[Tensor]:
        maps = [self.input_layer(x)]
        for block in self.body:
            maps.append(block(maps[-1]))
        return maps[1:]


class ResNet34(nn.Module):
    """Images [B, in_channels, h, w] -> the maps of its 16 blocks; the last is [B, 512, h/16, w/16]."""

    pyramid = (6, 12, 15)

    def __init__(self, in_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.PReLU(64)
        self.body = nn.Sequential(*(BasicBlock(*block) for block in resnet34_blocks()))

    def maps(self, x: Tensor) -> list[Tensor]:
        maps = [self.relu(self.bn1(self.conv1(x)))]
        for block in self.body:
            maps.append(block(maps[-1]))
        return maps[1:]
