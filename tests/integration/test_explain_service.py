"""The process that explains images to the dashboard."""

import base64
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from sqlalchemy import create_engine, text

from pipeline.assembly.explain_service import ExplainService
from pipeline.assembly.explaining import Explaining
from pipeline.errors import EnvironmentFault, UsageError
from pipeline.localization.regions import Runs, from_runs
from pipeline.settings import load_settings
from tests.tiny import Deployment, png


@pytest.fixture
def url(deployment: Deployment) -> Iterator[str]:
    """Listening, with three scored images."""
    deployment.produce([png(i) for i in range(3)])
    deployment.drain()
    settings = load_settings(database=deployment.database, model=deployment.model, state_dir=deployment.home / "state")
    with Explaining(settings) as explaining:
        service = ExplainService(explaining, "127.0.0.1", 0)
        thread = threading.Thread(target=service.run)
        thread.start()
        yield service.url
        service.close()
        thread.join()


def samples(deployment: Deployment) -> list[int]:
    engine = create_engine(deployment.database)
    with engine.connect() as conn:
        found = [int(key) for key in conn.scalars(text("SELECT id FROM sample ORDER BY id"))]
    engine.dispose()
    return found


def test_a_sample_is_shown_and_explained_by_points_by_a_box_and_by_itself_once(
    url: str, deployment: Deployment
) -> None:
    about = httpx.get(f"{url}/about").json()
    assert (about["segmenter"], about["is_sam"]) == ("components (not Segment Anything)", False)
    sample = samples(deployment)[0]
    shown = httpx.post(f"{url}/picture", json={"sample": sample}).json()
    assert (shown["picture"], shown["width"], shown["height"]) == ("thumbnail", 8, 8)
    assert base64.b64decode(shown["png"]).startswith(b"\x89PNG")
    for asked in ({"points": [[2, 2]]}, {"points": [[2, 2], [7, 7, 0]]}, {"box": [0, 0, 4, 4]}):
        found = httpx.post(f"{url}/explain", json={"sample": sample, **asked}).json()
        assert len(found["overlays"]) == len(found["masks"]) >= 1
        runs = found["masks"][0]["rle"]
        assert from_runs(Runs(runs["size"][0], runs["size"][1], tuple(runs["counts"]))).shape == (8, 8)
    first, again = (httpx.post(f"{url}/explain", json={"sample": sample}).json() for _ in range(2))
    assert {**first, "overlays": 0} == {**again, "overlays": 0}
    engine = create_engine(deployment.database)
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM explanation")) == 1
    engine.dispose()
    sent = httpx.post(f"{url}/explain", json={"image": base64.b64encode(png(1)).decode(), "points": [[1, 1]]}).json()
    assert np.isfinite(sent["energy"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"sample": 4711}, "sample 4711 is no longer kept"),
        ({"sample": "1"}, "name the key of a kept sample"),
        ({"sample": 1, "points": [[99, 1]]}, "point 99,1 lies outside"),
        ({"sample": 1, "points": ["a"]}, "points are [[x, y]"),
        ({"sample": 1, "box": [4, 4, 1, 1]}, "reversed or empty"),
        ({"sample": 1, "points": [[1, 1, 0]]}, "points say only what the region is not"),
        ({"image": "?"}, "no base64"),
        ({"image": "bm8gaW1hZ2U="}, "no image"),
        ([1], "no JSON object"),
    ],
)
def test_what_cannot_be_asked_is_answered_in_one_line(url: str, body: object, said: str) -> None:
    answer = httpx.post(f"{url}/explain", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_only_programs_of_this_machine_are_answered(url: str, deployment: Deployment) -> None:
    assert httpx.get(f"{url}/about", headers={"Host": "evil.example:80"}).status_code == 403
    assert (
        httpx.post(f"{url}/picture", json={"sample": 1}, headers={"Origin": "http://evil.example"}).status_code == 403
    )
    assert httpx.get(f"{url}/elsewhere").status_code == 404
    settings = load_settings(database=deployment.database, model=deployment.model)
    with Explaining(settings) as explaining:
        with pytest.raises(UsageError, match="shows images to whoever asks"):
            ExplainService(explaining, "0.0.0.0", 0)
        with pytest.raises(EnvironmentFault, match="name another port with --port"):
            ExplainService(explaining, "127.0.0.1", int(url.rsplit(":", 1)[1]))
