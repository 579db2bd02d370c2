"""Ten faults and what the cause card says of each.

    python -m tests.causes
    python -m tests.causes --cifar
    python -m tests.causes --only fog dark --page

Exit 1 where the right cause is not in the first two places in at least eight of ten.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from pipeline.alerts.page import page
from tests.causes.casts import cifar_resnet, digit_readers
from tests.causes.stage import FAULTS, prepare, second_reference
from tests.shared_data import CIFAR


def main() -> int:
    """Play what was asked for, a few lines each."""
    arguments = _arguments()
    placed = []
    if arguments.cifar and not arguments.pack.is_dir():
        _print("skipped: the evaluation images are not beside the repository")
        return 0
    with tempfile.TemporaryDirectory(prefix="oodwatch-causes-") as folder:
        world = prepare(Path(folder), cifar_resnet(arguments.pack) if arguments.cifar else digit_readers())
        for fault in sorted(FAULTS, key=lambda fault: fault.model):
            if arguments.only and fault.name not in arguments.only:
                continue
            if fault.model == "second":
                second_reference(world)
            played = world.play(fault)
            placed.append(played is not None and played.place in {1, 2})
            if played is None:
                _print(f"NOT  {fault.name}: nothing raised")
                continue
            _print(f"{'ok  ' if placed[-1] else 'NOT '} {fault.name}: {fault.cause} in place {played.place}")
            _print(f"      raised: {', '.join(played.raised)}")
            for cause in played.payload["cause"]:
                _print(f"      {cause['score']:.2f} {cause['kind']}: {'; '.join(cause['evidence'])}")
            if arguments.page:
                _print(page(played.payload))
    _print(f"\n{sum(placed)} of {len(placed)} in the first two places")
    return int(sum(placed) < 0.8 * len(placed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.causes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="FAULT", choices=[fault.name for fault in FAULTS])
    parser.add_argument("--cifar", action="store_true", help="a ResNet on the images beside the repository")
    parser.add_argument("--pack", type=Path, metavar="DIR", default=CIFAR, help="the images (default: beside here)")
    parser.add_argument("--page", action="store_true", help="print the page of `oodwatch why` too")
    return parser.parse_args()


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
