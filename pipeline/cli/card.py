"""The blind-spot card as a table and in words."""

from rich.table import Table
from rich.text import Text

from pipeline.cli.output import table_console
from pipeline.records import Card
from pipeline.scoring.card import HARM, card_sentences, harm


def print_card(card: Card, score: str) -> None:
    """Print the card of a reference that uses `score`."""
    console = table_console()
    console.print(Text("What this monitor will see, and what it cannot", style="bold"))
    console.print(f"{card.n:,} of the calibration's own images, damaged in {len(card.lines) - 1} ways:")
    console.print(_table(card))
    for sentence in card_sentences(card, score):
        console.print(sentence, soft_wrap=True)


def _table(card: Card) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = list(card.lines[0].flagged)
    labelled = card.lines[0].accuracy is not None
    table.add_column("damage")
    table.add_column("accuracy" if labelled else "same answer", justify="right")
    for name in names:
        table.add_column(f"flagged by {name}", justify="right")
    for name in names:
        table.add_column(f"shift of {name}", justify="right")
    for line in card.lines:
        harmful = line is not card.lines[0] and harm(line, card.lines[0]) >= HARM
        answer = line.accuracy if labelled else line.agreement
        cells = [Text("" if answer is None else f"{answer:.1%}", style="red" if harmful else "")]
        for name in names:
            loud = line.flagged[name] >= 3 * card.target_fpr
            style = "green" if loud and harmful else "yellow" if loud else "red" if harmful else ""
            cells.append(Text(f"{line.flagged[name]:.1%}", style=style))
        cells += [Text(f"{line.distance[name]:.2f}") for name in names]
        table.add_row(line.kind, *cells)
    return table
