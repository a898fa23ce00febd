# SPDX-License-Identifier: Apache-2.0
"""The results as pictures: an SVG for each chart that a row names (report.py says what a row holds)."""

import io
import os
import re

COLOURS = {"coracle": "#1b6ca8", "QEMU": "#c8763a", "QEMU microvm": "#c8763a"}
OTHERS = ("#6a9a5b", "#8d6aa8", "#8a8a8a", "#b0a030")
PARTS = ("#1b6ca8", "#c8763a", "#6a9a5b", "#8d6aa8", "#b0a030", "#8a8a8a", "#5bb0b0", "#b05b7a")


def charts_of(rows):
    """title -> rows, in the order in which they come."""
    charts = {}
    for row in rows:
        if row.get("chart") and "failed" not in row:
            charts.setdefault(row["chart"], []).append(row)
    return charts


def file_name(title):
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".svg"


def draw(results, directory):
    """Writes the SVGs into `directory`. Returns [(title, file name)]. ImportError where matplotlib is missing."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures make the same file, but for the date that is left out below.
    matplotlib.rcParams.update({
        "svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False,
    })  # fmt: skip
    import matplotlib.pyplot as pyplot

    drawn = []
    for title, rows in charts_of(results["rows"]).items():
        figure = pyplot.figure(figsize=(7.5, 1.1 + 0.34 * len(rows)))
        axes = figure.add_subplot()
        in_parts = any("parts" in row for row in rows)
        (draw_parts if in_parts else draw_bars)(axes, rows)
        # The names of the parts go between.
        axes.set_title(title, loc="left", fontsize=10, pad=20 if in_parts else 6)
        axes.set_xlabel(rows[0]["unit"])
        axes.margins(x=0.12)
        figure.tight_layout()
        name = file_name(title)
        save(figure, os.path.join(directory, name))
        pyplot.close(figure)
        drawn.append((title, name))
    return drawn


def save(figure, path):
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    head, rest = text.getvalue().split("\n", 1)
    lines = [head, "<!-- SPDX-License-Identifier: Apache-2.0 -->", *(line.rstrip() for line in rest.splitlines())]
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")


def order(rows):
    """Rows from top to bottom, those of a case together, and where each goes."""
    cases = list(dict.fromkeys(row.get("case", row["what"]) for row in rows))
    y, placed, ticks = 0.0, [], []
    for case in cases:
        mine = [row for row in rows if row.get("case", row["what"]) == case]
        ticks.append((y + (len(mine) - 1) / 2, case))
        for row in mine:
            placed.append((y, row))
            y += 1
        y += 0.6
    return placed, ticks


def set_up(axes, ticks):
    axes.set_yticks([at for at, _ in ticks], [case for _, case in ticks])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def draw_bars(axes, rows):
    """A bar for the value or the median; with percentiles, a line from the median to the 90th and a tick at the 99th."""
    placed, ticks = order(rows)
    whos = list(dict.fromkeys(row["who"] for row in rows))
    extra = iter(OTHERS * 4)
    colours = {who: COLOURS.get(who) or next(extra) for who in whos}
    spread = [row for row in rows if "median" in row]
    figures = [row["median"] if "median" in row else row["value"] for row in rows]
    positive = [f for f in figures if f and f > 0]
    if positive and max([row["p99"] for row in spread] + positive) > 100 * min(positive):
        axes.set_xscale("log")
    seen = set()
    for y, row in placed:
        figure = row["median"] if "median" in row else row["value"]
        label = row["who"] if row["who"] not in seen else None
        seen.add(row["who"])
        axes.barh(y, figure, height=0.82, color=colours[row["who"]], label=label)
        end = figure
        if "median" in row:
            axes.plot([row["median"], row["p90"]], [y, y], color="#333333", linewidth=1)
            axes.plot([row["p99"]], [y], marker="|", color="#333333")
            end = max(row["p90"], row["p99"])
        axes.annotate(f"{figure:,g}", (end, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
    aims = {row["aim"] for row in rows if row.get("aim")}
    for aim in aims:
        axes.axvline(aim, color="#b02020", linewidth=0.9, linestyle="--")
    set_up(axes, ticks)
    if len(whos) > 1:
        axes.legend(fontsize=7, frameon=False, loc="best")


def draw_parts(axes, rows):
    """A bar a row, in pieces."""
    placed = [(y, row) for y, row in enumerate(rows)]
    names = list(dict.fromkeys(name for row in rows for name in row["parts"]))
    for i, name in enumerate(names):
        left = [sum(list(row["parts"].get(n, 0) for n in names[:i])) for _, row in placed]
        axes.barh([y for y, _ in placed], [row["parts"].get(name, 0) for _, row in placed], left=left, height=0.7,
                  color=PARTS[i % len(PARTS)], label=name)  # fmt: skip
    for y, row in placed:
        axes.annotate(f"{sum(row['parts'].values()):,}", (sum(row["parts"].values()), y), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=7)  # fmt: skip
    for aim in {row["aim"] for row in rows if row.get("aim")}:
        axes.axvline(aim, color="#b02020", linewidth=0.9, linestyle="--")
    set_up(axes, [(y, row["who"]) for y, row in placed])
    axes.legend(fontsize=7, frameon=False, ncols=6, loc="lower right", bbox_to_anchor=(1, 0.98))
