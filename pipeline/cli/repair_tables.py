"""Before and after a repair, as tables."""

from rich.table import Table
from rich.text import Text

from pipeline.cli.output import table_console
from pipeline.training import finetune_report


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
