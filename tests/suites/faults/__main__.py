"""All faults, then random pairs of them: prints a table, and ends with status 1 on a loss."""

import argparse
import random
import signal
import sys
import time
from collections.abc import Sequence

from tests.suites.faults.drill import (
    APART,
    CATCHING_UP,
    CHOSEN_PAIRS,
    EVERY_FAULT,
    Drill,
    Fault,
    Kind,
    Outcome,
    random_pairs,
)
from tests.suites.faults.stage import PARTS, RESPONSE_SECONDS, Stage

LEAST_RATE = 500.0
COLUMNS = (
    ("fault", 46),
    ("lasted", 7),
    ("offered/s", 9),
    ("acked/s", 8),
    ("meanwhile", 9),
    ("behind", 7),
    ("heartbeat", 9),
    ("of all", 7),
    ("command", 8),
    ("of agents", 9),
    ("all stored", 10),
    ("lost", 5),
)


def main() -> None:
    options = parse()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    plan = [[fault] for fault in EVERY_FAULT if chosen(fault, options)]
    if options.pairs:
        plan += [list(pair) for pair in (*CHOSEN_PAIRS, *random_pairs(options.pairs, options.seed))]
    print(f"seed {options.seed}; {len(plan)} faults and pairs of faults", flush=True)
    stage = Stage(devices=options.devices, agents=options.agents)
    try:
        stage.start()
        problems = drill(stage, plan, options)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        if options.keep:
            print(f"logs and ledger: {stage.home}")
        stage.close(keep=options.keep)
    if problems:
        print(f"\n{len(problems)} problems:", *problems[:50], sep="\n  ")
        sys.exit(1)
    print("\nNothing acknowledged was lost; every command ended, and ran at most once.")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--pairs",
        type=int,
        default=6,
        help="random pairs after two chosen ones; 0: none",
    )
    parser.add_argument("--hold", type=float, default=10.0, help="seconds of SIGSTOP and of a cut")
    parser.add_argument("--devices", type=int, default=100, help="simulated ones")
    parser.add_argument("--agents", type=int, default=3, help="real ones")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one")
    parser.add_argument("--kind", action="append", choices=[kind.value for kind in Kind])
    parser.add_argument("--keep", action="store_true", help="keep logs, data and ledger")
    return parser.parse_args()


def chosen(fault: Fault, options: argparse.Namespace) -> bool:
    return (not options.part or fault.part in options.part) and (
        not options.kind or fault.kind.value in options.kind
    )


def drill(stage: Stage, plan: Sequence[Sequence[Fault]], options: argparse.Namespace) -> list[str]:
    """Prints the table as it grows, and the counts at its end; returns what went wrong."""
    run = Drill(stage)
    problems = []
    print(row([name for name, _ in COLUMNS]), flush=True)
    apart = random.Random(options.seed)  # noqa: S311
    began = time.monotonic()
    for faults in plan:
        moment = apart.uniform(0, APART)
        if tuple(faults) in CHOSEN_PAIRS:
            moment = options.hold + CATCHING_UP
        outcome = run.run(*faults, hold=options.hold, apart=moment)
        print(row(cells(outcome)), flush=True)
        problems += problems_of(outcome)
    problems += run.close_the_books(within=RESPONSE_SECONDS + 60.0)
    print(f"\n{time.monotonic() - began:.0f} s", run.summary(), sep="\n")
    return problems


def problems_of(outcome: Outcome) -> list[str]:
    problems = [f"{outcome.name}: {lost}" for lost in outcome.lost]
    if not outcome.recovered:
        problems.append(f"{outcome.name}: not recovered in time")
    if outcome.offered < LEAST_RATE:
        problems.append(f"{outcome.name}: only {outcome.offered:.0f} messages/s were offered")
    return problems


def cells(outcome: Outcome) -> list[str]:
    seconds = (
        outcome.first_heartbeat,
        outcome.every_heartbeat,
        outcome.command,
        outcome.real_command,
        outcome.stored,
    )
    return [
        outcome.name,
        f"{outcome.fault_seconds:.1f} s",
        f"{outcome.offered:.0f}",
        f"{outcome.before:.0f}",
        f"{outcome.meanwhile:.0f}",
        f"{outcome.behind:.1f} s",
        *("never" if value is None else f"{value:.1f} s" for value in seconds),
        str(len(outcome.lost)),
    ]


def row(texts: Sequence[str]) -> str:
    padded = [
        text.ljust(width) if number == 0 else text.rjust(width)
        for number, (text, (_, width)) in enumerate(zip(texts, COLUMNS, strict=True))
    ]
    return " | ".join(padded)


if __name__ == "__main__":
    main()
