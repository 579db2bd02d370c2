"""The answer as a page for a terminal: one sentence first, then what speaks for it. Made of the payload alone."""

from collections.abc import Iterator, Mapping
from typing import Any

SIGNALS = {
    "fraction": "unusual images",
    "histogram": "scores",
    "low": "too few unusual images",
    "classes": "class mix",
    "coverage": "features",
    "rate": "traffic rate",
    "silence": "silence",
}
_STEPS = {
    "lens": "look at the camera: lens, light, focus; mark what you do with `oodwatch mark`",
    "frozen": "restart the source that repeats itself",
    "new_class": "look at the unusual images; label some (`oodwatch labels`), and retrain if they are here to stay",
    "class_mix": "if this is normal from now on: `oodwatch baseline accept`, or calibrate on such images",
    "pipeline": "ask who changed what sends the images: encoder, size, colour order, decoder",
    "model": "hold the new model against the old one, or go back; calibrate on images of today's traffic",
    "traffic": "ask who sends: `oodwatch ledger` and `oodwatch health` tell whether it is the producer or the worker",
    "unknown": "look at the images of the window",
}
_SHOWN_CAUSES = 3


def headline(payload: Mapping[str, Any]) -> str:
    """One sentence: what, where, since when, how much against normal, likely why."""
    lead = payload["alert"] or {}
    what = SIGNALS.get(lead.get("signal", ""), lead.get("signal") or "incident")
    where = f" on {lead['segment']}" if lead.get("segment") else ""
    said = [f"{_state(payload)}: {what}{where} since {_clock(payload['onset'])}"]
    if payload["value"] is not None:
        said.append(_value(payload))
    if payload["cause"] and payload["cause"][0]["kind"] != "unknown":
        said.append(f"looks like {payload['cause'][0]['title']}")
    handled = payload["handled_by"] or "nobody"
    said.append(f"{handled} has it" if payload["handling"] != "resolved" else "resolved")
    return printable(", ".join(said)) + "."


def page(payload: Mapping[str, Any]) -> str:
    """All of it, as lines of text."""
    return "\n".join(printable(line) for line in _lines(payload))


def printable(text: str) -> str:
    """Names and notes come from anywhere: what would move a terminal's cursor is replaced."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _lines(payload: Mapping[str, Any]) -> Iterator[str]:
    yield headline(payload)
    yield ""
    yield f"incident {payload['incident']} of {payload['deployment']}, {payload['kind']} at {payload['at']}"
    yield f"  model {payload['model']}, reference {payload['reference']}{_baseline(payload)}"
    for alert in payload["alerts"]:
        where = alert["segment"] or "all traffic"
        yield f"  {alert['state']}: {SIGNALS.get(alert['signal'], alert['signal'])} of {where}, since {alert['onset']}"
    yield from _where(payload)
    yield from _why(payload)
    yield from _matters(payload["matters"])
    yield from _trust(payload)
    if payload["marks"]:
        yield "marks"
        yield from (f"  {mark['at']} {mark['text']} ({mark['who']}), {mark['when']}" for mark in payload["marks"])
    yield "next"
    yield from (f"  {step}" for step in _next(payload))


def _state(payload: Mapping[str, Any]) -> str:
    lead = payload["alert"]
    state = "resolved" if payload["handling"] == "resolved" else lead["state"] if lead else payload["state"]
    provisional = " (provisional)" if payload["provisional"] else ""
    return f"{payload['deployment']} {state}{provisional}"


def _value(payload: Mapping[str, Any]) -> str:
    if payload["unit"] == "images a minute":
        return f"{payload['value']:,.3g} images a minute, before {payload['normal']:,.3g}"
    between = payload["interval"]
    interval = f", 95 %: {between['low']:.1%} to {between['high']:.1%}" if between else ""
    return f"{payload['value']:.1%} flagged, normally {payload['normal']:.1%} (n {payload['n']:,.0f}{interval})"


def _baseline(payload: Mapping[str, Any]) -> str:
    version = payload["baseline"]
    return ", no accepted traffic" if version is None else f", baseline {version}"


def _where(payload: Mapping[str, Any]) -> Iterator[str]:
    if payload["attribution"]:
        yield f"where: {payload['attribution_of']}"
    for one in payload["attribution"]:
        what = "segment" if "segment" in one else "class"
        now = "" if one["value"] is None else f", now {one['value']:.1%}, normally {one['normal']:.1%}"
        yield f"  {one['share']:4.0%} {what} {one[what]}: {one['excess']:,.0f} images{now}"


def _why(payload: Mapping[str, Any]) -> Iterator[str]:
    if payload["cause"]:
        yield "why, the likeliest first"
    for cause in payload["cause"][:_SHOWN_CAUSES]:
        yield f"  {cause['title']} ({cause['score']:.2f} of 1)"
        yield from (f"    {said}" for said in cause["evidence"])


def _matters(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        return
    yield "does it matter"
    most = found["accuracy_at_most"]
    if most is not None:
        yield (
            f"  accuracy now at most {most['share']:.0%} (95 %: {most['low']:.0%} to {most['high']:.0%}, from the"
            f" confidence of {most['n']:,.0f} images); on the reference {found['reference_accuracy']:.0%}"
        )
    else:
        yield f"  no estimate of the accuracy: {found['because']}"
    if (labels := found["labels"]) is not None:
        parts = [("labels", "accuracy"), ("among flagged images", "among_flagged"), ("among others", "among_others")]
        yield from (f"  {name}: {_counted(labels[key])}" for name, key in parts if labels[key] is not None)
    else:
        yield "  no image since the onset has a label: `oodwatch labels FILE` tells what is true"


def _counted(one: Mapping[str, float]) -> str:
    return f"{one['share']:.0%} right of {one['n']:,.0f} (95 %: {one['low']:.0%} to {one['high']:.0%})"


def _trust(payload: Mapping[str, Any]) -> Iterator[str]:
    trust = payload["trust"]
    yield "can this be trusted"
    for said in trust["reservations"]:
        yield f"  {said}"
    age = trust["newest_result_age_seconds"]
    newest = "no image yet" if age is None else f"newest image {age:,.0f} s old"
    ratio = "" if trust["scored_ratio"] is None else f", {trust['scored_ratio']:.2%} of the records scored"
    yield f"  {newest}, {trust['lag_records']:,} records waiting{ratio}; {trust['n_effective']:,.0f} effective images"


def _next(payload: Mapping[str, Any]) -> Iterator[str]:
    kinds = [cause["kind"] for cause in payload["cause"]]
    if kinds:
        yield _STEPS[kinds[0]]
    if payload["handling"] == "open":
        yield f"say that you have it: oodwatch ack {payload['incident']}"
    yield from (f"{name}: {link}" for name, link in payload["links"].items())


def _clock(at: str) -> str:
    return f"{at[:10]} {at[11:16]}Z"
