"""Settings → explanations of images: files, stored ones by their id, flagged ones in the background."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sqlalchemy import Engine

from pipeline.assembly.parts import ModelParts, energy_score, open_database_of, open_model, score_of
from pipeline.assembly.sources import open_topic
from pipeline.errors import RejectedRecord, UsageError
from pipeline.ingest.decode import DecodeLimits, decode
from pipeline.localization.answer import Context, as_values
from pipeline.localization.embeddings import EmbeddingCache
from pipeline.localization.explainer import Explainer, Explanation, Question
from pipeline.records import ENERGY, Pixels, Reference
from pipeline.settings import Settings
from pipeline.storage.engine import reading, shown, sqlite_file, translated_errors
from pipeline.storage.explanations import (
    StoredImage,
    find_explanation,
    may_save,
    sampled_image,
    save_explanation,
    stored_image,
    unexplained_images,
)
from pipeline.storage.references import find_reference, has_reference, reference_by_key
from pipeline.storage.roles import WRITER

if TYPE_CHECKING:
    from pipeline.localization.segmenter import Segmenter

MAX_PIXELS = 40_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What is printed; the explanation itself, for a picture, where it was not stored before."""

    values: dict[str, Any]
    explanation: Explanation | None


def embedding_cache(settings: Settings) -> EmbeddingCache:
    """In the state directory."""
    return EmbeddingCache(settings.state_dir / "embeddings", int(settings.explain.cache_megabytes * 2**20))


def read_pixels(path: Path, settings: Settings, *, exif_orientation: bool = False) -> tuple[Pixels, str]:
    """A file's pixels (H, W, 3), and a key for them. Raises UsageError for what is no image."""
    try:
        value = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name an image file") from error
    pixels = _decoded(value, str(path), settings, exif_orientation)
    return pixels, _key(hashlib.sha256(value).digest(), exif_orientation)


class Explaining:
    """A loaded model with a segmenter. Made once, asked many times: of one image, a click costs a decode.

    Raises UsageError and PackageError where one of its parts cannot be loaded.
    """

    def __init__(self, settings: Settings, *, text: bool = False) -> None:
        self._settings = settings
        self._model: ModelParts = open_model(settings)
        self._segmenter = self._open_segmenter()
        self._words = self._open_words() if text else None
        self._explainers: dict[str | None, Explainer] = {}

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the database."""
        if "_engine" in self.__dict__:
            self._engine.dispose()

    def file(self, path: Path, question: Question) -> Answer:
        """Explain an image file, against the model's reference where the database holds one."""
        pixels, key = read_pixels(path, self._settings, exif_orientation=self._upright)
        return self._answer(str(path), "file", pixels, key, question, self._reference_of_files)

    def stored(self, image_id: str, question: Question, *, anew: bool = False) -> Answer:
        """Explain a scored image by its id, against the reference that it was scored with.

        What is known of the whole picture is not computed again unless `anew`.
        """
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            image = stored_image(conn, image_id, self._settings.deployment)
            if image is None:
                raise UsageError(f"no scored image has the id {image_id!r}; `oodwatch export scores` lists them")
            known = find_explanation(conn, image, self._segmenter.name) if question.is_of_everything else None
        if known is not None and not anew:
            return Answer(known, None)
        return self._stored(image, question)

    def sample(self, sample_id: int, question: Question) -> Answer:
        """Explain a kept sample by its key; what is known of the whole picture is not computed again."""
        image = self._sampled(sample_id)
        if question.is_of_everything:
            with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
                known = find_explanation(conn, image, self._segmenter.name)
            if known is not None:
                return Answer(known, None)
        return self._stored(image, question)

    def value(self, value: bytes, question: Question) -> Answer:
        """Explain an image as a record's value has it."""
        pixels = _decoded(value, "the image", self._settings, self._upright)
        key = _key(hashlib.sha256(value).digest(), self._upright)
        return self._answer("the image", "file", pixels, key, question, self._reference_of_files)

    def picture(self, sample_id: int) -> tuple[Pixels, str]:
        """What would be explained of a sample, and whether that is its original or its thumbnail."""
        pixels, _, picture = self._picture(self._sampled(sample_id))
        return pixels, picture

    @property
    def segmenter(self) -> str:
        """Who finds regions."""
        return self._segmenter.name

    @property
    def model_id(self) -> str:
        """Whose energy is explained."""
        return self._model.package.model_id

    def _sampled(self, sample_id: int) -> StoredImage:
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            image = sampled_image(conn, sample_id)
        if image is None:
            raise UsageError(f"sample {sample_id} is no longer kept; choose another one")
        return image

    def flagged(self, limit: int, progress: Callable[[int], None]) -> tuple[int, list[tuple[str, str]]]:
        """Explain the newest flagged samples that are not explained yet; how many, and (id, why) of what failed."""
        model_id = self._model.package.model_id
        if not self._may_save:
            raise UsageError(
                f"--flagged stores what it finds, and this login may only read {shown(self._engine.url)};"
                f" use one of the role {WRITER}"
            )
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            images = unexplained_images(conn, model_id, self._segmenter.name, limit)
        failed: list[tuple[str, str]] = []
        for image in images:
            try:
                self._stored(image, Question())
            except UsageError as error:  # one image is damaged or gone; the others are not
                failed.append((_name(image), str(error)))
            progress(1)
        return len(images) - len(failed), failed

    def _stored(self, image: StoredImage, question: Question) -> Answer:
        if image.model_id != self._model.package.model_id:
            raise UsageError(
                f"image {_name(image)} was scored by {image.model_id}, --model is {self._model.package.model_id}:"
                " energies of two models cannot be compared; name the model that scored it"
            )
        pixels, key, picture = self._picture(image)
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            reference = reference_by_key(conn, image.reference_id)
        answer = self._answer(_name(image), picture, pixels, key, question, reference)
        if question.is_of_everything and self._may_save:
            with translated_errors(self._engine.url), self._engine.begin() as conn:
                save_explanation(
                    conn,
                    image,
                    segmenter=self._segmenter.name,
                    picture=picture,
                    content=answer.values,
                    now=self._settings.clock.now(),
                )
        return answer

    def _answer(
        self, name: str, picture: str, pixels: Pixels, key: str, question: Question, reference: Reference | None
    ) -> Answer:
        normal = None if reference is None else float(np.median(reference.scores))
        explanation = self._explainer(reference, normal).explain(pixels, key, question)
        package = self._model.package
        context = Context(
            image=name,
            picture=picture,
            model_id=package.model_id,
            classes=package.spec.classes,
            reference=None if reference is None else reference.name,
            score_name=ENERGY if reference is None else reference.score_name,
            threshold=None if reference is None else reference.threshold,
            normal_score=normal,
        )
        return Answer(as_values(explanation, context), explanation)

    def _explainer(self, reference: Reference | None, normal_score: float | None) -> Explainer:
        name = None if reference is None else reference.name
        if name not in self._explainers:
            classifier = self._model.classifier
            self._explainers[name] = Explainer(
                self._segmenter,
                self._model.package.spec.preprocessing,
                classifier.predict,
                energy_score(1.0) if reference is None else score_of(reference, classifier),
                normal_score=normal_score,
                words=self._words,
            )
        return self._explainers[name]

    def _picture(self, image: StoredImage) -> tuple[Pixels, str, str]:
        """The original from the log where it can be had, else what is kept of it."""
        name = _name(image)
        if not image.value_sha256:
            raise UsageError(f"image {name} was erased on request: nothing of it is stored")
        original = self._original(image)
        if original is not None:
            pixels = _decoded(original, f"image {name}", self._settings, self._upright)
            return pixels, _key(image.value_sha256, self._upright), "original"
        if image.thumbnail is not None:
            pixels = _decoded(image.thumbnail, f"image {name}", self._settings, False)
            return pixels, f"{image.value_sha256.hex()}-thumbnail", "thumbnail"
        url = self._settings.source.url
        where = "name the log that it came from with --source" if url is None else f"{url} does not hold it any more"
        raise UsageError(f"image {name} is no longer stored: it is not among the samples, and {where}")

    def _original(self, image: StoredImage) -> bytes | None:
        source = self._settings.source
        if source.url is None:
            return None
        log = open_topic(source.url, source.kafka)
        try:
            record = next(log.records_at(image.partition, [image.offset]), None)
        finally:
            log.close()
        value = None if record is None else record.value
        return value if value is not None and hashlib.sha256(value).digest() == image.value_sha256 else None

    @property
    def _upright(self) -> bool:
        return self._model.package.spec.preprocessing.exif_orientation

    @cached_property
    def _engine(self) -> Engine:
        return open_database_of(self._settings, create=False)

    @cached_property
    def _may_save(self) -> bool:
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            return may_save(conn)

    @cached_property
    def _reference_of_files(self) -> Reference | None:
        """The named reference, else the model's newest, else none: a first look needs no database."""
        file = sqlite_file(self._settings.database_url)
        named = self._settings.reference
        if named is None and file is not None and not file.exists():
            return None
        model_id = self._model.package.model_id
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            if named is None and not has_reference(conn, model_id):
                return None
            return find_reference(conn, name=named, model_id=model_id)

    def _open_segmenter(self) -> Segmenter:
        explain = self._settings.explain
        if explain.sam is None:
            from pipeline.localization.components import ComponentSegmenter

            return ComponentSegmenter()
        from pipeline.localization.sam import AutomaticLimits, SamSegmenter

        return SamSegmenter(
            explain.sam,
            embedding_cache(self._settings),
            device=self._model.classifier.device,
            automatic=AutomaticLimits(points_per_side=explain.points_per_side),
        )

    def _open_words(self) -> Any:
        if self._settings.explain.grounder is None:
            return None
        from pipeline.localization.grounding import TextGrounder

        return TextGrounder(self._settings.explain.grounder, device=self._model.classifier.device)


def _decoded(value: bytes, where: str, settings: Settings, exif_orientation: bool) -> Pixels:
    limits = DecodeLimits(max_pixels=max(MAX_PIXELS, settings.limits.max_pixels))
    try:
        return decode(value, None, limits=limits, exif_orientation=exif_orientation)
    except RejectedRecord as error:
        raise UsageError(f"{where}: {error}") from error


def _key(value_sha256: bytes, upright: bool) -> str:
    return value_sha256.hex() + ("-upright" if upright else "")


def _name(image: StoredImage) -> str:
    return image.id or f"{image.topic}/{image.partition}/{image.offset}"
