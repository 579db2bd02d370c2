"""Before and after a repair, as tables."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.output import table_console
from pipeline.scoring.evaluation import Separation
from pipeline.training import finetune_report, head_report
from pipeline.training.comparison import Comparison


def print_finetune_report(report: finetune_report.FinetuneReport) -> None:
    """FPR95 and AUROC of the energy by OOD set, accuracy and threshold."""
    before, after = report.before, report.after
    console = table_console()
    console.print(Text(f"Before and after, on {report.n:,} normal images that were not trained on", style="bold"))
    table = _table("", "images", "FPR95", "interval", "AUROC", "interval")
    for name, old in before.sets.items():
        new = after.sets[name]
        table.add_row(
            name,
            f"{old.n:,}",
            _change(old.fpr95, new.fpr95, lower=True),
            f"{new.low:.0%}-{new.high:.0%}",
            _change(old.auroc, new.auroc),
            f"{new.auroc_low:.1%}-{new.auroc_high:.1%}",
        )
    if len(before.sets) > 1:
        mean = _change(before.fpr95, after.fpr95, lower=True)
        table.add_row("mean", "", mean, "", _change(before.auroc, after.auroc), "")
    if before.accuracy is not None and after.accuracy is not None:
        table.add_row("accuracy", f"{report.n:,}", _change(before.accuracy, after.accuracy), "", "", "")
    console.print(table)
    console.print(
        f"threshold {before.threshold:.4f} -> {after.threshold:.4f} nats, mean energy {before.energy:.2f} ->"
        f" {after.energy:.2f}: the old reference does not fit the new model"
    )


def print_head_report(report: head_report.HeadReport, fitted: Mapping[str, int]) -> None:
    """Groups before and after, energies of outliers, flag rates."""
    before, after = report.before, report.after
    console = table_console()
    console.print(Text("Before and after, on rows that were not fitted on", style="bold"))
    table = _table("class / group", "fitted", "judged", "accuracy", "interval")
    for name, old in before.groups.items():
        new = after.groups[name]
        change = _change(old.accuracy, new.accuracy)
        table.add_row(name, f"{fitted[name]:,}", f"{new.n:,}", change, f"{new.low:.0%}-{new.high:.0%}")
    n = sum(group.n for group in before.groups.values())
    table.add_row("worst group", "", "", _change(before.worst, after.worst), "")
    table.add_row("mean", f"{sum(fitted.values()):,}", f"{n:,}", _change(before.mean, after.mean), "")
    console.print(table)
    if before.outliers is not None and after.outliers is not None:
        _print_outliers(console, before.outliers, after.outliers)
    console.print(
        f"flagged at {report.target_fpr:.0%}: {before.flagged:.1%} by the old head, {after.flagged:.1%} by the new one"
        f" with a threshold of its own; {report.flagged_by_old_threshold:.1%} with the old threshold",
        soft_wrap=True,
    )
    console.print(
        f"threshold of these rows {before.threshold:.4f} -> {after.threshold:.4f} nats, mean energy"
        f" {before.energy:.2f} -> {after.energy:.2f}",
        soft_wrap=True,
    )


def print_comparison(made: Comparison, data: str) -> None:
    """Old and new on the same images, and whether to go."""
    old, new = made.old, made.new
    console = table_console()
    console.print(Text(f"{old.model} and {new.model} on {data}", style="bold"), soft_wrap=True)
    table = _table("", "old", "new")
    table.add_row("reference", old.reference, new.reference)
    table.add_row("threshold, nats", f"{old.threshold:.4f}", f"{new.threshold:.4f}")
    table.add_row("flagged", f"{old.flagged:.1%}", f"{new.flagged:.1%}")
    table.add_row("interval", f"{old.low:.1%}-{old.high:.1%}", f"{new.low:.1%}-{new.high:.1%}")
    table.add_row("mean energy, nats", f"{old.energy:.2f}", f"{new.energy:.2f}")
    if old.accuracy is not None and new.accuracy is not None:
        table.add_row(f"accuracy, {made.labelled:,} labels", f"{old.accuracy:.1%}", f"{new.accuracy:.1%}")
    console.print(table)
    console.print(
        f"two classes for {made.disagreement:.1%} of the images; flagged by one alone {made.flags_differ:.1%}; the old"
        f" threshold would flag {made.flagged_by_old_threshold:.1%} of the new energies",
        soft_wrap=True,
    )
    if made.suggested_threshold is not None:
        console.print(
            f"suggested by these images: a threshold of {made.suggested_threshold:.4f} nats, above which lies the"
            " share that the old reference aims at",
            soft_wrap=True,
        )
    if made.go:
        console.print(Text("go", style="bold green"))
    for why in made.against:
        console.print(Text.assemble(("no-go: ", "bold red"), why), soft_wrap=True)


def _print_outliers(console: Console, before: Separation, after: Separation) -> None:
    table = _table(f"energy, {before.n:,} outliers", "", "interval")
    fpr95 = _change(before.fpr95, after.fpr95, lower=True)
    table.add_row("FPR95", fpr95, f"{after.low:.0%}-{after.high:.0%}")
    table.add_row("AUROC", _change(before.auroc, after.auroc), f"{after.auroc_low:.1%}-{after.auroc_high:.1%}")
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    return table


def _change(before: float, after: float, *, lower: bool = False) -> Text:
    """Old and new share; green where it is better, red where it is worse."""
    better = after < before if lower else after > before
    style = "" if after == before else "green" if better else "red"
    return Text.assemble(f"{before:.1%} -> ", (f"{after:.1%}", style))
