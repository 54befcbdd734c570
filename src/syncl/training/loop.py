"""The training loop: device, precision and processes are accelerate's, the rest fits on a screen."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.data_loader import prepare_data_loader
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor

from syncl.data.loading import ResumableSampler, clip_loader, readable_errors
from syncl.data.stream_clips import ClipSource, StreamDataset, StreamSampler
from syncl.errors import SynclError
from syncl.files import atomic_write
from syncl.interrupts import Interrupted, StopRequest, finishing_first, name_of
from syncl.structures import Clip
from syncl.trackers.base import Tracker
from syncl.training.config import TrainingConfig
from syncl.training.journal import Journal
from syncl.training.learner import Learner
from syncl.training.losses import mean_over_processes
from syncl.training.resuming import resume_checkpoint, save_checkpoint
from syncl.training.validating import SaveModel, Validate, Validating
from syncl.training.waiting import wait_for_main


@dataclass(frozen=True)
class RunResult:
    """Where a run ended.

    Attributes:
        step: optimiser steps done.
        losses: of the last log entry.
        seconds: wall time of this call.
    """

    step: int
    losses: dict[str, float]
    seconds: float


def make_accelerator(config: TrainingConfig, log_with: Sequence[str] = ()) -> Accelerator:
    """The accelerator for a run, with the precision its device has; it logs with trackers of these names."""
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if has_bfloat16() else "fp32"
    # A second run of the same Python process may ask for another precision than the first.
    AcceleratorState._reset_state()
    return Accelerator(
        # Several processes without an accelerator are only recognised as one run if told so.
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no" if precision == "fp32" else precision,
        # A clip without tracks leaves the tracker's own modules out of the graph.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        step_scheduler_with_optimizer=False,
        log_with=list(log_with) or None,
    )


def has_bfloat16() -> bool:
    """Whether the device computes in bfloat16 by instructions of its own (GPUs, and CPUs with AVX512-BF16 or
    AMX); elsewhere it would be slower than float32.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    flags = torch.backends.cpu.get_cpu_capability()
    return flags in ("AVX512", "AMX") and bool(torch.cpu._is_avx512_bf16_supported())


def run_training(
    accelerator: Accelerator,
    tracker: Tracker,
    dataset: ClipSource,
    config: TrainingConfig,
    run: Path,
    *,
    resume: bool,
    save_model: SaveModel,
    validate: Validate | None = None,
    origin: Mapping[str, object] | None = None,
    validated: Callable[[], None] | None = None,
) -> RunResult:
    """Train a tracker.

    Args:
        accelerator: from `make_accelerator`.
        tracker: with its starting weights.
        dataset: of clips as configured.
        config: the run's settings.
        run: its folder; checkpoints and logs go there.
        resume: go on from the latest checkpoint there.
        save_model: writes a tracker's state dict as a model file.
        validate: called with the tracker in inference mode; its figures are logged.
        origin: what the run is made of, see `save_checkpoint`.
        validated: called by the main process when a validation is logged.

    Raises:
        SynclError: on a loss that is not finite, after writing what was known of the batch beside the log.
        Interrupted: asked to stop by a signal, once the step is done and a checkpoint of it written.
    """
    started = time.perf_counter()
    set_seed(config.seed)
    learner = Learner(accelerator, tracker, dataset, config)
    state, main = learner.state, accelerator.is_main_process
    step = kept = resume_checkpoint(accelerator, state, run) if resume else 0
    samples = config.data.batch_size * accelerator.num_processes
    losses: dict[str, float] = {}
    pending: list[dict[str, Tensor]] = []
    with (
        closing(clips(accelerator, dataset, config, step)) as batches,
        Journal(run, config.steps, step, samples, main, accelerator.log) as journal,
        finishing_first() as request,
    ):
        validating = Validating(config, run, validate, save_model, validated)

        def log(norm: Tensor) -> None:
            losses.update(mean_losses(pending))
            pending.clear()
            figures = losses | {"gradient_norm": float(norm), "learning_rate": learner.learning_rate}
            journal.record(step, figures)

        def keep() -> None:
            nonlocal kept
            if kept != step:
                save_checkpoint(
                    accelerator,
                    state,
                    run,
                    step,
                    config.keep_checkpoints,
                    lambda path: save_model(path, learner.weights()),
                    origin,
                )
            kept = step

        def validate_now(done: bool = False) -> None:
            if not validating.due(step):
                return
            if main and not done:
                try:
                    validating.validate(step, tracker, learner.weights(), journal, request)
                finally:
                    state.module.train()
            wait_for_main(accelerator)

        if step:
            validate_now(done=journal.validated)
        while step < config.steps:
            waiting = time.perf_counter()
            clip = next(batches)
            journal.waited_for_data(time.perf_counter() - waiting)
            values = learner.losses(clip, step)
            journal.look_at_memory()  # all activations are there
            check_finite(values, clip, run, step)
            norm = learner.learn(values["total"])
            step += 1
            pending.append({name: value.detach() for name, value in values.items()})
            journal.advance(step)
            if step % config.log_every == 0 or step == config.steps:
                log(norm)
            if step % config.checkpoint_every == 0 or step == config.steps:
                keep()
            validate_now()
            if agreed(accelerator, request):
                break
        if stopped_by := agreed(accelerator, request):
            if pending:
                log(norm)
            keep()
            raise Interrupted(
                stopped_by,
                f"{run}: stopped by {name_of(stopped_by)} after step {step} of {config.steps}, of which a "
                "checkpoint is written; to go on, give the same command with --resume, without --overwrite",
            )
        if main:
            save_model(run / "model.safetensors", learner.weights())
        accelerator.wait_for_everyone()
    return RunResult(step, losses, time.perf_counter() - started)


def clips(
    accelerator: Accelerator, dataset: ClipSource, config: TrainingConfig, step: int
) -> Generator[Clip, None, None]:
    """Endless batches from the given step on, until closed; the order depends on seed and step only.

    Raises:
        SynclError: if the dataset holds fewer clips than one step needs.
    """
    size = config.data.batch_size
    together = size * accelerator.num_processes
    sampler: ResumableSampler | StreamSampler
    if isinstance(dataset, StreamDataset):
        sampler = StreamSampler(dataset.parts, together, config.seed, step)
    else:
        sampler = ResumableSampler.from_position(len(dataset), config.seed, step * together)
    loader = clip_loader(
        dataset,
        size,
        config.seed,
        workers=config.data.workers,
        pin_memory=accelerator.device.type == "cuda",
        sampler=sampler,
        prefetch=config.data.prefetch,
    )
    prepared = prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=accelerator.num_processes,
        process_index=accelerator.process_index,
        put_on_device=True,
        even_batches=False,
    )
    yield from readable_errors(prepared)


def agreed(accelerator: Accelerator, request: StopRequest) -> int:
    """The signal that any of the processes was asked to stop by; 0 if none was."""
    if accelerator.num_processes == 1:
        return request.signal
    asked = torch.tensor(request.signal, device=accelerator.device)
    torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
    return int(asked)


def mean_losses(pending: list[dict[str, Tensor]]) -> dict[str, float]:
    """Means over steps and processes, in one transfer."""
    names = sorted({name for values in pending for name in values})
    zero = torch.zeros((), device=pending[0]["total"].device)
    table = torch.stack([torch.stack([v.get(n, zero).float() for n in names]) for v in pending])
    means = mean_over_processes(table.mean(0)).tolist()
    return dict(zip(names, means))


def check_finite(values: dict[str, Tensor], clip: Clip, run: Path, step: int) -> None:
    """Stop on a loss that is not finite, leaving a report of the batch.

    Raises:
        SynclError: naming the losses and the samples, and the report's file.
    """
    if bool(torch.isfinite(values["total"].detach())):
        return
    report = {
        "step": step,
        "losses": {name: str(float(value.detach())) for name, value in values.items()},
        "scenes": [list(frame.scenes) for frame in clip.frames],
        "samples": [list(frame.samples) for frame in clip.frames],
    }
    path = run / f"nonfinite_step_{step:08d}.json"
    atomic_write(path, orjson.dumps(report, option=orjson.OPT_INDENT_2))
    broken = [name for name, value in values.items() if not bool(torch.isfinite(value.detach()))]
    raise SynclError(
        f"step {step}: the loss is not finite ({', '.join(broken)}) on samples "
        f"{', '.join(clip.frames[0].samples)}; details in {path}. Lower the learning rate or look at "
        "these samples"
    )
