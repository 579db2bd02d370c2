"""Python, packages, and the compiled parts of the Kafka client."""

import importlib.util
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.doctor.finding import USAGE, Finding
from pipeline.settings import Settings

_CODECS = {"lz4": "lz4", "zstd": "zstandard", "snappy": "snappy"}  # what the Kafka client imports for each
_NAMED = ("torch", "numpy", "pillow", "sqlalchemy", "psycopg", "kafka-python")
_INSTALL = "install what the release was tested with: pip install 'oodwatch[worker]'"


def check_python(settings: Settings) -> Iterator[Finding]:
    """The interpreter is one that the release supports."""
    wanted, present = metadata("oodwatch")["Requires-Python"], platform.python_version()
    if SpecifierSet(wanted).contains(present, prereleases=True):
        yield Finding("python", "ok", f"{present} on {platform.system()} {platform.machine()}")
    else:
        yield Finding("python", "failed", f"{present}", f"use Python {wanted}", USAGE)


def check_packages(settings: Settings) -> Iterator[Finding]:
    """Whatever a worker imports is there, in a version that the release asks for."""
    yield judge_packages(requires("oodwatch") or (), _installed)


def judge_packages(requirements: Sequence[str], installed: Callable[[str], str | None]) -> Finding:
    """Compare requirements with what is installed; extras other than `worker` are not needed."""
    missing, other, present = [], [], {}
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": "worker"}):
            continue
        found = installed(requirement.name)
        if found is None:
            missing.append(requirement.name)
        else:
            present[requirement.name] = found
            if not requirement.specifier.contains(found, prereleases=True):
                other.append(f"{requirement.name} {found} (needs {requirement.specifier})")
    if missing:
        return Finding("packages", "failed", f"missing: {', '.join(missing)}", _INSTALL, USAGE)
    if other:
        return Finding("packages", "warning", f"untested: {', '.join(other)}", _INSTALL)
    named = ", ".join(f"{name} {present[name]}" for name in _NAMED if name in present)
    return Finding("packages", "ok", f"{len(present)} as required: {named}")


def check_checksums(settings: Settings) -> Iterator[Finding]:
    """Kafka's checksum is computed by compiled code: in Python, consuming is 13 to 28 times slower."""
    if importlib.util.find_spec("crc32c") is not None:
        yield Finding("crc32c", "ok", f"compiled, crc32c {_installed('crc32c')}")
    else:
        yield _kafka_lacks(settings, "crc32c", "the compiled crc32c is missing", "pip install crc32c")


def check_codecs(settings: Settings) -> Iterator[Finding]:
    """A topic that is compressed with a missing codec cannot be read at all."""
    if importlib.util.find_spec("kafka") is None:
        yield _kafka_lacks(settings, "codecs", "the Kafka client is missing", _INSTALL)
        return
    missing = [codec for codec, module in _CODECS.items() if importlib.util.find_spec(module) is None]
    there = ", ".join(["gzip", *(codec for codec in _CODECS if codec not in missing)])
    if lacking := [codec for codec in missing if codec != "snappy"]:
        yield _kafka_lacks(settings, "codecs", f"missing: {', '.join(lacking)}", "pip install lz4 zstandard")
    elif missing:
        yield Finding("codecs", "ok", f"{there}; topics compressed with snappy need python-snappy")
    else:
        yield Finding("codecs", "ok", there)


def _kafka_lacks(settings: Settings, check: str, found: str, cure: str) -> Finding:
    """A failure where the source is Kafka, else no more than a warning."""
    if (settings.source.url or "").startswith("kafka:"):
        return Finding(check, "failed", found, cure, USAGE)
    return Finding(check, "warning", f"{found}, which only Kafka needs", cure)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
