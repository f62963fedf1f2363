'''The study c1: what a VLM still knows of an image at each point of its depth, and how the seed measured it.

An experiment is one short file. It measures: it trains what its question needs, scores it, and hands back tables of
scores for each image. All words and figures are made from these in `report/`. A new one, `noise.py`:

    """Beyond: how much noise on the latents a linear probe bears."""

    from dataclasses import replace

    import torch

    from training.experiments.bench import Bench
    from training.experiments.experiment import Experiment, Measurement
    from training.experiments.trials import Trial, references, run_trials


    def measure(bench: Bench) -> Measurement:
        at, train, test = bench.recommended, bench.train(), bench.test()
        x = test.points[str(at)]
        trials = []
        for level in (0.0, 0.1, 1.0):
            noisy = replace(test, points={str(at): x + level * x.float().std() * torch.randn_like(x)})
            trials.append(Trial(f"noise {level}", "linear", (at,), train, noisy))
        results = run_trials(bench, trials, "Noise")
        return Measurement({"scores": results.table | references(bench)}, {"scores": results.steps})


    NOISE = Experiment("noise", "Beyond: noise", "How much noise on its latents does a probe bear?", measure)

With `NOISE` in the list `command.EXPERIMENTS` it runs, is kept in --out, and is reported with a table and a chart of
each of its tables. A verdict and a text of its own are a function in `report/answers.py`.
'''
