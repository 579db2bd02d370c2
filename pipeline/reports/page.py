"""The frame of every page: one file, its style inside."""

from html import escape

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbf9; --panel: #ffffff; --ink: #1c1e21; --soft: #62676f; --line: #e2e2dd;
  --energy: #2563c9; --softmax: #7c828c; --max_logit: #b07a10; --residual: #0b8f6f; --id: #8fa3bf; --ood: #e0703a;
  --good: #0b7a5e; --bad: #b3372b; --warn: #946200; }
@media (prefers-color-scheme: dark) { :root { --back: #14161a; --panel: #1b1e23; --ink: #e7e8ea; --soft: #9aa1ab;
  --line: #2d3138; --energy: #6ea2f5; --softmax: #9aa1ab; --max_logit: #dba93f; --residual: #3cc79f; --id: #6f86a8;
  --ood: #f0925f; --good: #4fd1a8; --bad: #f08a7d; --warn: #e0b455; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; text-wrap: balance; }
h2 { font-size: 19px; margin: 40px 0 6px; }
h3 { font-size: 15px; margin: 14px 0 4px; }
p { margin: 6px 0 12px; max-width: 78ch; }
.soft, figcaption, th { color: var(--soft); }
.lead { font-size: 18px; }
.panel { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; width: 100%; }
th { font-weight: 500; text-align: right; white-space: nowrap; }
td { text-align: right; white-space: nowrap; }
th, td { padding: 4px 10px; }
th:first-child, td:first-child, .left { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
td.left { padding-left: 10px; }
th.span { text-align: left; border-bottom: 1px solid var(--line); }
tbody tr { border-top: 1px solid var(--line); }
tbody tr.group { border-top: 2px solid var(--line); }
.best { color: var(--good); font-weight: 650; }
.bad { color: var(--bad); } .warn { color: var(--warn); } .good { color: var(--good); font-weight: 600; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; margin: 8px 0; }
.key span::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 5px;
  margin-right: 6px; background: var(--of); }
.dots { display: grid; grid-template-columns: minmax(80px, max-content) 1fr; gap: 6px 14px; align-items: center; }
.dots b { font-weight: 550; overflow-wrap: anywhere; }
.track, .axis { margin: 0 6px; }
.track { position: relative; height: calc(var(--rows) * 13px + 6px); background: var(--back); border-radius: 6px; }
.track i { position: absolute; height: 3px; border-radius: 2px; background: var(--of); opacity: .45; }
.track u { position: absolute; width: 10px; height: 10px; margin-left: -5px; border-radius: 5px;
  background: var(--of); }
.axis { display: flex; justify-content: space-between; font-size: 12px; color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(310px, 100%), 1fr)); gap: 8px 26px; }
figure { margin: 6px 0; } figcaption { font-size: 13px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(86px, 1fr)); gap: 12px; }
.pictures figure { margin: 0; } .pictures figcaption { font-size: 12px; line-height: 1.3; overflow-wrap: anywhere; }
.pictures img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 6px; image-rendering: pixelated; }
.bar { display: inline-flex; align-items: center; gap: 8px; width: 100%; min-width: 108px; }
.bar s { flex: 1; height: 8px; border-radius: 4px; background: var(--back); overflow: hidden;
  border: 1px solid var(--line); }
.bar s::before { content: ""; display: block; height: 100%; width: var(--w); background: var(--of); }
.bar span { min-width: 44px; text-align: right; }
@media (max-width: 560px) { main { padding: 18px 14px 40px; } h1 { font-size: 22px; } .panel { padding: 12px; } }
"""


def page(title: str, body: str) -> str:
    """A complete page; `title` is plain text, `body` HTML. No line breaks before a percent sign."""
    unbroken = body.replace(" %", "&nbsp;%")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{unbroken}\n</main>\n</body>\n</html>\n"
    )


def percent(share: float | None, digits: int = 1) -> str:
    """0.123 → 12.3 %; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


_OURS = {"energy": "energy", "softmax": "softmax", "max_logit": "max_logit", "energy+residual": "residual"}
#: Hues of others' detectors, apart from ours and from one another, readable on light and dark.
_HUES = {"KNN": 0, "Mahalanobis": 285, "ViM": 330, "SHE": 190, "RMD": 20, "Entropy": 105, "KLMatching": 60}


def colour(score: str) -> str:
    """The style that gives a score its colour on the page."""
    return f"--of: var(--{_OURS[score]})" if score in _OURS else f"--of: hsl({_HUES.get(score, 310)} 55% 55%)"


def key(names: list[str]) -> str:
    """Which colour means which score."""
    return (
        '<div class="key">'
        + "".join(f'<span style="{colour(name)}">{escape(name)}</span>' for name in names)
        + "</div>"
    )
