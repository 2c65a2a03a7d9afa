#!/usr/bin/env python3
"""Whether memory stays flat over many requests of mixed length: starts a server, sends them, watches its resident size.

  soak.py [--hearken PROGRAM] [--requests 100000] [--rate 200] [-- further flags of `hearken load`]

Prints the resident size of the server at twenty points, and how much the second half of the requests added. Exits with 1
where that is more than 5 % (the first half warms buffers, which are kept). Linux only: it reads /proc."""
import argparse, json, signal, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

POINTS = 20
GROWTH_MAX = 0.05


def resident_mib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def answered(url):
    """Answers of POST /v1/score so far."""
    text = urllib.request.urlopen(url + "/metrics").read().decode()
    lines = [l for l in text.splitlines() if l.startswith("hearken_http_requests_total") and "/v1/score" in l]
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines)


def serve(program, folder):
    server = subprocess.Popen([program, "serve", "--listen", "127.0.0.1:0", "--data-dir", folder],
                              stdout=subprocess.PIPE, stderr=open(Path(folder) / "log", "w"), text=True)
    url = server.stdout.readline().split()[-1]
    for _ in range(600):
        try:
            urllib.request.urlopen(url + "/health/ready")
            return server, url
        except OSError:
            time.sleep(0.1)
    sys.exit("the server is not ready after a minute")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hearken", default=str(Path(__file__).parent.parent / "target/release/hearken"))
    p.add_argument("--requests", type=int, default=100_000)
    p.add_argument("--rate", type=float, default=200)
    p.add_argument("more", nargs="*", help="further flags of `hearken load`, after --")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server, url = serve(a.hearken, folder)
        try:
            report = Path(folder) / "report.json"
            load = subprocess.Popen([a.hearken, "load", url, "--requests", str(a.requests), "--rate", str(a.rate),
                                     "--json", str(report), *a.more], stdout=subprocess.DEVNULL)
            points, next_at = [(0, resident_mib(server.pid))], 0
            print(f"{'answers':>10}{'resident MiB':>14}\n{0:>10}{points[0][1]:>14.1f}", flush=True)
            while load.poll() is None:
                time.sleep(0.2)
                count = answered(url)
                if count >= next_at + a.requests / POINTS:
                    next_at += a.requests / POINTS
                    points.append((count, resident_mib(server.pid)))
                    print(f"{count:>10}{points[-1][1]:>14.1f}", flush=True)
            if load.returncode:
                sys.exit(f"hearken load failed with {load.returncode}")
            r = json.loads(report.read_text())
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    half = [size for count, size in points if count >= a.requests / 2]
    growth = half[-1] / half[0] - 1
    print(f"\n{r['requests']['scored']} of {r['requests']['due']} scored, p99 {r['latency_ms']['p99']:.1f} ms, "
          f"{r['throughput']['tokens_per_s']:.0f} tokens/s; the second half changed the resident size by {100 * growth:+.1f} %")
    sys.exit(growth > GROWTH_MAX)


if __name__ == "__main__":
    main()
