"""One thing that must hold, and what was found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """With `holds` None the figure is published and nothing is asked of it."""

    what: str
    found: str
    target: str = ""
    holds: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "met", False: "MISSED"}[self.holds]
        return f"{self.what:<62} {self.found:<50} {self.target:<10} {verdict}".rstrip()


def at_most(what: str, value: float, limit: float, unit: str = "") -> Check:
    """A figure that must not exceed a limit."""
    return Check(what, f"{value:.3g}{unit}", f"<= {limit:g}{unit}", value <= limit)


def at_least(what: str, value: float, limit: float, found: str = "") -> Check:
    """A figure that must reach a limit."""
    return Check(what, found or f"{value:.3g}", f">= {limit:g}", value >= limit)
