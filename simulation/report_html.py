"""The report as one page: no script, nothing from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from simulation.report import Row, rows
from simulation.run import Result
from simulation.stage import Node

WIDTH = 960
LEFT = 64  # for the nodes' names
LANE = 18
LANES = 60  # nodes drawn
PICTURES = 20
COLOURS = 8  # of branches; texts name the epochs, so colour is never alone
_LABEL_PX = 16  # a shorter stretch has no room for its number

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #767676; --bad: #a40000;
  --c0: #9ecae1; --c1: #fdae6b; --c2: #a1d99b; --c3: #dadaeb; --c4: #fdd0e0; --c5: #e6d690;
  --c6: #b5e3da; --c7: #d9c2b0; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #161616; --line: #8c8c8c;
  --bad: #ff8a80; --c0: #1f4e79; --c1: #7a4310; --c2: #24592c; --c3: #463e75; --c4: #702c4d;
  --c5: #5c5212; --c6: #155a52; --c7: #573c28; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .75rem; text-align: right;
  border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } .bad { color: var(--bad); font-weight: bold; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .axis { stroke: var(--line); }
pre { overflow-x: auto; font-size: 12px; }
""" + "".join(f".b{n} {{ fill: var(--c{n}); }}\n" for n in range(COLOURS))


def as_html(results: Sequence[Result]) -> str:
    """The table, the violations, and a timeline of epochs for each of the first of each kind."""
    broken = [result for result in results if result.finding is not None]
    first = {result.plan.scenario: result for result in reversed(results)}
    pictured = [*broken, *(result for result in first.values() if result not in broken)]
    body = [
        "<h1>Simulation report</h1>",
        f"<p>{len(results)} runs, {_count(broken)} with a violation.</p>",
        _table(rows(results)),
        *(_picture(result) for result in pictured[:PICTURES]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Simulation report</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _count(broken: Sequence[Result]) -> str:
    return f'<span class="bad">{len(broken)}</span>' if broken else "none"


def _table(found: Sequence[Row]) -> str:
    heads = ("scenario", "nodes", "seeds", "violations", "engine events", "node hours", "messages",
             "one epoch p50, s", "one epoch max, s", "events per minute and core")  # fmt: skip
    lines = []
    for row in found:
        cells = (
            escape(row.scenario),
            str(row.nodes),
            str(row.seeds),
            f'<span class="bad">{row.violations}</span>' if row.violations else "0",
            f"{row.engine_events:,}",
            f"{row.node_hours:,.1f}",
            f"{row.messages:,}",
            "" if row.converge_p50_s is None else f"{row.converge_p50_s:.2f}",
            "" if row.converge_max_s is None else f"{row.converge_max_s:.2f}",
            f"{row.events_per_minute:,.0f}",
        )
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _picture(result: Result) -> str:
    plan, finding = result.plan, result.finding
    title = f"{plan.scenario}, {plan.nodes} nodes, seed {plan.seed}"
    parts = [f"<h2>{escape(title)}</h2>"]
    if finding is not None:
        parts.append(
            f'<p class="bad">{escape(finding.invariant)} at {finding.at:.3f} s: '
            f"{escape(finding.detail)}</p><details><summary>The last events</summary>"
            f"<pre>{escape(chr(10).join(finding.lines))}</pre></details>"
        )
    parts.append(f'<div class="scroll">{_timeline(result, title)}</div>')
    return "\n".join(parts)


def _timeline(result: Result, title: str) -> str:
    """A lane per node; a stretch per epoch, coloured by branch and labelled with its number."""
    end = max(result.virtual_s, 1.0)
    lanes = sorted(result.timeline)[:LANES]
    shade = _shades(result)
    height = LANE * len(lanes) + 24
    shapes = []
    for number, node in enumerate(lanes):
        y = number * LANE
        shapes.append(f'<text x="0" y="{y + 13}">{escape(node)}</text>')
        for start, stop, epoch, name in _stretches(result.timeline[node], end):
            x, width = _x(start, end), _x(stop, end) - _x(start, end)
            told = f"{node}: epoch {epoch} ({name}) from {start:.1f} s to {stop:.1f} s"
            shapes.append(
                f'<rect class="b{shade[name]}" x="{x:.1f}" y="{y + 1}" width="{width:.1f}" '
                f'height="{LANE - 2}" stroke="var(--line)" stroke-width=".5">'
                f"<title>{escape(told)}</title></rect>"
            )
            if width >= _LABEL_PX:
                shapes.append(f'<text x="{x + 3:.1f}" y="{y + 13}">{epoch}</text>')
    for tick in range(6):
        seconds = end * tick / 5
        x = _x(seconds, end)
        shapes.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{height - 22}" y2="{height - 16}"/>'
            f'<text x="{x:.1f}" y="{height - 4}" text-anchor="{"end" if tick == 5 else "middle"}">'
            f"{seconds:,.0f} s</text>"
        )
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<title>Epochs of each node over time: {escape(title)}</title>{''.join(shapes)}</svg>"
    )


def _x(seconds: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT) * seconds / end


def _stretches(
    entered: Sequence[tuple[float, int, str]], end: float
) -> Iterator[tuple[float, float, int, str]]:
    for (start, epoch, name), after in zip(entered, [*entered[1:], (end, 0, "")], strict=True):
        yield start, after[0], epoch, name


def _shades(result: Result) -> dict[str, int]:
    """Branches of one epoch number never share a colour while there are enough."""
    names: dict[int, list[str]] = {}
    lanes: list[Node] = sorted(result.timeline)
    for node in lanes:
        for _, epoch, name in result.timeline[node]:
            found = names.setdefault(epoch, [])
            if name not in found:
                found.append(name)
    return {
        name: (epoch + 3 * place) % COLOURS
        for epoch, found in names.items()
        for place, name in enumerate(found)
    }
