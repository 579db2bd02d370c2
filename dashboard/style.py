"""How it looks: two palettes, and the rules that Streamlit's own theme has no setting for."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by what they mean. Contrast on paper: ink 15, soft 5, line 5, alarm 4.8 to 1 at least."""

    paper: str
    ink: str
    soft: str  # what is read second
    hair: str  # rules and grids
    calm: str  # normal: next to nothing
    line: str  # this segment
    other: str  # all traffic, beside it
    alarm: str
    warn: str  # amber, for doubt about the figures themselves
    warn_paper: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1b1d21",
    soft="#5a626d",
    hair="#e4e7eb",
    calm="#eef1f4",
    line="#0072B2",
    other="#8b939e",
    alarm="#C24E00",
    warn="#7a4b00",
    warn_paper="#ffe9c2",
)
DARK = Palette(
    paper="#171614",
    ink="#f2f0ea",
    soft="#aaa69c",
    hair="#35332e",
    calm="#272622",
    line="#56B4E9",
    other="#8f8b82",
    alarm="#FF8C42",
    warn="#ffd58a",
    warn_paper="#4a3405",
)

#: Streamlit's options, without which its own parts would look otherwise. Nothing is asked of a foreign host.
THEME = {
    f"theme.{name}.{option}": value
    for name, palette in (("light", LIGHT), ("dark", DARK))
    for option, value in {
        "primaryColor": palette.line,
        "backgroundColor": palette.paper,
        "secondaryBackgroundColor": palette.calm,
        "textColor": palette.ink,
        "borderColor": palette.hair,
    }.items()
} | {"theme.baseRadius": "small"}

_CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
_OLD = ".st-key-body,.st-key-foot{filter:grayscale(1);opacity:.55}"


def rules(palette: Palette, *, old: bool = False) -> str:
    """All style rules; with `old`, figures are grey: they say what was."""
    colours = "".join(f"--{name.replace('_', '-')}:{getattr(palette, name)};" for name in Palette.__dataclass_fields__)
    return f"<style>:root{{{colours}}}{_CSS}{_OLD if old else ''}</style>"
