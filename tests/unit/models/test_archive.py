"""A package as one archive: the same bytes each time, and nothing but a package comes out."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import EnvironmentFault, PackageError, RefusedError
from pipeline.models import archive
from pipeline.models.archive import packed, unpack
from pipeline.models.package import ModelPackage, load_package
from tests.tiny import make_package_of


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return make_package_of(tmp_path_factory.mktemp("package"))


def bytes_of(package: ModelPackage) -> tuple[str, bytes]:
    with packed(package) as made:
        content = made.content.read()
    assert made.size == len(content)
    return made.hash, content


def pieces(content: bytes, size: int = 1000) -> Iterator[bytes]:
    return (content[first : first + size] for first in range(0, len(content), size))


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> tuple[str, bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.sha256(out.getvalue()).hexdigest(), out.getvalue()


def test_the_same_package_gives_the_same_bytes_wherever_and_whenever_it_lies(
    package: ModelPackage, tmp_path: Path
) -> None:
    digest, content = bytes_of(package)
    copy = unpack(pieces(content), digest, tmp_path / "elsewhere" / "copy")
    assert copy.digest == package.digest
    assert sorted(file.name for file in copy.path.iterdir()) == sorted(file.name for file in package.path.iterdir())
    for file in copy.path.iterdir():
        assert file.read_bytes() == (package.path / file.name).read_bytes()
    assert bytes_of(load_package(copy.path)) == (digest, content)
    assert [entry.name for entry in (tmp_path / "elsewhere").iterdir()] == ["copy"]


def test_repair_json_belongs_to_the_archive_and_other_files_do_not(package: ModelPackage, tmp_path: Path) -> None:
    digest, content = bytes_of(package)
    copy = unpack(pieces(content), digest, tmp_path / "copy")
    (copy.path / "notes.txt").write_text("mine")
    assert bytes_of(copy)[0] == digest
    (copy.path / "repair.json").write_text('{"kind": "finetune"}')
    assert bytes_of(copy)[0] != digest


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[:-1], lambda content: content[:700] + b"?" + content[701:], lambda content: b""],
    ids=["cut", "changed", "empty"],
)
def test_bytes_that_are_not_those_of_the_hash_are_refused_and_leave_nothing(
    package: ModelPackage, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    digest, content = bytes_of(package)
    with pytest.raises(RefusedError, match=f"package {digest[:12]} is corrupt"):
        unpack(pieces(spoil(content)), digest, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        _member("../model.toml"),
        _member("/etc/passwd"),
        _member("sub/model.toml"),
        _member("model.toml", tarfile.SYMTYPE, "/etc/passwd"),
        _member("weights.safetensors", tarfile.LNKTYPE, "../../secret"),
        _member("model.toml", tarfile.FIFOTYPE),
        _member("evil.pkl"),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_what_is_no_part_of_a_package_is_refused_whatever_its_hash(tmp_path: Path, member: tarfile.TarInfo) -> None:
    content = b"" if member.type != tarfile.REGTYPE else b"x"
    digest, made = tar_of((member, content))
    with pytest.raises(RefusedError, match="which is no part of a model package"):
        unpack([made], digest, tmp_path / "in" / "copy")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_half_a_package_and_no_archive_at_all_are_refused(package: ModelPackage, tmp_path: Path) -> None:
    spec = (package.path / "model.toml").read_bytes()
    digest, made = tar_of((_member("model.toml"), spec))
    with pytest.raises(PackageError, match=r"weights\.safetensors"):
        unpack([made], digest, tmp_path / "copy")
    text = b"no archive" * 100
    with pytest.raises(RefusedError, match="is no archive"):
        unpack([text], hashlib.sha256(text).hexdigest(), tmp_path / "copy")


def test_a_package_beyond_the_limit_is_refused_with_its_size_and_the_remedy(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    with (
        pytest.raises(RefusedError, match=r"0 MiB; the registry takes packages of up to 0 MiB.*half precision"),
        packed(package),
    ):
        pass


def test_where_nothing_can_be_written_the_place_is_named(package: ModelPackage, tmp_path: Path) -> None:
    digest, content = bytes_of(package)
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="OODWATCH_STATE_DIR"):
        unpack([content], digest, tmp_path / "file" / "copy")
