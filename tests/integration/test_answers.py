"""The commands about what lies behind an incident."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from pipeline.storage.alert_schema import AlertRow, IncidentEventRow, IncidentRow
from pipeline.storage.engine import open_database
from pipeline.storage.schema import DeploymentRow, ScoreRow
from tests.integration.typing_commands import Command
from tests.tiny import Deployment, png

pytestmark = pytest.mark.integration

ONSET = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


@pytest.fixture
def watched(deployment: Deployment, command: Command, tmp_path: Path) -> Deployment:
    """Thirty scored images with ids, judged, and an incident that nobody has yet."""
    folder = tmp_path / "photos" / "east"
    folder.mkdir(parents=True)
    for i in range(30):
        (folder / f"{i:02}.png").write_bytes(png(i))
    source = ("--source", deployment.source)
    assert command("produce", folder.parent, *source, "--segment-from-folder").code == 0
    assert (
        command("worker", *source, "--database", deployment.database, "--model", deployment.model, "--drain").code == 0
    )
    assert command("monitor", "--once", "--database", deployment.database).code == 0
    engine = open_database(deployment.database)
    with engine.begin() as conn:
        which = conn.execute(select(DeploymentRow.id, DeploymentRow.reference_id)).one()
        began = conn.scalar(select(ScoreRow.event_time).order_by(ScoreRow.event_time).limit(1)) or ONSET
        of = {"onset": began.replace(second=0, microsecond=0), "state": "shift", "peak": "shift", "provisional": True}
        conn.execute(
            insert(IncidentRow).values(
                id=7, deployment_id=which.id, kind="shift", handling="open", opened_at=began, **of
            )
        )
        conn.execute(
            insert(AlertRow).values(
                incident_id=7,
                deployment_id=which.id,
                reference_id=which.reference_id,
                signal="fraction",
                segment="",
                detail="odds ×2",
                raised_at=began,
                updated_at=began,
                **of,
            )
        )
        conn.execute(
            insert(IncidentEventRow).values(
                id=41, incident_id=7, at=began, kind="raise", from_state="ok", to_state="shift", who="monitor", why=""
            )
        )
    engine.dispose()
    return deployment


def test_why_packs_its_evidence_whole_or_not_at_all(watched: Deployment, command: Command, tmp_path: Path) -> None:
    where = ("--database", watched.database)
    out = tmp_path / "7.zip"
    answered = command("why", *where, "--bundle", out)
    assert f"bytes to {out}" in answered.err
    with zipfile.ZipFile(out) as packed:
        told = json.loads(packed.read("why.json"))
        pictures = [name for name in packed.namelist() if name.endswith((".webp", ".png"))]
    assert told["incident"] == 7
    assert pictures
    assert command("why", *where, "--bundle", out, "--no-pictures").code == 0
    with zipfile.ZipFile(out) as packed:
        assert [name for name in packed.namelist() if name.startswith("samples/")] == ["samples/manifest.csv"]
    refused = command("why", *where, "--bundle", tmp_path / "gone" / "7.zip")
    assert (refused.code, "choose another place with --bundle" in refused.err) == (4, True)


def test_why_answers_about_the_open_incident_as_a_page_and_as_json(watched: Deployment, command: Command) -> None:
    where = ("--database", watched.database)
    page = command("why", *where)
    assert page.code == 0
    assert page.out.splitlines()[0].startswith("tiny shift (provisional): unusual images since ")
    told = json.loads(command("why", 7, *where, "--json").out)
    assert (told["incident"], told["transition"], told["n"], told["severity"]) == (7, 41, 30, "info")
    assert told["matters"]["because"] == "0 images of reference tiny-r1 have a label and a confidence: too few"
    unknown = command("why", 8, *where)
    assert unknown.code == 2
    assert unknown.err == "oodwatch: no incident has number 8; the newest: 7\n"


def test_marks_are_made_listed_and_held_against_the_onset(watched: Deployment, command: Command) -> None:
    where = ("--database", watched.database)
    made = command("mark", "deploy v12", "--name", "ann", *where, "--json")
    assert made.code == 0
    assert json.loads(made.out)["text"] == "deploy v12"
    older = ("--at", "2026-11-20T00:00Z", "--deployment", "tiny")
    assert command("mark", "\x1b[31mlens cleaned", *older, "--name", "bob", *where).code == 0
    listed = [json.loads(line) for line in command("marks", *where, "--json").out.splitlines()]
    assert [(one["who"], one["deployment"]) for one in listed] == [("bob", "tiny"), ("ann", None)]
    (mark,) = json.loads(command("why", *where, "--json").out)["marks"]
    assert (mark["text"], mark["who"]) == ("deploy v12", "ann")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mark", "  "), "say in 1 to 500 what was done"),
        (("mark", "x", "--at", "yesterday"), "write an ISO time"),
        (("mark", "x", "--deployment", "nobody"), "there is no deployment 'nobody'"),
        (("labels", "nowhere.csv"), "nowhere.csv: No such file or directory; name a CSV or JSON lines file"),
        (("labels", __file__), "the first line names no column id"),
    ],
)
def test_what_cannot_be_taken_is_one_line(
    watched: Deployment, command: Command, arguments: tuple[str, ...], said: str
) -> None:
    answer = command(*arguments, "--database", watched.database)
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_late_labels_say_what_is_true(watched: Deployment, command: Command, tmp_path: Path) -> None:
    where = ("--database", watched.database)
    file = tmp_path / "truth.csv"
    ids = [f"east/{i:02}.png" for i in range(30)]
    file.write_text("id,label\n" + "".join(f"{name},red\n" for name in ids))
    good = command("labels", file, *where, "--json")
    assert good.code == 0
    said = json.loads(good.out)
    assert (said["lines"], said["images"], said["unknown_ids"]) == (30, 30, 0)
    everything, *_ = said["accuracy"]
    assert everything["n"] == 30
    told = json.loads(command("why", *where, "--json").out)["matters"]["labels"]
    assert (told["source"], told["accuracy"]["n"]) == ("labels", 30)
    assert told["accuracy"]["share"] == pytest.approx(everything["right"], abs=1e-4)
    file.write_text('{"id": "east/00.png", "label": "mauve"}\n{"id": "west/00.png", "label": "red"}\n')
    bad = command("labels", file, *where)
    assert bad.code == 1
    assert "1 ids belong to no scored image (of this window and deployment): 'west/00.png'" in bad.err
    assert "class 'mauve' is none of the model's: 1 images left without a label" in bad.err


@pytest.mark.parametrize(("kind", "begin"), [("prometheus", "groups:\n"), ("grafana", "{\n")])
def test_rules_are_written_to_stdout_or_to_a_file(command: Command, tmp_path: Path, kind: str, begin: str) -> None:
    printed = command("rules", "export", kind)
    assert printed.code == 0
    assert printed.out.startswith(begin)
    assert command("rules", "export", kind, "--out", tmp_path / "out").code == 0
    assert (tmp_path / "out").read_text() == printed.out
    assert command("rules", "export", kind, "--out", tmp_path / "no" / "out").code == 2
