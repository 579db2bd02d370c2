"""oodwatch: watches an image classifier in production.

    folder of images ──► produce ──► spool (durable log) or Kafka topic
                                          │
    worker.py       record → decoded image → batch → logits, features → energy → row
                                          │   one transaction:
                                          │   cursor, rows, roll-up parts, samples, dead letters
                                          ▼
                                     SQL database
                                          ▲
    monitor.py      parts → ticks → detector → verdicts → incidents, and what is to be told of them; scheduled,
                    one leader, safe to run again
    calibrate.py    in-distribution images → Reference (threshold, edges, feature statistics, blind-spot card)
    evaluate.py     in-distribution and other images → how well each score separates them (a table or a page)
    training/       a model that failed → a new package: energies bounded, or a new head on balanced groups
    localization/   one image → its regions, and what filling each from its surroundings does to the score

Processes meet only in the database. Imports point down:

    cli → demo | doctor → assembly → reports → worker | monitor | calibrate | evaluate | training | localization
        → telemetry → stages → ingest | models | senders | storage → alerts → scoring | shift → records → errors
"""
