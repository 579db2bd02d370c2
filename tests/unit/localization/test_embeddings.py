import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.localization.embeddings import EmbeddingCache

ONE = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4)


def test_an_embedding_comes_back_bit_for_bit_and_belongs_to_its_model(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "e", 10_000)
    assert cache.find("p", "m") is None
    cache.keep("p", "m", ONE)
    found = EmbeddingCache(tmp_path / "e", 10_000).find("p", "m")
    assert found is not None
    assert found.tobytes() == ONE.tobytes()
    assert cache.find("p", "other") is None
    assert cache.find("q", "m") is None


def test_the_folder_stays_within_its_size_and_the_longest_unread_goes(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 1_200)  # three of 384 bytes
    for i in range(3):
        cache.keep(f"p{i}", "m", ONE + i)
        os.utime(tmp_path / f"p{i}.m.npy", ns=(i, i))
    assert cache.find("p0", "m") is not None  # read now: p1 is the longest unread
    cache.keep("p3", "m", ONE)
    assert [cache.find(f"p{i}", "m") is not None for i in range(4)] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1_200
    cache.keep("large", "m", np.zeros(1_000, np.float32))
    assert cache.find("large", "m") is None


def test_a_damaged_file_is_no_embedding_and_is_replaced(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10_000)
    cache.keep("p", "m", ONE)
    for damage in (b"", b"\x93NUMPY", (tmp_path / "p.m.npy").read_bytes()[:-8], b"PK\x03\x04"):
        (tmp_path / "p.m.npy").write_bytes(damage)
        assert cache.find("p", "m") is None
    cache.keep("p", "m", ONE)
    assert cache.find("p", "m") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["p.m.npy"]


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = EmbeddingCache(tmp_path / "file" / "e", 10_000)
    cache.keep("p", "m", ONE)
    assert cache.find("p", "m") is None


def test_what_was_made_of_a_file_is_erased_by_its_hash(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10_000)
    for key in ("ab" * 32, "ab" * 32 + "-thumbnail", "cd" * 32):
        cache.keep(key, "m", ONE)
    assert cache.erase(bytes.fromhex("ab" * 32)) == 2
    assert cache.erase(b"") == 0
    assert [path.name[:2] for path in tmp_path.iterdir()] == ["cd"]


def test_keys_name_no_other_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="letters, digits and dashes"):
        EmbeddingCache(tmp_path, 10_000).keep("../p", "m", ONE)
