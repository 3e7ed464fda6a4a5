"""How much each notebook does, and where its results go: seconds for tests, minutes on two cores, hours on a GPU."""

from dataclasses import dataclass
from pathlib import Path

from restyle_lib.evaluation.methods import ENCODERS
from restyle_lib.paths import REPRODUCED


@dataclass(frozen=True)
class Profile:
    """Sample sizes of one profile, and its folders."""

    name: str
    encoders: tuple[str, ...]
    """Labels of the encoders that notebooks compare, of `methods.ENCODERS`."""
    images: int
    """Held-out renders that methods are compared on."""
    cartoons: int
    """Of these, how many 06_bootstrapping turns into cartoons."""
    searched: int
    """Of these, how many optimization and the hybrids search codes for (0.3 s a step on two cores)."""
    tuned: int
    """Of these, how many pivotal tuning is measured on (0.3 s a step on two cores, after the search)."""
    tuning_steps: int
    """Steps of that tuning, of renders and photographs."""
    budgets: list[int]
    """Steps that they are given; each number is a search of its own, since its learning rate falls at its end."""
    timed: int
    """Images that every method is timed on, one by one."""
    probe: int
    """Steps of each search that are timed; all of its steps cost the same."""
    edited: int
    """Held-out renders that 05_editability inverts by every method, and edits twelve times each."""
    ablated: int
    """Held-out renders that 08_ablations compares variants on."""
    ablation_passes: int
    """Encoder passes of each of its short trainings."""
    photographs: int
    """Of the four in the public domain, how many notebooks invert."""
    samples: int
    """Faces in the pictures of the generator tour and of the step grids."""
    hybrid_steps: int
    """Steps of optimization that go on from the encoder's code of a photograph."""
    training: dict[str, float | str]
    """Settings that 01_train_encoders overrides, see restyle_lib/training/settings.py; none in "full"."""

    @property
    def figures(self) -> Path:
        """Where figures go."""
        return self.folder / "figures"

    @property
    def results(self) -> Path:
        """Where tables go."""
        return self.folder / "results"

    @property
    def folder(self) -> Path:
        """All that a run of this profile writes, outside git."""
        return REPRODUCED / self.name


# From random weights, at a size and with a generator that take minutes instead of days on two cores.
SKETCH: dict[str, float | str] = {
    "init": "",
    "size": 64,
    "generator": "faces-64",
    "loop_lr": 4e-4,
    "checkpoint_every": 500,
}

PROFILES = {
    "smoke": Profile(
        name="smoke",
        encoders=("pSp", "ReStyle-pSp"),
        images=2,
        cartoons=2,
        searched=1,
        tuned=1,
        tuning_steps=2,
        budgets=[1, 2],
        timed=1,
        probe=2,
        edited=2,
        ablated=1,
        ablation_passes=10,
        photographs=1,
        samples=2,
        hybrid_steps=1,
        training={
            **SKETCH,
            "warmup_passes": 64,
            "warmup_batch": 16,
            "replay_passes": 20,
            "replay_states": 4,
            "replay_batch": 2,
            "loop_passes": 20,
            "batch": 2,
            "renders": 10,
            "validation": 2,
            "validate_every": 8,
        },
    ),
    "default": Profile(
        name="default",
        encoders=tuple(ENCODERS),
        images=24,
        cartoons=12,
        searched=8,
        tuned=4,
        tuning_steps=30,
        budgets=[15, 40],
        timed=4,
        probe=6,
        edited=12,
        ablated=6,
        ablation_passes=200,
        photographs=4,
        samples=6,
        hybrid_steps=40,
        training={
            **SKETCH,
            "warmup_passes": 3200,
            "warmup_batch": 32,
            "replay_passes": 800,
            "replay_states": 32,
            "replay_batch": 8,
            "loop_passes": 200,
            "renders": 100,
            "validation": 20,
            "validate_every": 60,
        },
    ),
    "full": Profile(
        name="full",
        encoders=tuple(ENCODERS),
        images=2000,
        cartoons=200,
        searched=200,
        tuned=20,
        tuning_steps=300,
        budgets=[50, 150, 500],
        timed=20,
        probe=6,
        edited=200,
        ablated=200,
        ablation_passes=18_000,
        photographs=4,
        samples=8,
        hybrid_steps=300,
        training={},
    ),
}


def load(name: str) -> Profile:
    """The profile "smoke", "default" or "full"; raises ValueError for another name."""
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
