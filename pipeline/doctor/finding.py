"""What a check says."""

from dataclasses import dataclass
from typing import Literal

USAGE, ENVIRONMENT = 2, 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    state: Literal["ok", "warning", "failed", "skipped"]
    found: str
    cure: str = ""
    exit_code: int = 0  # of a failure: 2 wrongly configured, 4 something does not answer

    def as_text(self) -> str:
        """One line for a person."""
        return f"{self.state:<8} {self.check:<10} {self.found}" + (f"; {self.cure}" if self.cure else "")

    def as_dict(self) -> dict[str, str]:
        """The same for a program."""
        return {"check": self.check, "state": self.state, "found": self.found, "cure": self.cure}
