# SPDX-License-Identifier: Apache-2.0
"""The results as tables."""


def number(n):
    if n is None:
        return ""
    return f"{n:,.0f}" if abs(n) >= 1000 else f"{n:g}"


def against(row):
    """How the figure stands to its aim."""
    aim = row.get("aim")
    if not aim:
        return ""
    figure = row.get("median", row.get("value"))
    if figure <= aim:
        return f"{number(aim)}: met"
    return f"{number(aim)}: missed by {number(round(figure - aim, 2))} ({figure / aim:.1f} times)"


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def markdown(results):
    rows = results["rows"]
    lines = [f"* {key}: {text}" for key, text in results["where"].items()] + [""]
    spread = [r for r in rows if "median" in r]
    lines += table(
        ["what", "who", "unit", "n", "median", "p90", "p99", "max", "aim"],
        [
            [r["what"], r["who"], r["unit"], number(r["n"]), *(number(r[k]) for k in ("median", "p90", "p99", "max")), against(r)]
            for r in spread
        ],
    )
    lines.append("")
    lines += table(
        ["what", "who", "unit", "value", "aim", ""],
        [[r["what"], r["who"], r["unit"], number(r["value"]), against(r), r["note"]] for r in rows if "value" in r],
    )
    lines += [f"\nNot measured: {r['what']}: {r['failed']}" for r in rows if "failed" in r]
    return "\n".join(lines) + "\n"
