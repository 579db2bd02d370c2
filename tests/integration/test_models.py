"""oodwatch models, as a person types it: register, list, compare, promote, roll back; and a worker that starts anew."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from pipeline.models.classifier import Classifier
from pipeline.models.package import load_package
from tests.integration.typing_commands import Answer, Command
from tests.repaired import repaired
from tests.tiny import Deployment, energies, make_deployment, pixels, png


@pytest.fixture(params=["sqlite", "postgresql"])
def watched(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Calibrated on either engine; workers unpack beside it."""
    monkeypatch.setenv("OODWATCH_STATE_DIR", str(tmp_path / "state"))
    url = None if request.param == "sqlite" else str(request.getfixturevalue("migrated_postgres_url"))
    return make_deployment(tmp_path / "home", database_url=url)


@pytest.fixture
def deployment(deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setenv("OODWATCH_STATE_DIR", str(tmp_path / "state"))
    return deployment


def line(answer: Answer) -> dict[str, Any]:
    assert answer.code == 0, answer.err
    values: dict[str, Any] = json.loads(answer.out)
    return values


def typed(deployment: Deployment, command: Command, *words: object) -> Answer:
    return command("models", *words, "--database", deployment.database)


def registered(deployment: Deployment, command: Command, name: str, **made: Any) -> dict[str, Any]:
    folder = repaired(deployment, name, **made)
    return line(typed(deployment, command, "register", folder, "--name", "ann", "--json"))


def promote(deployment: Deployment, command: Command, name: str, *more: object) -> Answer:
    return typed(deployment, command, "promote", name, "--reason", "better", "--name", "ann", *more)


def drain(deployment: Deployment, command: Command, *more: object) -> Answer:
    worker = ("worker", "--source", deployment.source, "--model", deployment.model, "--drain", "--log-format", "text")
    answer = command(*worker, "--database", deployment.database, "--max-batch", 16, "--http", "off", *more)
    assert answer.code == 0, answer.err
    return answer


def query(deployment: Deployment, statement: str) -> list[tuple[Any, ...]]:
    engine = create_engine(deployment.database)
    with engine.begin() as conn:
        answer = conn.execute(text(statement))
        rows = [tuple(row) for row in answer] if answer.returns_rows else []
    engine.dispose()
    return rows


def scored(deployment: Deployment, first: int, end: int) -> list[tuple[float, float, int, str]]:
    """Energy, score, flag and model of the rows of these offsets."""
    return [
        (row[0], row[1], int(row[2]), row[3])
        for row in query(
            deployment,
            "SELECT score.energy, score.score, score.is_ood, reference.model_id FROM score"
            f' JOIN reference ON reference.id = score.reference_id WHERE score."offset" >= {first}'
            f' AND score."offset" < {end} ORDER BY score."offset"',
        )
    ]


def events(deployment: Deployment) -> list[tuple[Any, ...]]:
    return query(deployment, "SELECT kind, who, why FROM model_event ORDER BY id")


def damage(deployment: Deployment, package: str) -> None:
    query(deployment, f"UPDATE model_package_chunk SET content = substr(content, 2) WHERE hash = '{package}'")


def test_a_promoted_model_scores_instead_of_the_named_one_and_a_rollback_gives_the_same_bytes(
    watched: Deployment, command: Command
) -> None:
    values: list[bytes | None] = [png(number) for number in range(64)]
    pictures = np.stack([pixels(number) for number in range(64)])
    watched.produce(values)
    drain(watched, command)
    made = registered(watched, command, "better", seed=1)
    assert (made["name"], made["reference"], made["parent"]) == (
        "better",
        "tiny-r2",
        load_package(watched.model).model_id,
    )
    told = line(promote(watched, command, "better", "--json"))
    assert (told["model"], told["reference"], told["before"]) == (made["model_id"], "tiny-r2", made["parent"])
    watched.produce(values)
    said = drain(watched, command).err
    assert f"the registry's model is taken instead of --model {watched.model}: promoted by ann" in said
    line(typed(watched, command, "rollback", "--reason", "worse", "--name", "bob", "--json"))
    watched.produce(values)
    drain(watched, command)
    before, after, again = (scored(watched, first, first + 64) for first in (0, 64, 128))
    assert again == before
    assert {row[3] for row in before} == {made["parent"]}
    assert {row[3] for row in after} == {made["model_id"]}
    np.testing.assert_allclose([row[0] for row in after], energies(pictures, watched.home / "better.pt"), atol=1e-5)
    assert min(abs(a[0] - b[0]) for a, b in zip(before, after, strict=True)) > 1e-4
    assert [event[:2] for event in events(watched)] == [
        ("registered", "ann"),
        ("began", "ann"),
        ("promoted", "ann"),
        ("rolled back", "bob"),
    ]


def test_two_promotions_lie_on_each_other_and_are_taken_off_one_by_one(watched: Deployment, command: Command) -> None:
    watched.produce([png(1)])
    drain(watched, command)
    ids = {name: registered(watched, command, name, seed=seed)["model_id"] for seed, name in enumerate("ab", 1)}
    for name in "ab":
        assert promote(watched, command, name).code == 0
    listed = [json.loads(text) for text in typed(watched, command, "list", "--json").out.splitlines()]
    assert [(one["name"], one["model"], one["serves"], one["made_by"]) for one in listed] == [
        ("a", ids["a"], "", "retrain-head"),
        ("b", ids["b"], "tiny", "retrain-head"),
    ]
    promote(watched, command, "b").refuses(3, "is the model of tiny already")
    roll = ("rollback", "--reason", "no", "--name", "ann", "--json")
    models = [line(typed(watched, command, *roll))["model"] for _ in range(2)]
    assert models == [ids["a"], load_package(watched.model).model_id]
    typed(watched, command, *roll).refuses(3, "tiny has nothing to go back to")


def test_the_same_folder_is_stored_once_and_a_damaged_archive_is_mended_by_it(
    watched: Deployment, command: Command
) -> None:
    watched.produce([png(1)])
    drain(watched, command)
    made = registered(watched, command, "a", seed=1)
    folder = watched.home / "a"
    again = line(typed(watched, command, "register", folder, "--name", "ann", "--json"))
    assert (again["hash"], again["new"]) == (made["hash"], False)
    damage(watched, made["hash"])
    promote(watched, command, "a", "--force").refuses(3, "is corrupt in the database")
    typed(watched, command, "compare", "a", "--model", watched.model).refuses(3, "is corrupt")
    assert typed(watched, command, "register", folder, "--name", "ann").code == 0
    assert promote(watched, command, made["hash"][:8]).code == 0
    assert query(watched, "SELECT count(*) FROM model_package") == [(1,)]


def test_a_worker_that_starts_on_a_corrupt_promotion_takes_what_scored_before_and_says_so(
    watched: Deployment, command: Command
) -> None:
    watched.produce([png(number) for number in range(16)])
    drain(watched, command)
    good = registered(watched, command, "good", seed=1)
    bad = registered(watched, command, "bad", seed=2)
    assert promote(watched, command, "good").code == 0
    assert promote(watched, command, "bad").code == 0
    damage(watched, bad["hash"])
    watched.produce([png(number) for number in range(16)])
    said = drain(watched, command).err
    assert f"refused: {bad['hash']}, promoted by ann: package {bad['hash'][:12]} is corrupt" in said
    assert {row[3] for row in scored(watched, 16, 32)} == {good["model_id"]}
    kind, who, why = events(watched)[-1]
    assert (kind, why.split(":")[0]) == ("refused", f"package {bad['hash'][:12]} is corrupt")
    assert ":" in who
    assert query(watched, "SELECT model_id FROM deployment") == [(good["model_id"],)]
    back = line(typed(watched, command, "rollback", "--reason", "damaged", "--name", "ann", "--json"))
    assert back["model"] == good["model_id"]


WORSE_GROUP = {"before": {"worst": 0.8, "mean": 0.9}, "after": {"worst": 0.7, "mean": 0.95}}
WORSE_MEAN = {"before": {"worst": 0.8, "mean": 0.9}, "after": {"worst": 0.8, "mean": 0.889}}
WORSE_TUNED = {"before": {"accuracy": 0.9}, "after": {"accuracy": 0.88}}


@pytest.mark.parametrize(
    ("repair", "said"),
    [
        (WORSE_GROUP, "its repair made it worse: the worst group falls from 80.0% to 70.0%"),
        (WORSE_MEAN, "its repair made it worse: mean accuracy falls from 90.0% to 88.9%"),
        (WORSE_TUNED, "its repair made it worse: accuracy falls from 90.0% to 88.0%"),
    ],
)
def test_a_repair_that_is_worse_by_its_own_report_is_promoted_only_by_force(
    deployment: Deployment, command: Command, repair: dict[str, Any], said: str
) -> None:
    deployment.produce([png(1)])
    drain(deployment, command)
    registered(deployment, command, "worse", seed=1, repair=repair)
    promote(deployment, command, "worse").refuses(3, said, "--force insists")
    assert [event[0] for event in events(deployment)] == ["registered"]
    forced = promote(deployment, command, "worse", "--force")
    assert forced.code == 0
    assert f"forced, although {said}" in forced.err


def test_a_package_without_a_reference_of_its_own_is_never_promoted(deployment: Deployment, command: Command) -> None:
    deployment.produce([png(1)])
    drain(deployment, command)
    registered(deployment, command, "bare", seed=1, calibrated=False)
    promote(deployment, command, "bare", "--force").refuses(
        3, "bare", "has no reference of its own", "oodwatch calibrate"
    )
    other = promote(deployment, command, "bare", "--reference", "tiny-r1")
    other.refuses(2, "reference tiny-r1 belongs to model")
    typed(deployment, command, "compare", "bare").refuses(3, "has no reference")


def test_other_classes_are_promoted_only_by_force(deployment: Deployment, command: Command) -> None:
    deployment.produce([png(1)])
    drain(deployment, command)
    folder = repaired(deployment, "renamed", seed=1, calibrated=False)
    spec = folder / "model.toml"
    spec.write_text(spec.read_text().replace('"blue"', '"violet"'))
    images = deployment.home / "calibration"
    made = command("calibrate", images, "--model", folder, "--database", deployment.database)
    assert made.code == 0, made.err
    assert typed(deployment, command, "register", folder, "--name", "ann").code == 0
    promote(deployment, command, "renamed").refuses(3, "its classes are others: it has blue, violet that only one")
    assert promote(deployment, command, "renamed", "--force").code == 0
    deployment.produce([png(2)])
    drain(deployment, command)
    assert scored(deployment, 1, 2)[0][3] == load_package(folder).model_id


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("promote", "nobody", "--reason", "x", "--name", "a"), 2, "no package is called 'nobody'; known: none"),
        (("promote", "a", "--reason", " ", "--name", "a"), 2, "--name and --reason: say who"),
        (("rollback", "--reason", "x", "--name", "a"), 3, "tiny has nothing to go back to"),
        (("register", "missing", "--name", "a"), 2, "is no model package"),
        (("compare", "a", "--images", "x", "--from", "2026-01-01T00:00:00Z"), 2, "leave them out with --images"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(
    deployment: Deployment, command: Command, words: tuple[object, ...], code: int, said: str
) -> None:
    deployment.produce([png(1)])
    drain(deployment, command)
    typed(deployment, command, *words).refuses(code, said)
    assert events(deployment) == []


def test_weights_that_are_no_numbers_do_not_get_in(deployment: Deployment, command: Command) -> None:
    folder = repaired(deployment, "torn", seed=1)
    (folder / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:-7])
    typed(deployment, command, "register", folder, "--name", "ann").refuses(2, "weights.safetensors")


def test_heads_are_compared_on_stored_features_others_on_originals_and_any_on_a_folder(
    deployment: Deployment, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODWATCH_SAMPLES__PER_SEGMENT_AND_MINUTE", "1000")
    deployment.produce([png(number) for number in range(240)])
    drain(deployment, command)
    registered(deployment, command, "head", seed=1)
    base = ("compare", "head", "--model", deployment.model, "--json")
    on_features = line(typed(deployment, command, *base))
    assert on_features["data"] == "240 stored features of tiny"
    assert (on_features["go"], on_features["n"], on_features["against"]) == (True, 240, [])
    calibration = deployment.home / "calibration"
    on_files = line(typed(deployment, command, *base, "--images", calibration))
    assert on_files["data"] == f"220 images of {calibration}"
    assert on_files["old"]["flagged"] == on_files["new"]["flagged"] == 10 / 220
    assert on_files["suggested_threshold"] == pytest.approx(on_files["new"]["threshold"], abs=1e-5)
    pictures = np.stack([pixels(number) for number in range(240)])
    new = energies(pictures, deployment.home / "head.pt")
    threshold = on_features["new"]["threshold"]
    assert on_features["new"]["flagged"] == pytest.approx(float((new > threshold).mean()), abs=0.005)
    # The same with a backbone that is called differently: features no longer tell what it would say.
    spec = deployment.home / "head" / "model.toml"
    code = deployment.home / "head" / "model.py"
    code.write_text(code.read_text() + "\n# another backbone\n")
    for words in (("calibrate", calibration, "--model", spec.parent), ("models", "register", spec.parent)):
        assert command(*words, "--database", deployment.database).code == 0
    on_originals = line(typed(deployment, command, *base, "--source", deployment.source))
    assert on_originals["data"] == "240 of 240 sampled images, read again from the log"
    for side in ("old", "new"):
        assert on_originals[side]["energy"] == pytest.approx(on_features[side]["energy"], abs=2e-3)
    assert on_originals["old"]["energy"] == pytest.approx(np.mean([row[0] for row in scored(deployment, 0, 240)]))


def test_no_go_names_its_reasons_and_ends_with_code_3(deployment: Deployment, command: Command) -> None:
    deployment.produce([png(number) for number in range(20)])
    drain(deployment, command)
    registered(deployment, command, "worse", seed=1, repair=WORSE_GROUP)
    base = ("compare", "worse", "--model", deployment.model)
    few = typed(deployment, command, *base)
    assert few.code == 3
    assert re.search(r"no-go: \d images are too few to compare by, 200 are needed", few.out)
    assert "no-go: its repair made it worse: the worst group falls from 80.0% to 70.0%" in few.out
    # Labels that the old model gives: it is always right, and the other head is not.
    answers = Classifier(load_package(deployment.model)).predict(np.stack([pixels(number) for number in range(240)]))
    names = load_package(deployment.model).spec.classes
    for number, answer in enumerate(answers.logits.argmax(axis=1).tolist()):
        folder = deployment.home / "labelled" / names[answer]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(number))
    judged = typed(deployment, command, *base, "--images", deployment.home / "labelled", "--json")
    assert judged.code == 3
    made = json.loads(judged.out)
    assert (made["go"], made["labelled"], made["old"]["accuracy"]) == (False, 240, 1.0)
    assert made["new"]["accuracy"] == pytest.approx(1 - made["disagreement"])
    assert made["against"][1] == f"its accuracy is {made['new']['accuracy']:.1%}, the old one's 100.0%"
