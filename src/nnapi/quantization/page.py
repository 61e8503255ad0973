"""The report as one HTML file: tables and distributions as inline SVG, nothing to install or to fetch."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from nnapi.quantization.report import Report, Row

STYLE = """body{font:14px system-ui,sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}
td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}td.n{text-align:right}svg{vertical-align:middle}"""
WIDTH, HEIGHT = 144, 32


def page(report: Report) -> str:
    """A whole HTML document.

    >>> page(Report("int8", (), (31.4,), 400, 100)).startswith("<!DOCTYPE html>")
    True
    """
    facts = [
        ("Recipe", report.recipe),
        ("Weights", f"{report.bytes_before:,} bytes, now {report.bytes_after:,}"),
        *((f"Output {k}", decibels(v)) for k, v in enumerate(report.outputs)),
        *((f"Part of output {p.output}: {p.operation}", decibels(p.sqnr)) for p in report.parts),
    ]
    if report.accuracy_before is not None and report.accuracy_after is not None:
        facts.append(("Accuracy", f"{report.accuracy_before:.2%} in float, now {report.accuracy_after:.2%}"))
    summary = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts)
    rows = "".join(map(_row, report.rows))
    title = f"Quantization: {html.escape(report.recipe)}"
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1><table>{summary}</table><h2>Operations, worst first</h2><table><tr><th>operation</th>"
        f"<th>computes in</th><th>SQNR</th><th>values in float</th><th>why</th></tr>{rows}</table></html>\n"
    )


def decibels(value: float | None) -> str:
    """SQNR for people.

    >>> decibels(31.44), decibels(None), decibels(float("inf"))
    ('31.4 dB', '-', 'exact')
    """
    if value is None:
        return "-"
    return f"{value:.1f} dB" if math.isfinite(value) else "exact" if value > 0 else "lost"


def _row(row: Row) -> str:
    cells = (
        html.escape(row.operation),
        html.escape(row.precision),
        decibels(row.sqnr),
        _plot(row),
        html.escape(row.reason),
    )
    return "<tr><td>{}</td><td>{}</td><td class=n>{}</td><td>{}</td><td>{}</td></tr>".format(*cells)


def _plot(row: Row) -> str:
    """The distribution on a logarithmic scale, with its ends."""
    if not row.counts:
        return ""
    bars = _bars([math.log1p(c) for c in row.counts])
    return (
        f'{row.low:.3g} <svg width="{WIDTH}" height="{HEIGHT}" role="img"><title>distribution</title>{bars}</svg> '
        f"{row.high:.3g}"
    )


def _bars(heights: Sequence[float]) -> str:
    step, top = WIDTH / len(heights), max(heights) or 1.0
    return "".join(
        f'<rect x="{k * step:.1f}" y="{HEIGHT * (1 - h / top):.1f}" width="{step:.1f}" height="{HEIGHT * h / top:.1f}" '
        f'fill="#4477aa"/>'
        for k, h in enumerate(heights)
    )
