#!/usr/bin/env python3
"""Sends real texts through POST /v1/events to a running server and says how long they took to be in their documents.

  ingest_texts.py URL FILE... [--texts 20000] [--records 500] [--batch 500]

Files are JSON lines (also gzipped) with `text`. Texts are spread over records, channels and the last 80 days. Afterwards
every record's document is read once on one connection and the time of each read is reported. Stop the server and run
`hearken verify` to have all of them recomputed."""
import argparse, datetime, gzip, http.client, itertools, json, random, time, urllib.parse

CHANNELS = ["email", "call", "ticket", "survey", "chat", "social", "review", "note"]


def texts(paths):
    def lines(path):
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                text = json.loads(line)["text"]
                if text.strip():
                    yield text
    # One text from each file in turn, so that languages are mixed.
    for group in itertools.zip_longest(*map(lines, paths)):
        yield from (text for text in group if text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("url"); p.add_argument("files", nargs="+")
    p.add_argument("--texts", type=int, default=20_000); p.add_argument("--records", type=int, default=500)
    p.add_argument("--batch", type=int, default=500)
    a = p.parse_args()
    address = urllib.parse.urlparse(a.url)
    dice, now = random.Random(7), datetime.datetime.now(datetime.timezone.utc)
    server = http.client.HTTPConnection(address.hostname, address.port, timeout=900)

    def call(method, path, body=None, kind=None):
        server.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = server.getresponse()
        return answer.status, answer.read()

    events = []
    for i, text in enumerate(itertools.islice(texts(a.files), a.texts)):
        when = now - datetime.timedelta(seconds=dice.randrange(80 * 86_400))
        events.append(json.dumps({
            "specversion": "1.0", "source": "ingest_texts", "id": str(i), "type": "voc.interaction.received.v1",
            "time": when.isoformat(), "data": {"record": {"module": "contact", "id": f"load-{dice.randrange(a.records)}"},
                                               "channel": dice.choice(CHANNELS), "text": text}}, ensure_ascii=False))
    begin = time.perf_counter()
    for at in range(0, len(events), a.batch):
        last = at + a.batch >= len(events)
        body = "\n".join(events[at:at + a.batch]).encode()
        status, answer = call("POST", "/v1/events" + ("?wait=applied" if last else ""), body, "application/x-ndjson")
        if status != 202:
            raise SystemExit(f"{status}: {answer[:500]}")
        print(f"\r{min(at + a.batch, len(events))} of {len(events)}  {time.perf_counter() - begin:.1f} s", end="", flush=True)
    took = time.perf_counter() - begin
    print(f"\n{len(events)} texts on disk, scored and in their documents after {took:.1f} s: {len(events) / took:.0f} a second")

    reads, sizes = [], []
    for r in range(a.records):
        start = time.perf_counter()
        status, body = call("GET", f"/v1/records/contact/load-{r}/insights")
        reads.append((time.perf_counter() - start) * 1e3)
        sizes.append(len(body))
        if status != 200:
            raise SystemExit(f"load-{r}: {status}")
    reads.sort()
    print(f"{a.records} documents read, {sum(sizes) / len(sizes) / 1024:.1f} KiB each: median {reads[len(reads) // 2]:.2f} ms, "
          f"p99 {reads[int(len(reads) * 0.99)]:.2f} ms, one after the other")


if __name__ == "__main__":
    main()
