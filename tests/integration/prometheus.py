"""A Prometheus scrapes httplines under traffic: what it stores is what httplines counted. promtool
checks the text of a scrape, and docs/alerts.yml with the cases of alerts.yml."""

import json
import re
import subprocess
import urllib.parse

import lab

SCRAPES = 5
PORT = 9090
METRICS = "127.0.0.1:9919"
LOAD = """
local count = 0
function request()
    count = count + 1
    return wrk.format(count % 4 == 0 and "POST" or "GET", "/m/" .. count)
end
function delay() return 5 end
"""


def run(command, text=None):
    """Runs a command; fails with its output if it does, and returns it otherwise."""
    done = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        lab.fail(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    lab.say(run(["promtool", "check", "rules", lab.ROOT / "docs/alerts.yml"]).strip())
    tests = run(["promtool", "test", "rules", lab.ROOT / "tests/integration/alerts.yml"])
    if "SUCCESS" not in tests:
        lab.fail(tests)
    wire = lab.Lab()
    wire.ip(f"-n {wire.server} link set lo up")
    wire.start_nginx()
    arguments = ["-o", wire.folder / "http.jsonl", "--shards", "2", "--metrics", "127.0.0.1"]
    httplines = wire.start_httplines(arguments)
    inside = ["ip", "netns", "exec", wire.server]

    def fetch(url):
        return run([*inside, "curl", "-sS", "--fail", "--max-time", "20", url])

    (wire.folder / "prometheus.yml").write_text(
        f"""global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{lab.ROOT}/docs/alerts.yml]
scrape_configs:
  - job_name: httplines
    static_configs: [{{targets: ["{METRICS}"]}}]
"""
    )
    prometheus = wire.start(
        wire.server,
        [
            "prometheus",
            f"--config.file={wire.folder}/prometheus.yml",
            f"--storage.tsdb.path={wire.folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{PORT}",
        ],
        "prometheus.err",
    )

    def ask(path, **parameters):
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        answer = json.loads(fetch(f"http://127.0.0.1:{PORT}/api/v1/{path}{query}"))
        if answer["status"] != "success":
            lab.fail(f"{path} {parameters}: {answer}")
        return answer["data"]

    def value(query):
        """The only value of a query; None if there is none yet."""
        result = ask("query", query=query)["result"]
        return float(result[0]["value"][1]) if len(result) == 1 else None

    ready = ["curl", "-sS", "--fail", f"http://127.0.0.1:{PORT}/-/ready"]
    lab.await_that(
        "Prometheus is ready",
        lambda: subprocess.run([*inside, *ready], capture_output=True).returncode == 0,
        ended=[prometheus, httplines],
    )
    load = wire.start_wrk(8, 600, LOAD)
    running = [prometheus, httplines, load]
    lab.await_that(
        f"it has scraped {SCRAPES} times",
        lambda: (value("count_over_time(httplines_build_info[10m])") or 0) >= SCRAPES,
        ended=running,
    )
    lab.await_that(
        "it sees the traffic",
        lambda: (value("rate(httplines_lines_written_total[5m])") or 0) > 0,
        ended=running,
    )
    # The text as it is under traffic. promtool says nothing about a text without faults.
    text = fetch(f"http://{METRICS}/metrics")
    faults = run(["promtool", "check", "metrics"], text)
    if faults:
        lab.fail(f"promtool check metrics: {faults}")
    lab.stop(load, 2)
    health = fetch(f"http://{METRICS}/healthz")
    if health != "ok\n":
        lab.fail(f"/healthz: {health}")
    lines = wire.folder / "http.jsonl"

    def line_count():
        return lines.read_bytes().count(b"\n")

    lab.await_that(
        "Prometheus has the last figures",
        lambda: value("httplines_lines_written_total") == line_count()
        and value("sum(httplines_exchanges_total)") == line_count(),
        ended=[prometheus, httplines],
    )
    figures = {
        name: value(f"sum({name})")
        for name in (
            'httplines_requests_total{method="GET"}',
            'httplines_requests_total{method="POST"}',
            'httplines_responses_total{code="2xx"}',
            "httplines_ttfb_seconds_count",
            "httplines_frames_captured_total",
            "httplines_frames_dropped_total",
            "httplines_lines_lost_total",
        )
    }
    records = [json.loads(line) for line in lines.read_bytes().splitlines()]
    wanted = {
        'httplines_requests_total{method="GET"}': sum(it["method"] == "GET" for it in records),
        'httplines_requests_total{method="POST"}': sum(it["method"] == "POST" for it in records),
        'httplines_responses_total{code="2xx"}': sum(it.get("status") == 200 for it in records),
        "httplines_ttfb_seconds_count": sum("ttfb_ns" in it for it in records),
        "httplines_frames_dropped_total": 0,
        "httplines_lines_lost_total": 0,
    }
    rules = ask("rules")["groups"]
    broken = [rule["name"] for group in rules for rule in group["rules"] if rule["health"] == "err"]
    firing = [alert["labels"]["alertname"] for alert in ask("alerts")["alerts"]]
    target = ask("targets")["activeTargets"][0]
    totals = wire.stop_httplines(httplines)
    wrong = [
        f"{name} is {figures[name]}, and the lines say {count}"
        for name, count in wanted.items()
        if figures[name] != count
    ]
    captured = int(re.search(r" (\d+) captured \+", totals)[1])
    # After the last scrape only acknowledgements and ends of connections come.
    if not 0 < figures["httplines_frames_captured_total"] <= captured:
        wrong.append(f"{figures['httplines_frames_captured_total']} of {captured} frames")
    if target["health"] != "up" or target["lastError"]:
        wrong.append(f"the target: {target}")
    if broken or firing:
        wrong.append(f"broken rules: {broken}; firing alerts: {firing}")
    lab.say(
        f"  {len(records)} lines; a scrape has {len(text.splitlines())} lines, {len(text)} bytes"
        f" and took {target['lastScrapeDuration'] * 1000:.0f} ms"
    )
    if wrong:
        lab.fail("; ".join(wrong))


main()
