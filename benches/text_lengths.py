#!/usr/bin/env python3
"""What a text costs by its length, through HTTP, one at a time: the time should grow with the tokens, without a step where
a text no longer fits one window of the model.

  text_lengths.py URL [--repeat 20]"""
import argparse, json, statistics, time, urllib.request

SENTENCE = "The connection has been dropping every evening since the technician was here. "


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("url"); p.add_argument("--repeat", type=int, default=20)
    a = p.parse_args()
    print("| tokens | median ms | of it forward | microseconds a token |\n|---|---|---|---|")
    for sentences in (1, 2, 4, 8, 16, 24, 32, 40, 48, 64, 128, 256, 512, 1024):
        body = json.dumps({"inputs": [SENTENCE * sentences]}).encode()
        request = urllib.request.Request(a.url + "/v1/score", body, {"Content-Type": "application/json"})
        spent, forward = [], []
        for _ in range(a.repeat):
            begun = time.perf_counter()
            answer = json.loads(urllib.request.urlopen(request).read())
            spent.append((time.perf_counter() - begun) * 1e3)
            forward.append(answer["timing_ms"]["forward"])
        tokens, ms = answer["usage"]["tokens"], statistics.median(spent)
        print(f"| {tokens} | {ms:.2f} | {statistics.median(forward):.2f} | {1e3 * ms / tokens:.1f} |", flush=True)


if __name__ == "__main__":
    main()
