"""What a run tells while it goes: log.jsonl, TensorBoard's files, and the progress bar."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib.training import checkpoint


class Log:
    """Records of the main process, in `out`: one line each in log.jsonl, and curves and strips in tensorboard/.

    watch: called with every record, for curves that are drawn while training goes on; what it returns becomes
           `stopped`, whether the run is to end here
    """

    def __init__(self, out: Path, iteration: int, total: int, watch: Callable[[dict], bool | None] | None = None):
        """iteration: where the run continues; what was written of later ones is dropped."""
        from torch.utils.tensorboard import SummaryWriter  # half a second that inversion can do without

        out.mkdir(parents=True, exist_ok=True)
        self.out, self.lines, self.watch, self.stopped = out, out / "log.jsonl", watch, False
        checkpoint.rewind_log(self.lines, iteration)
        self.board = SummaryWriter(out / "tensorboard", purge_step=iteration + 1)
        self.bar = tqdm(initial=iteration, total=total, desc=out.name, unit="batch", smoothing=0.05)
        self.since, self.images = time.perf_counter(), 0

    def count(self, images: int) -> None:
        """One more batch, of so many images."""
        self.bar.update()
        self.images += images

    def losses(self, iteration: int, record: dict[str, Tensor]) -> None:
        """The loss terms of a batch, with the speed since the last call."""
        record = {name: round(term.item(), 5) for name, term in record.items()}
        seconds = time.perf_counter() - self.since
        rate = round(self.images / seconds, 1)
        self.since, self.images = time.perf_counter(), 0
        for name, value in record.items():
            term, _, step = name.rpartition("_")
            self.board.add_scalar(f"{term or 'pairs'}/{step}", value, iteration)
        self.board.add_scalar("images per second", rate, iteration)
        self.bar.set_postfix(record | {"images/s": rate})
        self._append({"iteration": iteration} | record | {"images_per_s": rate, "seconds": round(seconds, 2)})

    def validation(self, iteration: int, metrics: dict[str, list[float]], strip: Tensor) -> None:
        """The metrics after each step, and the strip [3, H, W] of the images."""
        Image.fromarray(strip.permute(1, 2, 0).numpy()).save(self.out / f"validation-{iteration:06d}.png")
        self.board.add_image("validation", strip, iteration)
        for name, values in metrics.items():
            for t, value in enumerate(values, start=1):
                self.board.add_scalar(f"validation {name}/step {t:02d}", value, iteration)
        self._append({"iteration": iteration, "validation": metrics})

    def flush(self) -> None:
        """Writes what TensorBoard's files still lack, so that they hold all that a checkpoint's run has told."""
        self.board.flush()

    def close(self) -> None:
        """Writes what is still waiting."""
        self.bar.close()
        self.board.close()

    def _append(self, record: dict) -> None:
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.watch:
            self.stopped = bool(self.watch(record)) or self.stopped
