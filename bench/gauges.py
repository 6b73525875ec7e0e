"""The numbers of running trials that Prometheus can fetch, by name; Ray puts `ray_` before each."""

from __future__ import annotations

TAGS = ("task", "backbone", "control", "seed", "fold")
#: Name → what it is. All but HELD_OUT are of a trial while it runs.
HELD_OUT = "bench_held_out_dice"
GAUGES = {
    "bench_loss": "Mean loss of the training crops of the last epoch",
    "bench_training_dice": "Mean Dice of the training crops of the last epoch",
    "bench_validation_dice": "Mean Dice of a few crops of held-out cases after an epoch; nothing is decided by it",
    "bench_samples_per_second": "Crops trained on a second, between the last two epochs, validation included",
    "bench_epoch": "Epochs done",
    "bench_share": "Share of the trial that is done",
    HELD_OUT: "Mean Dice of the held-out cases, once a trial is scored",
}
#: Prometheus shows them with `_total` at the end. TRIALS has the tag `outcome` too: the status of the record.
TRIALS = "bench_trials"
COUNTERS = {"bench_samples": "Crops trained on", TRIALS: "Trials that ended"}
