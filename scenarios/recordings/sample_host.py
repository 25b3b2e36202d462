#!/usr/bin/env python3
"""Samples this host's own metrics from /proc and prints them as NDJSON, one object a line.

    sample_host.py [SECONDS] [SAMPLES_PER_SECOND] > host-metrics.ndjson

Each sample gives one line an endpoint: host.cpu, host.memory, host.disk and host.load. Counters are totals since boot, as
the kernel reports them.
"""

import json
import sys
import time


def cpu():
    with open("/proc/stat") as stat:
        fields = stat.readline().split()
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return {f"{name}_ticks": int(value) for name, value in zip(names, fields[1:])}


def memory():
    wanted = {"MemTotal": "total", "MemFree": "free", "MemAvailable": "available", "Dirty": "dirty"}
    found = {}
    with open("/proc/meminfo") as meminfo:
        for line in meminfo:
            name, value = line.split(":")
            if name in wanted:
                found[f"{wanted[name]}_bytes"] = int(value.split()[0]) * 1024
    return found


def disk():
    totals = {"reads": 0, "read_sectors": 0, "writes": 0, "written_sectors": 0}
    with open("/proc/diskstats") as diskstats:
        for line in diskstats:
            fields = line.split()
            for name, column in zip(totals, (3, 5, 7, 9)):
                totals[name] += int(fields[column])
    return totals


def load():
    with open("/proc/loadavg") as loadavg:
        one, five, fifteen, running, _ = loadavg.read().split()
    return {"load1": float(one), "load5": float(five), "load15": float(fifteen), "running": int(running.split("/")[0])}


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    interval = 1.0 / (float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
    samplers = {"host.cpu": cpu, "host.memory": memory, "host.disk": disk, "host.load": load}
    due = time.monotonic()
    end = due + seconds
    while due < end:
        for endpoint, sample in samplers.items():
            row = {"timestamp_unix_nano": time.time_ns(), "endpoint": endpoint, **sample()}
            print(json.dumps(row, separators=(",", ":")), flush=True)
        due += interval
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
