"""One rank: `torchrun -m tasks.train.worker JOB`. It knows nothing of DVC or the flow.

Every random number depends on (seed, step, rank) alone, never on what ran before, so a
resumed training draws what an undisturbed one would have drawn and ends in the same bits.
"""

import json
import math
import os
import signal
import sys
import threading
import traceback
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from slipway.gpu.devices import MEMORY_SHARE
from slipway.problem import PROBLEMS
from slipway.processes.priority import stand_back_as_session
from slipway.settings.families import NetworkConfig
from tasks.models import load_loop_family
from tasks.progress import track
from tasks.shards import Rows, Shards, read_features, read_shards, read_split
from tasks.train import checkpoint, failure
from tasks.train.checkpoint import State
from tasks.train.job import TrainingJob, read_job

STOPPED = 128 + signal.SIGTERM

OTHERS_S = 5.0
"""How long the other ranks stay when they are told to stop: some steps, and a checkpoint."""

EVALUATED_ROWS = 4096
"""Rows that are answered at once."""

LOSS_EVERY_STEPS = 10
"""Steps between two points of the training curve; the loss is averaged over the ranks there."""


def main(job_path: str) -> None:
    """Train as the job says; rank 0 writes the results."""
    job = read_job(Path(job_path))
    stop = listen_for_stop()
    stand_back_as_session()  # torchrun gives each rank a session, which has a priority of its own
    device = join_group(job.config.threads)
    try:
        trainer = Trainer(job, device, stop)
        finished = trainer.train()
        if dist.get_rank() == 0:
            trainer.write(finished)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def listen_for_stop() -> threading.Event:
    """Return what SIGTERM sets on rank 0, which then writes a checkpoint between two steps.

    The others go a little later by themselves: rank 0 may need them for the step that it is in.
    """
    stop = threading.Event()

    def leave_soon(number: int, frame: FrameType | None) -> None:
        timer = threading.Timer(OTHERS_S, os._exit, [STOPPED])
        timer.daemon = True
        timer.start()

    first = int(os.environ["RANK"]) == 0
    signal.signal(signal.SIGTERM, (lambda *_: stop.set()) if first else leave_soon)
    return stop


def join_group(threads: int) -> torch.device:
    """Join the other ranks: NCCL with a GPU per rank, else gloo (GPUs are shared, or none)."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    gpus = torch.cuda.device_count()
    local_rank = int(os.environ["LOCAL_RANK"])
    one_each = gpus >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", local_rank % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
        leave_memory(device, ranks=math.ceil(int(os.environ["LOCAL_WORLD_SIZE"]) / gpus))
    dist.init_process_group("nccl" if one_each and gpus else "gloo")
    if dist.get_rank() == 0:
        where = f"{min(gpus, dist.get_world_size())} GPU" if gpus else "CPU"
        print(f"{dist.get_world_size()} ranks, {dist.get_backend()}, {where}", file=sys.stderr)
    return device


def leave_memory(device: torch.device, *, ranks: int) -> None:
    """Leave a part of a GPU to what serves there: `meta: {gpu_memory_share: 0.8}` in dvc.yaml.

    `ranks`: how many share the device. One that would take more ends as one that ran out of
    memory; the context that CUDA itself keeps (some 500 MB a process) is not counted.
    """
    share = float(os.environ.get(MEMORY_SHARE, "1"))
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share / ranks, device)


class Trainer:
    """The loop, with everything that it carries from step to step."""

    def __init__(self, job: TrainingJob, device: torch.device, stop: threading.Event) -> None:
        self._stop = stop
        self.job, self.config, self.device = job, job.config, device
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.family = load_loop_family(job.family)
        config = job.config
        features = read_features(job.prepared)
        self.problem = PROBLEMS[features["target"]["problem"]]
        self.rows: Shards = read_shards(job.prepared)
        self.stop: Rows = read_split(job.prepared, "stop")
        # a batch for every rank, however few rows there are
        self.batch_rows = max(1, min(config.batch_rows, len(self.rows) // self.world))
        self.steps_per_epoch = max(1, len(self.rows) // (self.batch_rows * self.world))
        self.total_steps = config.epochs * self.steps_per_epoch
        torch.manual_seed(config.seed)
        self.network = self.family.build(config, features).to(device)
        self.optimizer = new_optimizer(self.network, config)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate(step, config.warmup_steps, self.total_steps)
        )
        # a moving average of the weights is what is judged and kept: it is less a matter of luck
        ema = get_ema_multi_avg_fn(config.average_decay)  # type: ignore[no-untyped-call]  # torch: no types
        self.average = AveragedModel(self.network, multi_avg_fn=ema)
        self.state = State()
        self.best = weights_of(self.average.module)
        self._resume()
        self.model = DistributedDataParallel(
            self.network, device_ids=[device] if device.type == "cuda" else None
        )

    def train(self) -> str:
        """Run to the end; return why it ended."""
        shown = track(self.total_steps, "training") if self.rank == 0 else nullcontext(_silent)
        with shown as update:
            for step in range(self.state.step + 1, self.total_steps + 1):
                loss = self._step(step)
                self.state.step = step
                if step % LOSS_EVERY_STEPS == 0 or step == self.total_steps:
                    mean = self._record_loss(loss)
                    if not math.isfinite(mean):
                        return "diverged"
                    key = self.problem.stopping.key
                    last = {k: v for e in self.state.evaluations[-1:] for k, v in e.items()}
                    update(step, loss=mean, **{k: v for k, v in last.items() if k == key})
                if step % self.config.evaluate_every_steps == 0 or step == self.total_steps:
                    if not self._evaluate():
                        return "diverged"
                    if self.state.worse_in_a_row >= self.config.patience:
                        return f"no better for {self.config.patience} evaluations"
                if step % self.config.checkpoint_every_steps == 0:
                    self._checkpoint()
                if self._stop.is_set():
                    self._leave()
        return "all epochs done"

    def write(self, ended: str) -> None:
        """Write the best weights and the curves."""
        history = {
            "steps": self.state.steps,
            "evaluations": self.state.evaluations,
            "best_step": self.state.best_step,
            "stopped": ended,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "processes": self.world,
        }
        if ended == "diverged":
            history = {"diverged_at": self.state.step}
        else:
            self.network.load_state_dict(self.best)
            self.family.save(self.network, self.job.weights)
        (self.job.report / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")

    def _step(self, step: int) -> Tensor:
        config = self.config
        torch.manual_seed((config.seed * 1_000_003 + step) * 4_099 + self.rank)
        batch = self.rows.take(self._indices(step))
        categories = torch.from_numpy(batch.categories).long()
        # rows of an unknown airport or carrier come; what they look like is learned here
        hidden = torch.rand(categories.shape) < config.unknown_share
        categories = categories.masked_fill(hidden, 0).to(self.device)
        numbers = torch.from_numpy(batch.numbers).to(self.device)
        labels = torch.from_numpy(batch.labels).float().to(self.device)
        self.model.train()  # type: ignore[no-untyped-call]  # torch: no types
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            raw = self.model(categories, numbers).float()
            loss = self._weigh(self.network.loss(raw, labels), batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch: no types
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return loss.detach()

    def _weigh(self, losses: Tensor, batch: Rows) -> Tensor:
        """Average the rows' losses, by weight where they have one."""
        if batch.weights is None:
            return losses.mean()
        weights = torch.from_numpy(batch.weights).float().to(self.device)
        return (losses * weights).sum() / weights.sum().clamp(min=1e-12)

    def _indices(self, step: int) -> np.ndarray:
        """Choose this rank's rows: each epoch is one permutation, cut into steps, then ranks."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        order = self._order(epoch)
        size = self.batch_rows
        start = (place * self.world + self.rank) * size
        chosen: np.ndarray = order[start : start + size]
        return chosen

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_order_epoch", None) != epoch:
            generator = np.random.default_rng([self.config.seed, epoch])
            self._permutation = generator.permutation(len(self.rows))
            self._order_epoch = epoch
        return self._permutation

    def _record_loss(self, loss: Tensor) -> float:
        dist.all_reduce(loss)
        mean = loss.item() / self.world
        self.state.steps.append(
            {
                "step": self.state.step,
                "epoch": self.state.step / self.steps_per_epoch,
                "train_loss": mean,
                "learning_rate": float(self.schedule.get_last_lr()[0]),
            }
        )
        return mean

    def _evaluate(self) -> bool:
        """Measure on the stop rows and keep the best; return whether it was finite."""
        scores = self._stop_scores()
        if not torch.isfinite(scores).all():
            return False
        state, stopping = self.state, self.problem.stopping
        answers = self.problem.respond(scores.numpy(), 1.0)
        measured = self.problem.measure_watched(self.stop.labels, answers, self.stop.weights)
        state.evaluations.append(
            {"step": state.step, "epoch": state.step / self.steps_per_epoch, **measured}
        )
        value = measured[stopping.key]
        if state.best is None or stopping.loss(value, state.best) < 0:
            state.best, state.best_step, state.worse_in_a_row = value, state.step, 0
            self.best = weights_of(self.average.module)
        else:
            state.worse_in_a_row += 1
        return True

    def _stop_scores(self) -> Tensor:
        """Share the stop rows among the ranks; every rank gets all scores, in order."""
        rows = len(self.stop)
        share = -(-rows // self.world)
        mine = np.minimum(np.arange(self.rank * share, (self.rank + 1) * share), rows - 1)
        part = self.stop.take(mine)
        self.average.eval()
        found = []
        with torch.inference_mode():
            for start in range(0, share, EVALUATED_ROWS):
                some = slice(start, start + EVALUATED_ROWS)
                categories = torch.from_numpy(part.categories[some]).long().to(self.device)
                numbers = torch.from_numpy(part.numbers[some]).to(self.device)
                found.append(self.network.score(self.average(categories, numbers)))
        scores = torch.cat(found).contiguous()
        gathered = [torch.empty_like(scores) for _ in range(self.world)]
        dist.all_gather(gathered, scores)
        return torch.cat(gathered)[:rows].float().cpu()

    def _checkpoint(self) -> None:
        if self.rank == 0:
            tensors = {
                "model": weights_of(self.network),
                "average": weights_of(self.average),
                "best": self.best,
                "optimizer": checkpoint.optimizer_tensors(self.optimizer),
            }
            checkpoint.save(self.job.checkpoints, self.state, tensors)

    def _leave(self) -> None:
        """Write a checkpoint and go, without a word to the other ranks: some may be gone."""
        self._checkpoint()
        print(
            f"stopped after step {self.state.step}, with a checkpoint", file=sys.stderr, flush=True
        )
        os._exit(STOPPED)

    def _resume(self) -> None:
        """Go on from the newest complete checkpoint; every rank takes rank 0's choice."""
        found = checkpoint.newest(self.job.checkpoints) if self.rank == 0 else None
        step = torch.tensor([int(found.name.removeprefix("step-")) if found else 0])
        step = step.to(self.device)
        dist.broadcast(step, 0)
        if not step.item():
            return
        path = self.job.checkpoints / f"step-{step.item():08}"
        self.state, tensors = checkpoint.load(path)
        self.network.load_state_dict(tensors["model"])
        self.average.load_state_dict(tensors["average"])
        self.best = tensors["best"]
        checkpoint.restore_optimizer(self.optimizer, tensors["optimizer"])
        self.schedule.last_epoch = self.state.step - 1
        self.schedule.step()
        if self.rank == 0:
            print(f"resumed from step {self.state.step}", file=sys.stderr)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's parameters and buffers to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _silent(done: int, **numbers: float) -> None:
    """Leave the bar to rank 0."""


def new_optimizer(network: nn.Module, config: NetworkConfig) -> torch.optim.AdamW:
    """Decay matrices only: biases and norms have no reason to be small (AdamW practice)."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def rate(step: int, warmup: int, total: int) -> float:
    """Scale the learning rate: linear warm-up, then a cosine down to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:
        traceback.print_exc()  # before torchrun may end this process
        failure.note(Path(sys.argv[1]), error)
        sys.exit(1)
