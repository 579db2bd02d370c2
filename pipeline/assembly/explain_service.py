"""Explanations for the dashboard, which loads no model: JSON over HTTP, for this machine alone.

GET  /about    {"segmenter", "is_sam", "model"}
POST /picture  {"sample"}: {"picture": original or thumbnail, "width", "height", "png"}
POST /explain  {"sample" | "image", "points", "box", "refine", "single"}: as `oodwatch explain --json`, and "overlays"

Pictures are base64; points are [x, y] or [x, y, 0 | 1], refine counts from 1. What cannot be asked is answered by 400
and {"error"}. Requests are worked on one after another: each is a forward pass.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

from pipeline.assembly.explaining import Answer, Explaining
from pipeline.errors import EnvironmentFault, OodwatchError, UsageError
from pipeline.localization.components import ComponentSegmenter
from pipeline.localization.explainer import Question, working_copy
from pipeline.localization.overlay import as_png, outlined, panels
from pipeline.localization.regions import Box, Runs, enlarged, from_runs
from pipeline.localization.segmenter import Point, Prompt
from pipeline.records import Pixels
from pipeline.settings import Settings

logger = logging.getLogger(__name__)

_MAX_BODY = 64 * 2**20
_TIMEOUT_S = 30.0  # a client that sends more slowly is dropped
_SHOWN = 3  # regions of a stored answer


class ExplainService:
    """Listens from now on; answers while `run` runs.

    Raises UsageError for an address that other machines reach: nobody is asked who is there, and images are shown.
    EnvironmentFault where the address is taken.
    """

    def __init__(self, explaining: Explaining, address: str, port: int) -> None:
        if not _is_loopback(address):
            raise UsageError(
                f"--address {address}: other machines can reach it, and this service shows images to whoever asks;"
                " use 127.0.0.1, beside the dashboard"
            )
        try:
            self._server = _Server((address, port), _Handler)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {address}:{port}: {error.strerror or error}; name another port with --port"
            ) from error
        self._server.answers = _Answers(explaining)
        self.url = f"http://{address}:{self._server.server_address[1]}"

    def run(self) -> None:
        """Until `close`, or a signal."""
        with self._server:
            self._server.serve_forever()

    def close(self) -> None:
        """From another thread."""
        self._server.shutdown()


def serve_explanations(settings: Settings) -> None:
    """Load the model and serve where the settings say; the body of a process."""
    with Explaining(settings) as explaining:
        ExplainService(explaining, settings.explain.address, settings.explain.port).run()


class _Answers:
    def __init__(self, explaining: Explaining) -> None:
        self._explaining = explaining
        self._turn = threading.Lock()

    def about(self) -> dict[str, Any]:
        name = self._explaining.segmenter
        is_sam = name != ComponentSegmenter().name
        return {"segmenter": name, "is_sam": is_sam, "model": self._explaining.model_id}

    def answer(self, path: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """None: there is no such path. Raises OodwatchError for what cannot be asked."""
        with self._turn:
            if path == "/picture":
                pixels, picture = self._explaining.picture(_sample(asked))
                height, width = pixels.shape[:2]
                return {"picture": picture, "width": width, "height": height, "png": _base64(working_copy(pixels))}
            return self._explain(asked) if path == "/explain" else None

    def _explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        question = _question(asked)
        if "image" in asked:
            try:
                value = base64.b64decode(asked["image"], validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise UsageError("image: no base64; send the file's bytes in it") from error
            answer = self._explaining.value(value, question)
        else:
            answer = self._explaining.sample(_sample(asked), question)
        return {**answer.values, "overlays": [_base64(panel) for panel in self._panels(asked, answer)]}

    def _panels(self, asked: Mapping[str, Any], answer: Answer) -> list[Pixels]:
        if answer.explanation is not None:
            return panels(answer.explanation)
        shown = working_copy(self._explaining.picture(_sample(asked))[0])
        runs = [one["rle"] for one in answer.values["masks"][:_SHOWN]]
        masks = [from_runs(Runs(one["size"][0], one["size"][1], tuple(one["counts"]))) for one in runs]
        return [outlined(shown, enlarged(mask, *shown.shape[:2]), i) for i, mask in enumerate(masks)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answers: _Answers

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request from %s ended early", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    server_version = "oodwatch"
    sys_version = ""

    def do_GET(self) -> None:
        if not self._is_from_here():
            return
        if self.path == "/about":
            self._send(200, self.server.answers.about())
        else:
            self._send(404, {"error": f"no {self.path} here; there are /about, /picture and /explain"})

    def do_POST(self) -> None:
        if not self._is_from_here():
            return
        try:
            found = self.server.answers.answer(self.path, self._body())
        except OodwatchError as error:
            self._send(400, {"error": str(error)})
            return
        except Exception:  # the last frame before a client: the reason belongs into the log alone
            logger.exception("an image could not be explained")
            self._send(500, {"error": "the explaining process has a fault; its log says what it is"})
            return
        self._send(200 if found is not None else 404, found or {"error": f"no {self.path} here"})

    def _is_from_here(self) -> bool:
        """A page of a stranger that a browser of this machine shows must not ask."""
        host = self.headers.get("Host", "").rpartition(":")[0].strip("[]")
        if _is_loopback(host) and "Origin" not in self.headers:
            return True
        self._send(403, {"error": "this service answers programs of its own machine alone"})
        return False

    def _body(self) -> Mapping[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            raise UsageError(f"a body of {length or 'unknown'} bytes; send JSON of at most {_MAX_BODY:,}")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise UsageError(f"the body is no JSON: {error}") from error
        if not isinstance(asked, dict):
            raise UsageError("the body is no JSON object")
        return asked

    def _send(self, status: int, values: Mapping[str, Any]) -> None:
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def _question(asked: Mapping[str, Any]) -> Question:
    try:
        points = tuple(Point(float(x), float(y), not rest or bool(rest[0])) for x, y, *rest in asked.get("points", ()))
        corners = asked.get("box")
        box = None if corners is None else Box(*(float(corner) for corner in corners))
        refine = asked.get("refine")
        choice = None if refine is None else int(refine) - 1
    except (TypeError, ValueError) as error:
        raise UsageError(
            "points are [[x, y], [x, y, 0]], box is [left, top, right, bottom], refine is 1, 2, 3"
        ) from error
    if not points and box is None:
        return Question()
    return Question(Prompt(points, box, wants_one=bool(asked.get("single"))), choice=choice)


def _sample(asked: Mapping[str, Any]) -> int:
    sample = asked.get("sample")
    if isinstance(sample, bool) or not isinstance(sample, int):
        raise UsageError(f"sample {sample!r}: name the key of a kept sample, or send an image")
    return sample


def _base64(pixels: Pixels) -> str:
    return base64.b64encode(as_png(pixels)).decode()


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
