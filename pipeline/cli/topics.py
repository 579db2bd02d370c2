"""Commands about Kafka topics."""

import dataclasses
from typing import Annotated

import typer

from pipeline.cli.output import Json, Source, Timeout, note, print_json


def ensure(
    source: Source = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="2 to 4 for each worker ever planned. Default: the brokers'.")
    ] = None,
    replication: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Copies of each partition. Default: the brokers'.")
    ] = None,
    retention_hours: Annotated[
        float | None, typer.Option(min=0.01, metavar="H", help="How long records are kept. Default: the brokers'.")
    ] = None,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Make the topic of a source where there is none; else say in what it differs. Changes nothing that exists.

    Ends with 1 where it differs from what was asked for.

    Example: oodwatch topics ensure --source kafka://kafka:9092/images --partitions 12 --replication 3
    """
    from pipeline.assembly.parts import required_source, settings_from
    from pipeline.assembly.sources import kafka_options
    from pipeline.ingest.kafka_ensure import TopicWish, ensure_topic

    settings = settings_from(source=source)
    options = kafka_options(required_source(settings), settings.source.kafka)
    state = ensure_topic(options, TopicWish(partitions, replication, retention_hours), timeout_s=timeout)
    if as_json:
        print_json(dataclasses.asdict(state))
    else:
        kept = "for ever" if state.retention_hours is None else f"for {state.retention_hours:g} h"
        typer.echo(
            f"{state.topic}: {'made' if state.created else 'exists'}, {state.partitions} partitions,"
            f" {state.replication} copies, records are kept {kept}"
        )
        for difference in state.differences:
            note(f"{state.topic} {difference}")
    if state.differences:
        raise typer.Exit(1)
