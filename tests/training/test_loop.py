"""The training loop on small regressions: order, resuming to the bit, bad steps, averaged weights."""

import math
import shutil
import time
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn

from foresight.errors import InputError
from training.loop import STATE, Recipe, learning_rate, rows_of_step, train

CPU = torch.device("cpu")
RECIPE = Recipe(steps=30, batch=8, lr=0.05, warmup=5, save_every=-1, seed=3)


class Regression:
    """Two small networks that learn different sums of the same rows; the inputs are noisy by the step's draw."""

    rows = 20

    def __init__(self, names=("a", "b"), noise=0.1, spoil=(), fits=10**9):
        draw = torch.Generator().manual_seed(0)
        self.x = torch.randn(self.rows, 4, generator=draw)
        self.goals = {"a": self.x.sum(1), "b": 50 * self.x[:, 0]}  # gradients of b are far longer
        self.modules = nn.ModuleDict({name: self.network(name) for name in names})
        self.noise, self.spoil, self.fits, self.seen = noise, spoil, fits, []

    @staticmethod
    def network(name):
        torch.manual_seed(ord(name))
        return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 1))

    def loss(self, rows, generator, done):
        x = self.x[rows] + self.noise * torch.randn(len(rows), 4, generator=generator)
        if len(rows) > self.fits:
            raise torch.OutOfMemoryError
        step = round(done * RECIPE.steps)
        self.seen.append(step)
        losses = {n: (m(x).squeeze(1) - self.goals[n][rows]).square().mean() for n, m in self.modules.items()}
        if step in self.spoil:
            losses["a"] = losses["a"] * math.nan
        return losses


def weights(task):
    return torch.cat([p.detach().flatten().clone() for p in task.modules.parameters()])


def finished(task, recipe=RECIPE, folder=None):
    for _ in train(task, recipe, CPU, folder):
        pass
    return weights(task)


def test_every_epoch_is_a_permutation_of_its_own():
    stream = torch.cat([rows_of_step(step, 8, 20, seed=1) for step in range(10)])  # 80 rows: four epochs
    epochs = stream.view(4, 20).tolist()
    assert all(sorted(e) == list(range(20)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 4
    assert rows_of_step(7, 8, 20, 1).tolist() == stream[56:64].tolist()
    assert rows_of_step(0, 8, 20, 2).tolist() != stream[:8].tolist()
    assert rows_of_step(0, 50, 20, 1).tolist() == stream[:50].tolist()  # a batch of several epochs


def test_learning_rate():
    recipe = Recipe(steps=1000, lr=0.1, warmup=10)
    assert learning_rate(0, recipe) == pytest.approx(0.01)
    assert learning_rate(500, recipe) == pytest.approx(0.05)
    assert learning_rate(999, recipe) < 1e-6
    assert max(learning_rate(s, recipe) for s in range(1000)) == pytest.approx(0.1, rel=1e-3)


def test_it_learns():
    task = Regression(noise=0)
    losses = [step.losses["a"].item() for step in train(task, replace(RECIPE, steps=300), CPU)]
    assert losses[-1] < 0.05 * losses[0]
    assert not task.modules.training


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_goes_on_to_the_same_bits(tmp_path, killed):
    """Closed half-way or killed outright: only the checkpoint of step 11 counts."""
    whole = finished(Regression())
    run = train(Regression(), RECIPE, CPU, tmp_path / "run")
    for step in run:
        if step.number == 11:
            break
    if killed:
        shutil.copytree(tmp_path / "run", tmp_path / "left")
        for _ in range(5):
            next(run)
    else:
        run.close()
        (tmp_path / "run").rename(tmp_path / "left")
    task = Regression()
    for p in task.modules.parameters():
        nn.init.zeros_(p)  # nothing of a fresh start may be left
    assert torch.equal(finished(task, replace(RECIPE, save_every=60), tmp_path / "left"), whole)
    assert task.seen[0] == 11 and len(task.seen) == 19
    assert torch.equal(finished(task, folder=tmp_path / "left"), whole)  # nothing left to do
    assert len(task.seen) == 19


def test_a_kill_while_saving_leaves_the_last_checkpoint(tmp_path):
    run = train(Regression(), RECIPE, CPU, tmp_path)
    for _ in range(4):
        next(run)
    (tmp_path / STATE).with_suffix(".partial").write_bytes(b"half a file")
    assert torch.equal(finished(Regression(), RECIPE, tmp_path), finished(Regression()))


def test_another_recipe_needs_another_folder(tmp_path):
    next(train(Regression(), RECIPE, CPU, tmp_path))
    with pytest.raises(InputError, match="other lr, seed"):
        next(train(Regression(), replace(RECIPE, lr=0.1, seed=4), CPU, tmp_path))
    with pytest.raises(InputError, match="other scenes"):
        next(train(Regression(), RECIPE, CPU, tmp_path, {"scenes": 40}))
    with pytest.raises(InputError, match="trains other weights"):
        next(train(Regression(("a",)), RECIPE, CPU, tmp_path))


@pytest.mark.parametrize("data", [b"", b"no state", b"PK\x03\x04" + bytes(99)])
def test_a_state_that_cannot_be_read_is_told(tmp_path, data):
    (tmp_path / STATE).write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read \(.*\): delete it to begin anew\.$"):
        next(train(Regression(), RECIPE, CPU, tmp_path))
    torch.save({"step": 1}, tmp_path / STATE)
    with pytest.raises(InputError, match="no state of a training"):
        next(train(Regression(), RECIPE, CPU, tmp_path))


def test_facts_are_of_the_run(tmp_path):
    facts = {"points": ("post-merge/6",), "hidden": None}
    next(train(Regression(), RECIPE, CPU, tmp_path, facts))
    assert next(train(Regression(), RECIPE, CPU, tmp_path, dict(facts))).number == 2
    for other in ({}, {**facts, "hidden": 8}, {**facts, "more": 1}):
        with pytest.raises(InputError, match="other (points|hidden|more)"):
            next(train(Regression(), RECIPE, CPU, tmp_path, other))


def test_a_closed_run_holds_averaged_weights():
    task = Regression()
    average, run = weights(task), train(task, RECIPE, CPU)
    for step in run:
        decay = min(RECIPE.ema, step.number / (step.number + 9))
        average = decay * average + (1 - decay) * weights(task)
        if step.number == 20:
            break
    last = weights(task)
    run.close()
    torch.testing.assert_close(weights(task), average, rtol=1e-5, atol=1e-6)
    assert (weights(task) - last).abs().max() > 1e-3
    task = Regression()
    for _ in train(task, replace(RECIPE, ema=0), CPU):
        last = weights(task)
    assert torch.equal(weights(task), last)


def test_side_by_side_is_as_alone():
    """Each module is clipped by itself, so b's long gradients do not shorten a's steps."""
    both = Regression(noise=0)
    finished(both)
    for name in ("a", "b"):
        alone = Regression((name,), noise=0)
        torch.testing.assert_close(
            finished(alone),
            nn.utils.parameters_to_vector(both.modules[name].parameters()).detach(),
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_batch_that_does_not_fit_is_cut():
    whole, cut = Regression(noise=0), Regression(noise=0, fits=3)
    finished(whole)
    counts = [step.micro_batches for step in train(cut, RECIPE, CPU)]
    assert counts == [4] * 30
    torch.testing.assert_close(weights(cut), weights(whole), rtol=1e-4, atol=1e-5)
    with pytest.raises(torch.OutOfMemoryError):
        finished(Regression(fits=0))


def test_a_cut_batch_goes_on_to_the_same_bits(tmp_path):
    """What the pass that did not fit has drawn changes nothing, before a resume and after it."""
    whole = finished(Regression(fits=3))
    for step in train(Regression(fits=3), RECIPE, CPU, tmp_path):
        if step.number == 11:
            break
    assert torch.equal(finished(Regression(fits=3), folder=tmp_path), whole)


def test_nothing_is_left_of_a_pass_that_did_not_fit_when_the_next_is_tried():
    """Else a GPU that the failed pass has filled is too small for any other."""

    class Full(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            ctx.kept = torch.zeros(len(y))
            alive.append(weakref.ref(ctx.kept))
            return y.clone()

        @staticmethod
        def backward(ctx, gradient):
            if len(ctx.kept) > 3:
                raise torch.OutOfMemoryError
            return gradient

    class Deep(Regression):
        def loss(self, rows, generator, done):
            left.append(sum(kept() is not None for kept in alive))
            return {"a": Full.apply(self.modules["a"](self.x[rows])).square().mean()}

    alive, left = [], []
    step = next(train(Deep(("a",)), RECIPE, CPU))
    assert step.micro_batches == 4 and left[:3] == [0, 0, 0]  # the whole batch, halves, quarters


def test_a_spoiled_step_changes_nothing():
    task, after = Regression(("a",), spoil=(12,)), {}
    for step in train(task, replace(RECIPE, ema=0), CPU):
        after[step.number] = weights(task)
    assert torch.equal(after[13], after[12])
    assert not torch.equal(after[14], after[13]) and after[30].isfinite().all()


def test_five_spoiled_steps_stop():
    assert finished(Regression(spoil=(3, 9, 10, 20))).isfinite().all()
    task = Regression(spoil=(3, 9, 10, 20, 21))
    with pytest.raises(FloatingPointError, match="not finite 5 times"):
        finished(task)
    assert weights(task).isfinite().all()


LONG = replace(RECIPE, steps=400)


def test_kill_9_at_any_moment(children, tmp_path):
    """Killed again and again, the same call comes to the same weights; each time it goes on from a later step."""
    reached, delay = [0], 0.01
    while reached[-1] < LONG.steps:
        child = children.Process(target=partial(finished, Regression(), LONG, tmp_path))
        child.start()
        before = (tmp_path / STATE).stat().st_mtime_ns if (tmp_path / STATE).exists() else 0
        while child.is_alive() and not ((tmp_path / STATE).exists() and (tmp_path / STATE).stat().st_mtime_ns > before):
            time.sleep(0.002)
        child.join(delay := delay * 2)  # in the middle of a step, of a save, between the two
        child.kill()
        child.join()
        reached.append(torch.load(tmp_path / STATE)["step"])
    assert len(reached) > 3 and reached == sorted(reached)
    assert torch.equal(finished(Regression(), LONG, tmp_path), finished(Regression(), LONG))


def one_of_several(rank, world, folder, recipe):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    task = Regression(noise=0)
    if rank:
        for p in task.modules.parameters():
            nn.init.ones_(p)  # the first one's weights count
    try:
        losses = [[float(loss) for loss in step.losses.values()] for step in train(task, recipe, CPU, folder / "run")]
        torch.save({"losses": losses, "weights": weights(task)}, folder / f"{rank}.pt")
    except InputError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


def in_processes(children, world, folder, recipe):
    (folder / "meeting").unlink(missing_ok=True)
    started = [children.Process(target=one_of_several, args=(rank, world, folder, recipe)) for rank in range(world)]
    for child in started:
        child.start()
    for child in started:
        child.join(60)
        assert child.exitcode == 0


def test_processes_share_a_batch(children, tmp_path):
    """Shares of 7 rows are 3 and 2 and 2; losses and weights are those of one process, and alike in all."""
    recipe, alone = replace(RECIPE, batch=7), Regression(noise=0)
    losses = [[float(loss) for loss in step.losses.values()] for step in train(alone, recipe, CPU)]
    in_processes(children, 3, tmp_path, recipe)
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for each in states:
        torch.testing.assert_close(torch.tensor(each["losses"]), torch.tensor(losses), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(each["weights"], weights(alone), rtol=1e-4, atol=1e-6)
        assert torch.equal(each["weights"], states[0]["weights"])


def test_more_processes_than_rows_are_refused(children, tmp_path):
    in_processes(children, 2, tmp_path, replace(RECIPE, batch=1))
    assert "cannot be shared by 2 processes" in (tmp_path / "1.txt").read_text()
