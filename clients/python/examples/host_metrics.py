"""Samples this host's own metrics from /proc (Linux), and sends or records them.

    python host_metrics.py                              send with LogMetric (the server needs its database)
    python host_metrics.py --as-records                 send as records to the endpoints host.cpu, host.memory, ...
    python host_metrics.py --record host.ndjson --no-send   record only

A recording has one JSON object a line: `timestamp_unix_nano`, `endpoint` and the values. The load generator replays it:

    bin/bench load --replay host.ndjson --timestamp-column timestamp_unix_nano --endpoint-column endpoint ...

Where: --target or INGESTOR_TARGET; credential: INGESTOR_API_KEY.
"""

import argparse
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ingestor_client import Client, ErrorCode, Metric, MetricType, Record, RefusedError

PROC = Path("/proc")
SERVICE = "host"
# All others are values of the moment.
COUNTERS = frozenset({"host.cpu", "host.disk", "host.network"})

Sample = dict[str, dict[str, float]]
"""For each group, such as "host.cpu", its values by name. The unit ends the name."""


def cpu() -> dict[str, float]:
    """Seconds that all CPUs together have spent, by what they did."""
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    kinds = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"]
    ticks = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    return {f"{kind}_seconds": int(tick) / ticks_per_second for kind, tick in zip(kinds, ticks, strict=False)}


def memory() -> dict[str, float]:
    """Bytes of memory, by use."""
    wanted = {"MemTotal": "total", "MemFree": "free", "MemAvailable": "available", "Cached": "cached", "Dirty": "dirty"}
    lines = (line.split() for line in (PROC / "meminfo").read_text().splitlines())
    return {f"{wanted[line[0][:-1]]}_bytes": int(line[1]) * 1024 for line in lines if line[0][:-1] in wanted}


def load() -> dict[str, float]:
    """Averages of the length of the run queue."""
    averages = (PROC / "loadavg").read_text().split()
    return {"one_minute": float(averages[0]), "five_minutes": float(averages[1]), "fifteen_minutes": float(averages[2])}


def disk() -> dict[str, float]:
    """Totals over the disks (not their partitions, nor what is made of other disks)."""
    totals = dict.fromkeys(["reads", "read_bytes", "writes", "written_bytes"], 0.0)
    for line in (PROC / "diskstats").read_text().splitlines():
        fields = line.split()
        if not Path("/sys/block", fields[2], "device").exists():
            continue
        numbers = [int(fields[3]), int(fields[5]) * 512, int(fields[7]), int(fields[9]) * 512]
        for name, number in zip(totals, numbers, strict=True):
            totals[name] += number
    return totals


def network() -> dict[str, float]:
    """Totals over the interfaces, apart from the loopback."""
    totals = dict.fromkeys(["received_bytes", "received_packets", "sent_bytes", "sent_packets"], 0.0)
    for line in (PROC / "net/dev").read_text().splitlines()[2:]:
        interface, _, numbers = line.partition(":")
        if interface.strip() == "lo":
            continue
        fields = [int(number) for number in numbers.split()]
        for name, number in zip(totals, [fields[0], fields[1], fields[8], fields[9]], strict=True):
            totals[name] += number
    return totals


GROUPS = {"host.cpu": cpu, "host.memory": memory, "host.load": load, "host.disk": disk, "host.network": network}


def samples(interval_seconds: float, count: int | None) -> Iterator[tuple[int, Sample]]:
    """Takes a sample each interval, count times or for ever, with its time in nanoseconds since the Unix epoch."""
    due = time.monotonic()
    taken = 0
    while count is None or taken < count:
        time.sleep(max(0.0, due - time.monotonic()))
        yield time.time_ns(), {group: read() for group, read in GROUPS.items()}
        taken += 1
        due += interval_seconds


def metrics_of(timestamp: int, sample: Sample) -> list[Metric]:
    """The sample as metrics, for example "host.cpu.user_seconds"."""
    return [
        Metric(
            f"{group}.{name}",
            value,
            timestamp=timestamp,
            unit=name.rpartition("_")[2] if name.endswith(("_seconds", "_bytes")) else "",
            type=MetricType.COUNTER if group in COUNTERS else MetricType.GAUGE,
        )
        for group, values in sample.items()
        for name, value in values.items()
    ]


def record(timestamp: int, sample: Sample, file: TextIO) -> None:
    """Writes the sample to a recording, a line for each group."""
    for group, values in sample.items():
        json.dump({"timestamp_unix_nano": timestamp, "endpoint": group, **values}, file, separators=(",", ":"))
        file.write("\n")
    file.flush()


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=os.environ.get("INGESTOR_TARGET", "localhost:9090"), help="host:port")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between samples (default: 1)")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N samples (default: at Ctrl-C)")
    parser.add_argument("--record", metavar="FILE", type=Path, help="append what is sampled to an NDJSON file")
    parser.add_argument("--no-send", action="store_true", help="record only")
    parser.add_argument("--as-records", action="store_true", help="send as records instead of metrics")
    arguments = parser.parse_args()
    if arguments.no_send and not arguments.record:
        parser.error("--no-send without --record would do nothing")
    return arguments


def main() -> int:
    """Samples until the count is reached or Ctrl-C."""
    arguments = parse_arguments()
    host = socket.gethostname()
    taken = 0
    with contextlib.ExitStack() as stack:
        client = None if arguments.no_send else stack.enter_context(Client(arguments.target))
        file = stack.enter_context(arguments.record.open("a")) if arguments.record else None
        with contextlib.suppress(KeyboardInterrupt):
            for timestamp, sample in samples(arguments.interval, arguments.count):
                taken += 1
                if file is not None:
                    record(timestamp, sample, file)
                if client is None:
                    continue
                if arguments.as_records:
                    for group, values in sample.items():
                        client.send(group, Record(values, timestamp, attributes={"host": host}))
                    continue
                try:
                    client.log_metrics(SERVICE, metrics_of(timestamp, sample), instance=host)
                except RefusedError as error:
                    if error.code is ErrorCode.UNSUPPORTED:
                        sys.exit(f"{error}\nWithout a database, try --as-records.")
                    raise
    print(f"{taken} samples", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
