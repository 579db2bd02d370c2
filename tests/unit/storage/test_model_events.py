"""Which model is a deployment's: the newest promotion or roll-back, and what lies below it."""

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, update

from pipeline.errors import UsageError
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import open_database, reading
from pipeline.storage.model_events import (
    BEGAN,
    PROMOTED,
    REFUSED,
    ROLLED_BACK,
    Activation,
    add_event,
    list_events,
    newest_activation,
    refusals,
    stack,
    standing,
)
from pipeline.storage.model_schema import ModelChunkRow
from pipeline.storage.packages import (
    CHUNK_BYTES,
    RegisteredPackage,
    find_package,
    is_intact,
    list_packages,
    mend_archive,
    read_archive,
    save_package,
)
from pipeline.storage.references import save_reference
from tests.faults.scored import NOW, reference

HASH = "0123456789ab" + "c" * 52


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def package(hash_: str = HASH, name: str = "better", at: datetime = NOW) -> RegisteredPackage:
    return RegisteredPackage(hash_, name, "m@1", "2", ("a", "b"), "m@0", {"kind": "finetune"}, 3, at, "ann")


def deployed(engine: Engine) -> tuple[int, int]:
    with engine.begin() as conn:
        key = save_reference(conn, reference())
        return ensure_deployment(conn, "d", model_id="m@0", reference_id=key, now=NOW), key


def acts(text: str) -> list[Activation]:
    """`.`: began; a letter: promoted; `<letter` or `<.`: rolled back to it."""
    found: list[Activation] = []
    kind = PROMOTED
    for letter in text:
        if letter == "<":
            kind = ROLLED_BACK
            continue
        chosen, what = (None, BEGAN) if letter == "." else (letter, PROMOTED)
        found.append(Activation(len(found) + 1, ROLLED_BACK if kind == ROLLED_BACK else what, chosen, 1, NOW, "ann"))
        kind = PROMOTED
    return found


@pytest.mark.parametrize(
    ("history", "lying"),
    [
        ("", ""),
        (".a", "a."),
        (".ab", "ba."),
        (".ab<a", "a."),
        (".ab<a<.", "."),
        (".ab<a<a", "a."),  # two people at once
        (".ab<.", "."),  # what lay between was corrupt
        (".a<.b", "b."),
        (".aba", "aba."),
        (".aba<b", "ba."),
        ("<a", "a"),
    ],
)
def test_roll_backs_take_off_what_lies_on_what_they_lead_to(history: str, lying: str) -> None:
    assert "".join(one.package or "." for one in stack(acts(history))) == lying


def test_the_newest_choice_counts_and_a_refusal_is_none(engine: Engine) -> None:
    deployment, key = deployed(engine)
    with engine.begin() as conn:
        assert newest_activation(conn, deployment) is None
        assert standing(conn, deployment) == []
        save_package(conn, package(), io.BytesIO(b"abc"))
        named = {"deployment_id": deployment, "reference_id": key, "who": "ann", "why": "", "now": NOW}
        add_event(conn, BEGAN, package=None, **named)  # type: ignore[arg-type]
        promoted = add_event(conn, PROMOTED, package=HASH, **named)  # type: ignore[arg-type]
        add_event(conn, REFUSED, package=HASH, of_event=promoted, **named)  # type: ignore[arg-type]
        newest = newest_activation(conn, deployment)
        assert newest is not None
        assert (newest.id, newest.chooses) == (promoted, (HASH, key))
        assert [one.package for one in standing(conn, deployment)] == [HASH, None]
        assert newest_activation(conn, deployment + 1) is None
        lines = list_events(conn, "d")
    assert [(line.event, line.model, line.reference) for line in lines] == [
        ("began", None, "m-r1"),
        ("promoted", "m@1", "m-r1"),
        ("refused", "m@1", "m-r1"),
    ]


def test_an_archive_comes_back_in_pieces_and_is_stored_once(engine: Engine) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 256) + b"the rest"
    with engine.begin() as conn:
        assert save_package(conn, package(), io.BytesIO(content))
        assert not save_package(conn, package(), io.BytesIO(b"something else"))
        assert [len(piece) for piece in read_archive(conn, HASH)] == [CHUNK_BYTES, 8]
        assert b"".join(read_archive(conn, HASH)) == content
        assert list(read_archive(conn, "f" * 64)) == []


def test_damage_is_noticed_and_mended(engine: Engine) -> None:
    content = b"an archive"
    digest = hashlib.sha256(content).hexdigest()
    with engine.begin() as conn:
        save_package(conn, package(digest), io.BytesIO(content))
        assert is_intact(conn, digest)
        conn.execute(update(ModelChunkRow).values(content=b"an Archive"))
        assert not is_intact(conn, digest)
        mend_archive(conn, digest, io.BytesIO(content))
        assert is_intact(conn, digest)


def test_a_package_is_found_by_name_model_or_digits_and_of_several_the_newest(engine: Engine) -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    other = "0123456789ac" + "d" * 52
    with engine.begin() as conn:
        for hash_, at in ((other, later), (HASH, NOW)):
            save_package(conn, package(hash_, at=at), io.BytesIO(b"abc"))
    with reading(engine).connect() as conn:
        assert [found.hash for found in list_packages(conn)] == [HASH, other]
        assert find_package(conn, "better").hash == other
        assert find_package(conn, "m@1").hash == other
        assert find_package(conn, "0123456789AB").hash == HASH
        assert find_package(conn, HASH) == package()
        with pytest.raises(UsageError, match="begins 2 hashes"):
            find_package(conn, "012345")
        for name in ("01234", "f" * 12, "best"):
            with pytest.raises(UsageError, match=r"known: better \(m@1, package 0123456789ab\), better"):
                find_package(conn, name)


def test_a_choice_that_workers_refuse_is_known_with_how_many_and_why_until_another_is_made(engine: Engine) -> None:
    deployment, reference_id = deployed(engine)
    values: dict[str, Any] = {"deployment_id": deployment, "package": HASH, "reference_id": reference_id, "now": NOW}
    with engine.begin() as conn:
        save_package(conn, package(), io.BytesIO(b"archive"))
        chosen = add_event(conn, PROMOTED, who="ann", why="", **values)
        for who in ("w1", "w2", "w1"):
            add_event(conn, REFUSED, of_event=chosen, who=who, why=f"{who}: corrupt", **values)
        first = newest_activation(conn, deployment)
        assert first is not None
        assert refusals(conn, first) == (NOW, 2, "w1: corrupt")
        add_event(conn, ROLLED_BACK, who="ann", why="", **values)
        second = newest_activation(conn, deployment)
        assert second is not None
        assert refusals(conn, second) is None
