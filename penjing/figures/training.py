"""The training of one design: its loss step by step, and what the validation blocks say before and after."""

from penjing.figures.picture import Colour, Panel, Picture, Series
from tools.measurement import Measurement


def training_picture(trial: int, measurement: Measurement | None) -> Picture:
    """The loss of each training step; dotted lines are the validation losses."""
    name, title = "training", f"Training of trial {trial}"
    if measurement is None:
        return Picture(name, title, "The trial is not measured yet.")
    losses = measurement.training_losses
    if not losses:
        failed = measurement.failure is not None
        return Picture(
            name, title, "The trial failed, and no step of it was kept." if failed else "Nothing was trained."
        )
    steps = tuple(float(step) for step in range(1, len(losses) + 1))
    series = [
        Series("training loss", "line", steps, losses, "blue", marker="circle" if len(losses) <= 60 else None, size=5)
    ]
    ends = (1.0, float(max(2, len(losses))))
    lines: tuple[tuple[str, float | None, Colour], ...] = (
        ("validation, cut and untrained", measurement.loss_before_training, "vermilion"),
        ("validation, grown", measurement.loss, "green"),
    )
    for words, value, colour in lines:
        if value is not None:
            series.append(Series(f"{words}: {value:.4f}", "line", ends, (value, value), colour, dash="dot"))
    summary = f"Training loss from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps."
    return Picture(name, title, summary, (Panel("training step", "loss, nats per token", tuple(series), whole_x=True),))
