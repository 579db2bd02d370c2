"""Pieces of HTML. Every text is escaped: names of segments, classes and notes come from strangers. Pure."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from dashboard.facts import Severity

#: In the place of a picture that the reader may not see; None is one that is not kept.
HIDDEN = b""


@dataclass(frozen=True, slots=True)
class Thumb:
    """A picture with its two lines."""

    picture: bytes | None
    title: str
    line: str
    odd: bool
    mark: str = ""  # what was said of it


def shape(severity: Severity) -> str:
    """The sign of a severity, drawn by the style rules; the text beside it names it: never colour alone."""
    return f'<i class="ow-shape {severity}" aria-hidden="true"></i>'


def trust_strip(name: str, window: str, zone: str, told: Sequence[str], *, old: bool, refreshed: str) -> str:
    """The strip on top of every page."""
    parts = "".join(f"<span>{escape(text)}</span>" for text in told)
    return (
        f'<div class="ow ow-trust{" old" if old else ""}" role="status"><b>{escape(name)}</b>'
        f'<span class="soft">{escape(window)}, {escape(zone)}</span>{parts}'
        f'<span class="end">refreshed {escape(refreshed)}</span></div>'
    )


def verdict(severity: Severity, headline: str, told: Sequence[str]) -> str:
    """The sentence, and under it what belongs to it."""
    rest = " · ".join(escape(text) for text in told)
    return (
        f'<div class="ow ow-verdict" role="region" aria-label="verdict">{shape(severity)}<div>'
        f"<h1>{escape(headline)}</h1><p>{rest}</p></div></div>"
    )


def heading(text: str, rest: str = "") -> str:
    """A chart's title, with what it needs to be read."""
    return f'<div class="ow"><h2>{escape(text)} <small>{escape(rest)}</small></h2></div>'


def title(text: str, rest: str) -> str:
    """The head of a page that is no verdict."""
    return f'<div class="ow ow-title"><h1>{escape(text)}</h1><p class="soft">{escape(rest)}</p></div>'


def bar(share: float) -> str:
    """A share of 1 as a bar with its number."""
    return f'<span class="ow-share"><i style="width:{100 * min(max(share, 0.0), 1.0):.0f}%"></i></span> {share:.2f}'


def pictures(thumbs: Sequence[Thumb], *, across: int = 4) -> str:
    """So many in a row, captioned; on a phone four at most. Where they are hidden, that is said once, under them."""
    hidden = any(thumb.picture == HIDDEN for thumb in thumbs)
    return (
        f'<div class="ow ow-pictures{" one" if across == 1 else ""}" style="--across:{across}">'
        + figures(thumbs)
        + "</div>"
        + ('<p class="ow ow-hidden">Pictures are hidden for your role; figures are not.</p>' if hidden else "")
    )


def figures(thumbs: Iterable[Thumb]) -> str:
    """Pictures with their captions, one after another."""
    return "".join(map(_figure, thumbs))


def card(thumb: Thumb, *, near: bool) -> str:
    """One picture that stands in a grid of others, captioned; `near`: it is looked at."""
    return f'<div class="ow ow-pictures{" near" if near else ""}" style="--across:1">{_figure(thumb)}</div>'


def pairs(columns: Sequence[tuple[Thumb, Thumb]]) -> str:
    """Pictures with another one under each."""
    told = "".join(f'<div class="pair">{_figure(upper)}{_figure(lower)}</div>' for upper, lower in columns)
    return f'<div class="ow ow-pictures" style="--across:6">{told}</div>'


def bars(rows: Iterable[tuple[str, float, float, str, bool]]) -> str:
    """Segments as bars: (name, now, normal, words, alarming); the mark on a bar is what is normal."""
    told = list(rows)
    most = max([max(now, normal) for _, now, normal, *_ in told], default=1.0) or 1.0
    cells = []
    for name, now, normal, words, alarming in told:
        bar = f'<i class="{"alarm" if alarming else "calm"}" style="width:{100 * now / most:.1f}%"></i>'
        mark = f'<u style="left:{100 * normal / most:.1f}%"></u>'
        cells.append(f'<span>{escape(name)}</span><span class="bar">{bar}{mark}</span><span>{escape(words)}</span>')
    return f'<div class="ow ow-bars">{"".join(cells)}</div>'


def signals(rows: Iterable[tuple[str, str, bool, Sequence[float | None]]], colour: str) -> str:
    """The foot: (name, word, alarming, values of a day) of every signal."""
    told = "".join(
        f"<div>{_spark(values, colour)}<span>{escape(name)}</span>"
        f'<b class="{"alarm" if alarming else "soft"}">{escape(word)}</b></div>'
        for name, word, alarming, values in rows
    )
    return f'<div class="ow ow-signals">{told}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A plain table; cells are HTML already, made by functions of this module or escaped."""
    at = dict.fromkeys(numbers, ' class="num"')
    named = "".join(f"<th{at.get(i, '')}>{escape(name)}</th>" if name else "<td></td>" for i, name in enumerate(heads))
    head = f"<thead><tr>{named}</tr></thead>" if any(heads) else ""
    body = "".join(
        "<tr>" + "".join(f"<td{at.get(i, '')}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="ow wide"><table>{head}<tbody>{body}</tbody></table></div>'


def plain(text: str) -> str:
    """Anybody's text as a cell of a table."""
    return escape(text)


def note(text: str, *, doubt: bool = False) -> str:
    """Something in place of figures; `doubt`: something that a reader should know before them."""
    return f'<div class="ow ow-note{" doubt" if doubt else ""}" role="note">{escape(text)}</div>'


def empty(headline: str, lines: Sequence[str], command: str | None = None) -> str:
    """A page without figures: what is so, and what to do."""
    code = f"<p><code>{escape(command)}</code></p>" if command else ""
    told = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<div class="ow ow-empty"><h1>{escape(headline)}</h1>{told}{code}</div>'


def _figure(thumb: Thumb) -> str:
    if thumb.picture is None:
        shown = '<div class="gone">no picture kept</div>'
    elif thumb.picture == HIDDEN:
        told = escape(f"hidden for your role: {thumb.title}, {thumb.line}")
        shown = f'<div class="gone hidden" role="img" aria-label="{told}"><span>hidden</span></div>'
    else:
        data = base64.b64encode(thumb.picture).decode()
        kind = "png" if thumb.picture.startswith(b"\x89PNG") else "webp"
        shown = f'<img alt="{escape(thumb.title)}, {escape(thumb.line)}" src="data:image/{kind};base64,{data}">'
    caption = f"<figcaption><b>{escape(thumb.title)}</b><br>{escape(thumb.line)}</figcaption>"
    mark = f'<span class="mark">{escape(thumb.mark)}</span>' if thumb.mark else ""
    return f'<figure class="{"odd" if thumb.odd else "usual"}">{shown}{mark}{caption}</figure>'


def _spark(values: Sequence[float | None], colour: str) -> str:
    """A line as wide as two words; as an image, since Streamlit lets no SVG into a page."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, reach = min(known), (max(known) - min(known)) or 1.0
    pieces, pen = [], "M"
    for at, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        pieces.append(f"{pen}{1 + 62 * at / (len(values) - 1):.1f} {16 - 14 * (value - low) / reach:.1f}")
        pen = "L"
    drawn = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 18"><path d="'
        f'{"".join(pieces)}" fill="none" stroke="{colour}" stroke-width="1.4"/></svg>'
    )
    return f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(drawn.encode()).decode()}">'
