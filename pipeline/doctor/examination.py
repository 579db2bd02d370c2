"""The examination: every check, in the order in which causes come before effects."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.doctor.channels import check_channels
from pipeline.doctor.database import check_database
from pipeline.doctor.finding import ENVIRONMENT, USAGE, Finding
from pipeline.doctor.machine import check_disk, check_state_folder
from pipeline.doctor.model import check_device, check_package, check_reference
from pipeline.doctor.software import check_checksums, check_codecs, check_packages, check_python
from pipeline.doctor.source import check_source
from pipeline.errors import OodwatchError, masked
from pipeline.settings import Settings

Check = Callable[[Settings], Iterator[Finding]]

CHECKS: Sequence[tuple[str, Check]] = (
    ("python", check_python),
    ("packages", check_packages),
    ("crc32c", check_checksums),
    ("codecs", check_codecs),
    ("state", check_state_folder),
    ("disk", check_disk),
    ("source", check_source),
    ("database", check_database),
    ("model", check_package),
    ("device", check_device),
    ("reference", check_reference),
    ("channels", check_channels),
)


def examine(settings: Settings, checks: Sequence[tuple[str, Check]] = CHECKS) -> Iterator[Finding]:
    """Run every check; one that fails, however it fails, hides no other."""
    for name, check in checks:
        try:
            yield from check(settings)
        except OodwatchError as error:
            code = ENVIRONMENT if error.exit_code == ENVIRONMENT else USAGE
            yield Finding(name, "failed", masked(str(error)), exit_code=code)
        except Exception as error:
            said = masked(f"{type(error).__name__}: {error}".splitlines()[0])
            yield Finding(name, "failed", said, "this was not foreseen: please report it", ENVIRONMENT)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 without a failure; 2 where waiting cannot mend one of them; else 4."""
    codes = {finding.exit_code for finding in findings if finding.state == "failed"}
    return USAGE if USAGE in codes else max(codes, default=0)
