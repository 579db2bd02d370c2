"""The blind-spot card as a picture: one row a kind of damage, bars for what each score sees of it."""

from html import escape

from pipeline.records import Card, CardLine
from pipeline.reports.page import colour, key, page, percent
from pipeline.scoring.card import HARM, card_sentences, harm


def card_page(card: Card, reference: str, score: str) -> str:
    """The whole page, for a reference that uses `score`."""
    names = list(card.lines[0].flagged)
    labelled = card.lines[0].accuracy is not None
    answer = "accuracy" if labelled else "same answer"
    spans = "".join(f'<th class="span" colspan="{len(names)}">{text}</th>' for text in ("flagged", "histogram"))
    each = "".join(f'<th class="left">{escape(name)}</th>' for name in names * 2)
    head = f"<tr><th></th><th></th>{spans}</tr><tr><th>damage</th><th>{answer}</th>{each}</tr>"
    rows = "".join(_row(card, line, names, labelled) for line in card.lines)
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in card_sentences(card, score))
    body = (
        f"<h1>What {escape(reference)} will see, and what it cannot</h1>"
        f'<p class="soft">{card.n:,} of the calibration\'s own images, damaged in {len(card.lines) - 1} ways. The'
        f" reference uses {escape(score)}.</p>"
        f'<div class="panel">{said}</div>'
        f"<h2>Damage by damage</h2><p>Flagged: the share of images above the threshold, {card.target_fpr:.0%} of normal"
        " ones. Histogram: how far the distribution of the scores moves, 0 not at all, 1 completely; a sample of this"
        " size moves by as much as the first row by chance.</p>"
        f'<div class="panel">{key(names)}<div class="scroll"><table><thead>{head}</thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )
    return page(f"oodwatch card: {reference}", body)


def _row(card: Card, line: CardLine, names: list[str], labelled: bool) -> str:
    undamaged = card.lines[0]
    hurts = line is not undamaged and harm(line, undamaged) >= HARM
    answer = line.accuracy if labelled else line.agreement
    flagged = "".join(f"<td>{_bar(line.flagged[name], name, percent(line.flagged[name], 0))}</td>" for name in names)
    moved = "".join(f"<td>{_bar(line.distance[name], name, f'{line.distance[name]:.2f}')}</td>" for name in names)
    first = f'<td>{escape(line.kind)}</td><td class="{"bad" if hurts else ""}">{percent(answer)}</td>'
    return f"<tr>{first}{flagged}{moved}</tr>"


def _bar(share: float, name: str, text: str) -> str:
    return f'<span class="bar" style="{colour(name)};--w:{100 * share:.1f}%"><s></s><span>{text}</span></span>'
