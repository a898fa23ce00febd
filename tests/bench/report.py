# SPDX-License-Identifier: Apache-2.0
"""The results as tables.

A measure is a function of `quick` with a title as its doc string, in the list ALL of a module that tests/bench/run
knows. It returns rows, dictionaries of

  what, who, unit   what it is a figure of, which program's, in what
  value             the figure; or
  n, median, p90, p99, max    how the figures of n samples are spread
  aim               what it ought to be at most (with at_least: at least), or None
  note              anything else, for the reader of the table
  failed            instead of a figure: why there is none

  table, case, column   it goes into the table of that title, in the line of `case` and `who`, under `column`. Without
                    them it goes into one of the two lists at the head
  chart, case       plot.py draws it in the chart of that title: a bar for `who` beside those of the same case
  parts             name -> size: the bar is drawn in these pieces
"""


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
    if (figure >= aim) if row.get("at_least") else (figure <= aim):
        return f"{number(aim)}: met"
    return f"{number(aim)}: missed by {number(round(abs(figure - aim), 2))} ({figure / aim:.1f} times)"


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def cell(row):
    if "median" in row:
        return " / ".join(number(row[k]) for k in ("median", "p90", "p99"))
    text = number(row["value"])
    return f"{text} ({against(row)})" if row.get("aim") else text


def head_of(column, rows):
    row = next(r for r in rows if r["column"] == column)
    spread = "p50 / p90 / p99, " if "median" in row else ""
    return f"{column}, {spread}{row['unit']}" if row["unit"] not in column else column


def wide_table(rows):
    """A line for each case and program, a column for each kind of figure."""
    columns = list(dict.fromkeys(r["column"] for r in rows))
    lines = {}
    for r in rows:
        lines.setdefault((r["case"], r["who"]), {})[r["column"]] = cell(r)
    # A case's programs together, in the order in which the cases come.
    cases = list(dict.fromkeys(r["case"] for r in rows))
    keys = sorted(lines, key=lambda k: cases.index(k[0]))
    yield from table(
        ["case", "who", *(head_of(c, rows) for c in columns)],
        [[*key, *(lines[key].get(c, "") for c in columns)] for key in keys],
    )


def markdown(results, charts=()):
    """charts: (title, file name) of pictures beside the text."""
    rows = results["rows"]
    lines = ["# One run of the benchmarks", "", "[README.md](README.md) says how, and what it means.", ""]
    lines += [f"* {key}: {text}" for key, text in results["where"].items()] + [""]
    listed = [r for r in rows if "table" not in r]
    lines += table(
        ["what", "who", "unit", "n", "median", "p90", "p99", "max", "aim"],
        [
            [r["what"], r["who"], r["unit"], number(r["n"]), *(number(r[k]) for k in ("median", "p90", "p99", "max")), against(r)]
            for r in listed
            if "median" in r
        ],
    )
    lines.append("")
    lines += table(
        ["what", "who", "unit", "value", "aim", ""],
        [[r["what"], r["who"], r["unit"], number(r["value"]), against(r), r["note"]] for r in listed if "value" in r],
    )
    for title in dict.fromkeys(r["table"] for r in rows if "table" in r):
        lines += ["", f"## {title}", "", *wide_table([r for r in rows if r.get("table") == title])]
    lines += [f"\nNot measured: {r['what']}: {r['failed']}" for r in rows if "failed" in r]
    lines += [f"\n![{title}]({name})" for title, name in charts]
    return "\n".join(lines) + "\n"
