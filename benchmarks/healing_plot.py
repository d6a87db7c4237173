"""The plot of `healing`, as SVG that needs no other file: seconds above, KiB a member below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.report import Row

WIDTH, HEIGHT = 960, 410
LEFT, TOP, GAP = 20, 68, 26
PANEL_HEIGHT: Final = 120
SECOND_TOP: Final = 262
BAR_SHARE: Final = 0.62
DARK, LIGHT, OTHER, GREY = "#1f5fae", "#c9dcf3", "#b96a1c", "#667"


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    median_s: float
    slowest_s: float
    kib: float


def healing_plot(rows: Sequence[Row]) -> str:
    """Each series is a panel, in the order of the rows."""
    panels: dict[str, list[_Bar]] = {}
    for row in rows:
        data = row.data
        bar = _Bar(
            str(data["where"]), float(data["median_s"]), float(data["slowest_s"]),
            float(data["kib"]),
        )  # fmt: skip
        panels.setdefault(str(data["series"]), []).append(bar)
    bars = [bar for panel in panels.values() for bar in panel]
    most_s, most_kib = max(bar.slowest_s for bar in bars), max(bar.kib for bar in bars)
    slot = (WIDTH - 2 * LEFT - GAP * (len(panels) - 1)) / len(bars)
    parts = [_head()]
    x = float(LEFT)
    for series, panel in panels.items():
        width = slot * len(panel)
        for line, part in enumerate(series.split(", ")):
            parts.append(_text(x + width / 2, TOP - 26 + 14 * line, part, weight="bold"))
        for index, bar in enumerate(panel):
            middle = x + slot * (index + 0.5)
            parts += _pair(middle, slot, bar, most_s)
            parts += _cost(middle, slot, bar, most_kib)
        for base in (TOP + PANEL_HEIGHT, SECOND_TOP + PANEL_HEIGHT):
            parts.append(
                f'<path d="M{x:.1f} {base}H{x + width:.1f}" stroke="#334" stroke-width="1"/>'
            )
        x += width + GAP
    return "\n".join([*parts, "</svg>", ""])


def _head() -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">\n'
        "<title>Seconds until one epoch, and KiB a member</title>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n'
        + _text(
            LEFT, 20, "seconds of network time until one epoch (dark: median, light: slowest)",
            anchor="start", colour=DARK,
        )
        + "\n"
        + _text(LEFT, SECOND_TOP - 20, "KiB sent per member", anchor="start", colour=OTHER)
    )  # fmt: skip


def _pair(middle: float, slot: float, bar: _Bar, most: float) -> list[str]:
    width, base = slot * BAR_SHARE, TOP + PANEL_HEIGHT
    scale = (PANEL_HEIGHT - 16) / most
    return [
        _rect(middle, width, base, bar.slowest_s * scale, LIGHT),
        _rect(middle, width, base, bar.median_s * scale, DARK),
        _text(middle, base - bar.slowest_s * scale - 4, f"{bar.slowest_s:.2g}"),
        _text(middle, base + 16, bar.label, colour=GREY),
    ]


def _cost(middle: float, slot: float, bar: _Bar, most: float) -> list[str]:
    base = SECOND_TOP + PANEL_HEIGHT
    height = bar.kib * (PANEL_HEIGHT - 16) / most
    return [
        _rect(middle, slot * BAR_SHARE, base, height, OTHER),
        _text(middle, base - height - 4, f"{bar.kib:,.0f}"),
        _text(middle, base + 16, bar.label, colour=GREY),
    ]


def _rect(middle: float, width: float, base: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{middle - width / 2:.1f}" y="{base - height:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" fill="{colour}"/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", colour: str = "#112",
    weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-weight="{weight}">{text}</text>'
    )
